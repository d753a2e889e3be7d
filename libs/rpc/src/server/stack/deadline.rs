//! The caller's time, bounded by ours. When it is over the handler is dropped, and its transaction with it.
//!
//! Deliberately absent: a promise that nothing happened. A commit may have won the race; the reason says so.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use mainstay_proto::errors::v1::ErrorReason;

use super::{Gate, refuse};
use crate::problem::Problem;
use crate::wire;

/// When the caller stops waiting.
#[derive(Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

pub(super) async fn layer(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let asked = request
        .headers()
        .get(wire::GRPC_TIMEOUT)
        .and_then(|value| value.to_str().ok());
    let time = asked
        .and_then(wire::read_timeout)
        .unwrap_or(gate.limits.request)
        .min(gate.limits.request);
    let deadline = Instant::now() + time;
    request.extensions_mut().insert(Deadline(deadline));
    match tokio::time::timeout_at(deadline.into(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(Problem::new(
            ErrorReason::DeadlineExceeded,
            "The call did not finish in its time.",
        )),
    }
}
