//! Calling our services: one lazily connected channel to each, and one stack around all calls.
//!
//! Deliberately absent: addresses found at run time. A service has one name; what stands behind it is the platform's.

mod budget;
mod raw;
mod send;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use mainstay_types::ServiceName;
use thiserror::Error;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::context::Context;
use crate::token::{ServiceKey, wall};
use crate::wire;
use budget::Budget;

/// The time a call may take when nobody says.
const DEFAULT_TIME: Duration = Duration::from_secs(10);

/// The ways from this service to the others. Clones share connections and budgets.
#[derive(Clone, Debug)]
pub struct Channels {
    peers: Arc<BTreeMap<ServiceName, Arc<Peer>>>,
    time: Duration,
}

/// Why the channels cannot be made.
#[derive(Debug, Error)]
pub enum AddressError {
    /// An address is no URL.
    #[error("the address of {service}, {address:?}, is not a URL: {source}")]
    Malformed {
        /// The service.
        service: ServiceName,
        /// What was given.
        address: String,
        /// Why not.
        source: tonic::transport::Error,
    },
}

/// One service that is called.
struct Peer {
    me: Arc<ServiceKey>,
    to: ServiceName,
    channel: Channel,
    token: Mutex<Option<(http::HeaderValue, i64)>>,
    budget: Budget,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} to {})", self.me.service(), self.to)
    }
}

impl Channels {
    /// To these addresses (`http://host:port`). Nothing is connected before the first call. Within a tokio runtime.
    ///
    /// # Errors
    /// When an address is no URL.
    pub fn new(
        me: Arc<ServiceKey>,
        addresses: impl IntoIterator<Item = (ServiceName, String)>,
    ) -> Result<Self, AddressError> {
        let mut peers = BTreeMap::new();
        for (to, address) in addresses {
            let endpoint = Endpoint::from_shared(address.clone())
                .map_err(|source| AddressError::Malformed {
                    service: to,
                    address,
                    source,
                })?
                .connect_timeout(Duration::from_secs(2))
                .tcp_nodelay(true)
                // A peer that vanished without a word is noticed within seconds, idle or not.
                .http2_keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(Duration::from_secs(5))
                .keep_alive_while_idle(true)
                // The default of 16 KiB is less than a refusal may be, and one past it breaks the connection.
                .http2_max_header_list_size(wire::HEADERS_MOST);
            let peer = Peer {
                me: Arc::clone(&me),
                to,
                channel: endpoint.connect_lazy(),
                token: Mutex::default(),
                budget: Budget::new(),
            };
            peers.insert(to, Arc::new(peer));
        }
        Ok(Channels {
            peers: Arc::new(peers),
            time: DEFAULT_TIME,
        })
    }

    /// With another time than ten seconds for calls of which nobody says how long they may take.
    #[must_use]
    pub fn patient(self, time: Duration) -> Self {
        Channels { time, ..self }
    }

    /// The way to one service, for a generated client: `ClientDirectoryServiceClient::new(channels.channel(…))`. A
    /// service without an address answers every call with `UNAVAILABLE`.
    pub fn channel(&self, to: ServiceName) -> ServiceChannel {
        ServiceChannel {
            to,
            peer: self.peers.get(&to).cloned(),
            time: self.time,
        }
    }
}

/// A channel to one service, with the stack of every call: span, tokens, deadline, retries within a budget.
#[derive(Clone, Debug)]
pub struct ServiceChannel {
    to: ServiceName,
    peer: Option<Arc<Peer>>,
    time: Duration,
}

impl tower::Service<http::Request<Body>> for ServiceChannel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        // Each attempt waits for its own turn on the connection.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.peer.clone() {
            Some(peer) => Box::pin(send::send(peer, self.time, request)),
            None => {
                let absent =
                    crate::Problem::unavailable(format!("no address of {} is set", self.to));
                Box::pin(std::future::ready(Err(absent.into())))
            }
        }
    }
}

impl Peer {
    /// Our token for this peer, made anew when less than a third of its life is left.
    fn token(&self) -> http::HeaderValue {
        let mut held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, _)) = held.as_ref().filter(|(_, ends)| ends - wall() > 20) {
            return token.clone();
        }
        let (token, ends) = self.me.service_token(self.to);
        let mut value = http::HeaderValue::try_from(token).expect("a token is base64url and dots");
        value.set_sensitive(true);
        *held = Some((value.clone(), ends.timestamp()));
        value
    }
}

/// When the caller of a call stops waiting: what is left of it bounds the calls made on its behalf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallDeadline(pub(crate) Instant);

/// A request to another service on behalf of the actor of `context`: its token, name and remaining time go along.
pub fn on_behalf<T>(context: &Context, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = &context.actor_token
        && let Ok(mut value) = tonic::metadata::MetadataValue::try_from(format!("Bearer {token}"))
    {
        value.set_sensitive(true);
        request.metadata_mut().insert(wire::AUTHORIZATION, value);
    }
    if let Ok(value) = context.request_id.parse() {
        request.metadata_mut().insert(wire::REQUEST_ID, value);
    }
    request
        .extensions_mut()
        .insert(CallDeadline(context.deadline));
    request
}
