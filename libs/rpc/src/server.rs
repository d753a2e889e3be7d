//! Serving one role: the stack around its handlers, health and reflection beside it, and a stop that drops nothing.
//!
//! Deliberately absent: TLS. Between roles it is the mesh's or the network policy's; callers prove themselves by token.

mod report;
mod stack;

use std::sync::Arc;
use std::time::Duration;

use mainstay_runtime::{Clock, Health, Shutdown};
use mainstay_types::ServiceName;
use thiserror::Error;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;
use tonic_health::server::HealthService;

use crate::client::Channels;
use crate::directory::ClientDirectory;
use crate::token::TrustedKeys;
use crate::wire;

pub use report::health_report;

/// The largest HTTP/2 frame taken.
const FRAME_MOST: u32 = 128 * 1024;

/// What bounds a role.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests handled at once; more are refused with 503.
    pub concurrent_requests: usize,
    /// The longest a request may take, whatever its caller says.
    pub request: Duration,
    /// The largest message taken.
    pub message_bytes: usize,
    /// Streams at once on one connection.
    pub streams_per_connection: u32,
    /// How long the role goes on taking requests after it said it is not ready, so that balancers can notice.
    pub drain: Duration,
    /// How long requests in hand may take to finish when it stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            concurrent_requests: 512,
            request: Duration::from_secs(30),
            message_bytes: 4 * 1024 * 1024,
            streams_per_connection: 256,
            drain: Duration::ZERO,
            grace: Duration::from_secs(25),
        }
    }
}

/// What a role is given to serve with.
#[derive(Debug)]
pub struct ServiceRuntime {
    /// Which service it is.
    pub me: ServiceName,
    /// Whose signatures it believes.
    pub trusted: TrustedKeys,
    /// The ways to the other services.
    pub channels: Channels,
    /// The platform's time.
    pub clock: Clock,
    /// When to stop.
    pub shutdown: Shutdown,
    /// What works.
    pub health: Health,
    /// Where it listens.
    pub listener: TcpListener,
    /// What bounds it.
    pub limits: Limits,
}

/// Why serving ended otherwise than asked.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("{service} stopped serving: {source}")]
    Transport {
        /// The role.
        service: ServiceName,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The descriptors cannot be offered.
    #[error("the descriptors cannot be offered for reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves until the runtime's shutdown is triggered and what was in hand has finished.
///
/// `directory` answers whether a client is an agency's: identity's own tables there, `RemoteDirectory` elsewhere.
///
/// # Errors
/// When the transport fails.
pub async fn serve(
    runtime: ServiceRuntime,
    directory: Arc<dyn ClientDirectory>,
    services: Routes,
) -> Result<(), ServeError> {
    let ServiceRuntime {
        me,
        trusted,
        shutdown,
        health,
        listener,
        limits,
        ..
    } = runtime;
    let reporter = HealthReporter::new();
    let meters = report::Meters::default();
    let services = services.add_service(report::service(health.clone(), meters.clone()));

    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mainstay_proto::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    // Health and reflection say nothing about any tenant, and must answer when everything else refuses: they stand
    // beside the stack, not in it.
    let beside = Routes::default()
        .add_service(HealthServer::new(HealthService::from_health_reporter(
            reporter.clone(),
        )))
        .add_service(reflection)
        .into_axum_router();
    let routes = beside.fallback_service(stack::around(
        services, me, trusted, directory, &limits, meters,
    ));

    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(limits.streams_per_connection)
        // A batch of webhooks in a frame or two: each frame more is a turn of two tasks.
        .max_frame_size(FRAME_MOST)
        // A client that opens and resets streams in a loop is cut off (CVE-2023-44487).
        .http2_max_pending_accept_reset_streams(Some(32))
        .http2_max_local_error_reset_streams(Some(256))
        .http2_max_header_list_size(wire::HEADERS_MOST);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));

    let stopping = {
        let (shutdown, health, drain) = (shutdown.clone(), health.clone(), limits.drain);
        async move {
            shutdown.triggered().await;
            // First say so, then stop accepting, then finish what is in hand.
            health.drain();
            tokio::time::sleep(drain).await;
        }
    };
    let serving =
        server.serve_with_incoming_shutdown(Routes::from(routes).prepare(), incoming, stopping);
    let cut_off = async {
        shutdown.triggered().await;
        tokio::time::sleep(limits.drain + limits.grace).await;
    };
    tokio::select! {
        served = serving => served.map_err(|source| ServeError::Transport { service: me, source }),
        () = report(reporter, &health) => Ok(()),
        () = cut_off => {
            tracing::warn!(service = %me, "requests were still in hand after the grace period");
            Ok(())
        }
    }
}

/// Tells the gRPC health service what the role knows of itself; does not end.
async fn report(reporter: HealthReporter, health: &Health) {
    let mut changes = health.subscribe();
    loop {
        let ready = changes.borrow_and_update().ready();
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        reporter.set_service_status("", status).await;
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
