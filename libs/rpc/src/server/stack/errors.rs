//! How a call ends badly: told to the caller as a typed problem, and to us once, with what the caller may not know.
//!
//! Deliberately absent: retrying. Whether to try again is the caller's decision.

use std::error::Error;
use std::fmt::Write;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use mainstay_proto::errors::v1::ErrorReason;
use tonic::Status;

use super::{Gate, Method, refuse};
use crate::problem::Problem;

pub(super) async fn layer(State(_): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let method = request
        .extensions()
        .get::<Method>()
        .map_or("", |method| method.0.path.as_str());
    // A panic is a bug of one call; without this it would end as a reset stream that says nothing.
    let response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => refuse(Problem::internal(format!("panic: {}", words(&*panic)))),
    };
    let Some(status) = response.extensions().get::<Status>() else {
        return response;
    };
    let problem = Problem::from_status(status);
    let code = problem.reason().as_str_name();
    tracing::Span::current().record("mainstay.error", code);
    match problem.reason() {
        // The source of the status itself, not of the copy: it was made here and has its whole chain.
        ErrorReason::Internal => tracing::error!(method, cause = chain(status), "internal error"),
        ErrorReason::Unavailable if status.source().is_some() => {
            tracing::warn!(method, cause = chain(status), "unavailable");
        }
        _ => tracing::debug!(method, reason = code, detail = problem.detail(), "refused"),
    }
    if status.details().is_empty() {
        // Made by the framework, not by us: give it the shape that every refusal has.
        return refuse(problem);
    }
    response
}

/// The causes of a status, outermost first.
fn chain(status: &Status) -> String {
    let mut text = String::new();
    let mut cause = status.source();
    while let Some(error) = cause {
        let separator = if text.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}{error}");
        cause = error.source();
    }
    if text.is_empty() {
        status.message().to_owned()
    } else {
        text
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}
