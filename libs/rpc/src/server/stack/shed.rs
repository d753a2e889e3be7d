//! No more at once than the role can do: beyond it callers are told at once, and come back, instead of queueing here.
//!
//! Deliberately absent: fairness between tenants. The gateway's rate limits come first.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use mainstay_proto::errors::v1::ErrorReason;

use super::{Gate, refuse};
use crate::problem::Problem;

pub(super) async fn layer(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let Ok(_slot) = gate.slots.try_acquire() else {
        return refuse(
            Problem::new(ErrorReason::Unavailable, "The service is at its limit.").retry_after(1),
        );
    };
    next.run(request).await
}
