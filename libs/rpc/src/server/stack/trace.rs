//! One span per call, a child of the caller's, that ends as the call ended.
//!
//! Deliberately absent: messages. A span says that something was asked, never what it said.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use mainstay_runtime::telemetry;
use opentelemetry::trace::Status as SpanStatus;
use tonic::Code;
use tracing::{Instrument, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{Gate, Method};
use crate::wire;

pub(super) async fn layer(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let Some(method) = gate
        .schema
        .method(path)
        .filter(|method| serves(&gate, method))
    else {
        // No span: strangers must not choose names in our traces.
        return tonic::Status::unimplemented("There is no such method here.").into_http();
    };
    let span = info_span!(
        "rpc",
        otel.name = method.path.trim_start_matches('/'),
        otel.kind = "server",
        mainstay.role = gate.me.as_str(),
        rpc.system = "grpc",
        rpc.service = method.service,
        rpc.method = method.name,
        rpc.grpc.status_code = Empty,
        mainstay.caller = Empty,
        mainstay.agency_id = Empty,
        mainstay.client_id = Empty,
        mainstay.principal = Empty,
        mainstay.request_id = Empty,
        mainstay.error = Empty,
    );
    if let Some(parent) = request
        .headers()
        .get(wire::TRACEPARENT)
        .and_then(|value| value.to_str().ok())
    {
        telemetry::set_parent(&span, parent);
    }
    request.extensions_mut().insert(Method(method));
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;

    // Refusals are trailers-only: their status is in the headers. Anything else is an answer.
    let code = response
        .headers()
        .get(wire::GRPC_STATUS)
        .map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()));
    // Questions about health are not what health is about.
    if method.context != "health" {
        gate.meters.calls.count(our_fault(code), started.elapsed());
    }
    span.record("rpc.grpc.status_code", code as i32);
    if code != Code::Ok {
        span.set_status(SpanStatus::error(code.description()));
    }
    response
}

/// Whether a method is of this role: its context's, or one that every role has.
fn serves(gate: &Gate, method: &mainstay_transcode::MethodInfo) -> bool {
    method.context == gate.me.as_str()
        || matches!(method.context.as_str(), "events" | "health" | "jobs")
}

/// Whether a call that ended so failed by our side, and not by what was asked.
fn our_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
