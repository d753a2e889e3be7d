//! What pages behind links have in common: the token in the address, and asking the service whose link it is.
//! Deliberately absent: what a token says. Whoever made it reads it.

use std::time::Duration;

use axum::extract::{Path, rejection::PathRejection};

use crate::trace::Traceparent;

/// How long the service may take.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_TOKEN_CHARS: usize = 200;

/// What stands in the address.
pub type Token = Result<Path<String>, PathRejection>;

/// The token; none if it cannot be one of ours.
pub fn asked(token: Token) -> Option<String> {
    let Ok(Path(token)) = token else { return None };
    (1..=MOST_TOKEN_CHARS)
        .contains(&token.len())
        .then_some(token)
}

/// A request of the service, under the trace of whoever follows the link.
pub fn traced<T>(message: T, Traceparent(traceparent): &Traceparent) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(PATIENCE);
    if let Ok(value) = traceparent.parse() {
        request.metadata_mut().insert("traceparent", value);
    }
    request
}
