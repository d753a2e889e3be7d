//! Reads a unary request whole, judges every field by the protos' rules, and finds the client it names.
//!
//! Deliberately absent: streams of the caller. No method has one; the first that does says here how it is bounded.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use mainstay_proto::errors::v1::ErrorReason;
use mainstay_types::ClientId;
use prost_reflect::DynamicMessage;

use super::{Gate, Method, refuse};
use crate::problem::Problem;
use crate::wire;

/// The client that the request names, when its method is about one.
#[derive(Clone, Copy)]
pub(super) struct Named(pub(super) Option<ClientId>);

pub(super) async fn layer(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let Some(Method(method)) = request.extensions().get::<Method>().copied() else {
        return refuse(Problem::internal("a call without a method"));
    };
    let (mut parts, body) = request.into_parts();
    let bytes = match Limited::new(body, gate.limits.message_bytes + wire::FRAME_HEADER)
        .collect()
        .await
    {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let limit = gate.limits.message_bytes;
            return refuse(Problem::new(
                ErrorReason::PayloadTooLarge,
                format!("A message may have {limit} bytes."),
            ));
        }
        // The caller went away; nobody reads this.
        Err(error) => return refuse(Problem::invalid(Vec::new()).with_source(error)),
    };
    let message = match message(&bytes)
        .and_then(|message| DynamicMessage::decode(method.input.clone(), message).ok())
    {
        Some(message) => message,
        None => {
            return refuse(Problem::new(
                ErrorReason::InvalidRequest,
                "The message cannot be read.",
            ));
        }
    };
    let faults = method.check_rules(&message);
    if !faults.is_empty() {
        return refuse(Problem::invalid(faults));
    }
    // The rules have judged its form; what is left to fail is a type of id that is not the client's.
    let named = match method
        .client_id(&message)
        .map(|text| ClientId::parse(&text))
        .transpose()
    {
        Ok(named) => named,
        Err(error) => {
            return refuse(Problem::invalid(Vec::new()).violation("client_id", error.to_string()));
        }
    };
    parts.extensions.insert(Named(named));
    next.run(Request::from_parts(parts, Body::from(bytes)))
        .await
}

/// The one message of a unary body.
fn message(body: &Bytes) -> Option<Bytes> {
    let mut rest = body.clone();
    if rest.len() < wire::FRAME_HEADER {
        return None;
    }
    // We neither offer nor accept compression: behind it a small body could hide a large one.
    let plain = rest.get_u8() == 0;
    let length = usize::try_from(rest.get_u32()).ok()?;
    (plain && length == rest.len()).then_some(rest)
}
