//! Listening: accepts connections within bounds, serves HTTP/1.1 and HTTP/2 on each, and stops without
//! dropping what is in hand. Deliberately absent: TLS; a proxy or ingress in front ends it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use mainstay_rpc::ServiceRuntime;
use mainstay_runtime::{Shutdown, health::Status};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{
    Settings,
    app::{self, Gateway},
    unread::{Lingering, Unread},
};

/// How long a client may take to send its headers: what ends connections that only dribble.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 128;

/// Why the gateway ended other than by the stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener is gone.
    #[error("the gateway's listener failed: {0}")]
    Listener(#[from] io::Error),
}

/// Serves until the stop is triggered and what was in hand has been answered, or its time is up.
///
/// # Errors
/// When the listener cannot be used at all.
pub async fn serve(settings: Settings, runtime: ServiceRuntime) -> Result<(), ServeError> {
    let address = runtime.listener.local_addr()?;
    let gateway = Gateway::new(
        settings,
        runtime.channels,
        runtime.clock,
        runtime.health.clone(),
    );
    let router = app::router(&gateway);
    runtime
        .shutdown
        .spawn(forget_quiet(Arc::clone(&gateway), runtime.shutdown.clone()));
    runtime.health.set("gateway", Status::Healthy, "");
    tracing::info!(%address, base_url = gateway.settings.base_url, "the gateway listens");

    let places = Arc::new(Semaphore::new(gateway.settings.connections));
    let graceful = GracefulShutdown::new();
    let stopping = async {
        runtime.shutdown.triggered().await;
        // First say so, then go on accepting while balancers notice, then finish what is in hand.
        runtime.health.drain();
        tokio::time::sleep(runtime.limits.drain).await;
    };
    tokio::pin!(stopping);
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            accepted = accept(&runtime.listener, &places) => accepted,
        };
        let (stream, peer, place) = accepted;
        let connection = connection(stream, peer, router.clone());
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // A connection that breaks is its client's affair; nothing of ours failed.
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(runtime.listener);
    if tokio::time::timeout(runtime.limits.grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still in hand when the time to stop was up");
    }
    Ok(())
}

async fn forget_quiet(gateway: Arc<Gateway>, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = shutdown.triggered() => return,
            _ = tick.tick() => gateway.rates.forget_quiet(),
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (
    TcpStream,
    SocketAddr,
    Option<tokio::sync::OwnedSemaphorePermit>,
) {
    // Never closed, so there is always a permit to come.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                // Out of descriptors, most likely: waiting lets connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<
    Error = Box<dyn std::error::Error + Send + Sync>,
> + Send {
    // Answers are written whole; waiting to fill a packet only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let unread = Unread::default();
    let stream = Lingering::new(stream, unread.clone());
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        unread.clone().answer(router.clone(), request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(100);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(Some(32))
        .max_header_list_size(32 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned()
}
