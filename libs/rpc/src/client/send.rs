//! One call: span, tokens, deadline, and another attempt where that is harmless and affordable.
//!
//! Deliberately absent: guesses. A call that broke after it left is tried again only if repeating it is harmless.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use mainstay_proto::errors::v1::ErrorReason;
use mainstay_proto::options::v1::Idempotency;
use mainstay_runtime::telemetry;
use mainstay_transcode::{MethodInfo, Schema};
use opentelemetry::trace::Status as SpanStatus;
use tonic::body::Body;
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tower::{Service, ServiceExt};
use tracing::{Instrument, Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{CallDeadline, Peer};
use crate::problem::Problem;
use crate::wire;

/// Attempts at most, the first one included.
const ATTEMPTS: u32 = 3;

pub(super) async fn send(
    peer: Arc<Peer>,
    unsaid: Duration,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let deadline = deadline(&request, unsaid);
    let method = Schema::mainstay().method(request.uri().path());
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let span = info_span!(
        "rpc call",
        otel.name = path,
        otel.kind = "client",
        mainstay.role = peer.me.service().as_str(),
        rpc.system = "grpc",
        peer.service = peer.to.as_str(),
        rpc.grpc.status_code = Empty,
        mainstay.attempts = Empty,
    );
    let result = attempt_all(&peer, method, deadline, request)
        .instrument(span.clone())
        .await;
    let code = match &result {
        Ok(response) => code_of(response).unwrap_or(Code::Ok),
        Err(status) => status.code(),
    };
    span.record("rpc.grpc.status_code", code as i32);
    if code != Code::Ok {
        span.set_status(SpanStatus::error(code.description()));
    }
    result
}

async fn attempt_all(
    peer: &Peer,
    method: Option<&MethodInfo>,
    deadline: Instant,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let harmless = harmless(method, &parts.headers);
    parts.headers.insert(wire::SERVICE, peer.token());
    if let Some(Ok(value)) = telemetry::current_traceparent().map(HeaderValue::try_from) {
        parts.headers.insert(wire::TRACEPARENT, value);
    }
    // Unary requests are whole in memory anyway; kept, they can be sent again.
    let body = body.collect().await?.to_bytes();

    peer.budget.called();
    for attempt in 1_u32.. {
        let outcome = tokio::time::timeout_at(
            deadline.into(),
            one_attempt(peer, &parts, body.clone(), deadline),
        )
        .await;
        let failed = match outcome {
            Err(_) => return Err(out_of_time()),
            // The transport keeps the same deadline, and may notice a moment before us.
            Ok(Err(broken)) if broken.has::<TimeoutExpired>() => return Err(out_of_time()),
            Ok(Ok(response)) if code_of(&response) != Some(Code::Unavailable) => {
                return Ok(response);
            }
            Ok(other) => other,
        };
        let again = attempt < ATTEMPTS && may_repeat(&failed, harmless);
        let pause = Duration::from_millis(rand::random_range(10..=40) << attempt);
        if !again || Instant::now() + pause >= deadline || !peer.budget.take() {
            Span::current().record("mainstay.attempts", i64::from(attempt));
            return failed.map_err(|broken| broken.into_status(peer));
        }
        tokio::time::sleep(pause).await;
    }
    Err(out_of_time())
}

async fn one_attempt(
    peer: &Peer,
    parts: &http::request::Parts,
    body: Bytes,
    deadline: Instant,
) -> Result<Response<Body>, Broken> {
    let mut request = Request::new(Body::new(Full::new(body)));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers.clone();
    let left = wire::write_timeout(deadline.saturating_duration_since(Instant::now()));
    if let Ok(value) = HeaderValue::try_from(left) {
        request.headers_mut().insert(wire::GRPC_TIMEOUT, value);
    }
    let mut channel = peer.channel.clone();
    channel
        .ready()
        .await
        .map_err(Broken)?
        .call(request)
        .await
        .map_err(Broken)
}

/// A call that got no answer.
struct Broken(tonic::transport::Error);

impl Broken {
    /// Whether it certainly did not reach the peer.
    fn never_left(&self) -> bool {
        self.has::<ConnectError>()
    }

    /// Whether this is among its causes.
    fn has<E: Error + 'static>(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&self.0);
        while let Some(error) = cause {
            if error.is::<E>() {
                return true;
            }
            cause = error.source();
        }
        false
    }

    fn into_status(self, peer: &Peer) -> Status {
        let detail = match self.never_left() {
            true => format!("The {} service cannot be reached.", peer.to),
            false => format!(
                "The connection to the {} service broke; the call may have taken effect.",
                peer.to
            ),
        };
        Problem::new(ErrorReason::Unavailable, detail)
            .retry_after(1)
            .with_source(self.0)
            .into()
    }
}

fn may_repeat(failed: &Result<Response<Body>, Broken>, harmless: bool) -> bool {
    match failed {
        // The peer says that nothing was done; still, only what is harmless is repeated without being asked.
        Ok(_) => harmless,
        Err(broken) => harmless || broken.never_left(),
    }
}

/// Whether a repeat has no further effect.
fn harmless(method: Option<&MethodInfo>, headers: &HeaderMap) -> bool {
    match method.map(MethodInfo::idempotency) {
        Some(Idempotency::Read | Idempotency::Natural) => true,
        Some(Idempotency::Key) => headers.contains_key(wire::IDEMPOTENCY_KEY),
        Some(Idempotency::Unspecified) | None => false,
    }
}

/// What the caller set, what is left of the call it is made for, or what calls get of which nobody says: the earliest.
fn deadline(request: &Request<Body>, unsaid: Duration) -> Instant {
    let now = Instant::now();
    let asked = request
        .headers()
        .get(wire::GRPC_TIMEOUT)
        .and_then(|value| value.to_str().ok())
        .and_then(wire::read_timeout);
    let own = request
        .extensions()
        .get::<CallDeadline>()
        .map(|deadline| deadline.0);
    let asked = asked.map(|time| now + time.min(Duration::from_secs(3600)));
    match (asked, own) {
        (Some(asked), Some(own)) => asked.min(own),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => now + unsaid,
    }
}

/// The outcome of a response without a body: refusals come so. None: the outcome follows the body.
fn code_of(response: &Response<Body>) -> Option<Code> {
    response
        .headers()
        .get(wire::GRPC_STATUS)
        .map(|value| Code::from_bytes(value.as_bytes()))
}

fn out_of_time() -> Status {
    Problem::new(
        ErrorReason::DeadlineExceeded,
        "The call did not finish in its time.",
    )
    .into()
}
