//! What webhooks of all providers have in common: a place among those in hand, what stands before the body, the body, its
//! signature by any secret of the endpoint, the store, and only then the answer.
//! Deliberately absent: how a provider signs, and what it calls things. Each has a file of its own for that.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Path, Request, rejection::PathRejection},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{header, request::Parts};
use mainstay_proto::{
    errors::v1::{ErrorReason, FieldViolation},
    integrations::v1::Webhook,
};
use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::secrets::Known;
use crate::{
    app::Gateway,
    refusal::Refusal,
    rest::read_bounded,
    trace::{Route, Traceparent},
};

/// How far a signed time may lie from ours, either way.
const TOLERANCE: Duration = Duration::from_secs(300);
/// Events of one request on their way to the store at once.
const AT_ONCE: usize = 64;
const MOST_TOKEN_CHARS: usize = 255;
const MOST_KEY_CHARS: usize = 255;

/// The token in an endpoint's address.
pub type Token = Result<Path<String>, PathRejection>;

/// One request's signature, as its provider makes them.
pub trait Scheme: Send + Sync {
    /// What the inbox calls the provider.
    const PROVIDER: &'static str;

    /// Whether any of the endpoint's secrets made it, over exactly these bytes.
    fn verifies(&self, known: &Known, body: &[u8]) -> bool;

    /// What the bytes bring. Asked only once they verified; all of it is stored, or the sender is told to send it again.
    fn events(&self, body: Bytes) -> Result<Vec<Event>, Refusal>;
}

/// Whether one of `given` is the HMAC-SHA256 of these parts, one after the other; compared in constant time.
pub fn signs(key: &[u8], parts: &[&[u8]], given: &[Vec<u8>]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut signed = hmac::Context::with_key(&key);
    for part in parts {
        signed.update(part);
    }
    let right = signed.sign();
    given.iter().any(|given| right.as_ref().ct_eq(given).into())
}

/// What the inbox files.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// What repetitions share (INT-04).
    pub key: String,
    /// What it tells of: `message.received`.
    pub kind: String,
    /// How to read the body.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// What was taken in.
pub struct Taken<S> {
    /// Its signature.
    pub scheme: S,
    /// What it was verified by.
    pub known: Arc<Known>,
    /// Its body.
    pub body: Bytes,
}

/// Takes a webhook in; returns when all of it is durable. `read` looks at what stands before the body: without a signature
/// there is nothing to read one for.
pub async fn receive<S: Scheme>(
    gateway: &Gateway,
    endpoint: &str,
    Traceparent(traceparent): Traceparent,
    request: Request,
    read: impl FnOnce(&Parts) -> Result<S, Refusal>,
) -> Result<Taken<S>, Refusal> {
    let _place = gateway.webhook_place()?;
    let (head, body) = request.into_parts();
    let scheme = read(&head)?;
    let body = read_bounded(body, gateway.settings.body_max_bytes).await?;
    let known = verify(gateway, endpoint, &scheme, &body).await?;
    let account = match known.account.as_str() {
        "" => "default",
        account => account,
    };
    let events = scheme.events(body.clone())?;
    for event in &events {
        for text in [&event.key, &event.kind] {
            if !is_usable(text) {
                return Err(unreadable("its id and type must have 1 to 255 characters"));
            }
        }
    }
    let received_at = now(gateway);
    let stored = events.into_iter().map(|event| {
        gateway.webhooks.intake.store(Webhook {
            provider: S::PROVIDER.to_owned(),
            account: account.to_owned(),
            event_key: event.key,
            r#type: event.kind,
            content_type: event.content_type,
            body: event.body,
            received_at: Some(received_at),
            traceparent: Some(traceparent.clone()),
        })
    });
    let stored = stream::iter(stored).buffer_unordered(AT_ONCE);
    stored.try_for_each(|_| std::future::ready(Ok(()))).await?;
    Ok(Taken {
        scheme,
        known,
        body,
    })
}

async fn verify<S: Scheme>(
    gateway: &Gateway,
    endpoint: &str,
    scheme: &S,
    body: &[u8],
) -> Result<Arc<Known>, Refusal> {
    let secrets = &gateway.webhooks.secrets;
    let mut known = secrets.of(S::PROVIDER, endpoint).await?;
    if !scheme.verifies(&known, body) {
        known = secrets.again(S::PROVIDER, endpoint).await?;
        if !scheme.verifies(&known, body) {
            return Err(refused("The signature does not verify."));
        }
    }
    Ok(known)
}

/// Notes how a webhook was answered, and names its route for the span.
pub fn answered(
    gateway: &Gateway,
    provider: &str,
    route: &str,
    answer: Result<Response, Refusal>,
) -> Response {
    gateway.webhooks.note(provider, answer.as_ref().map(|_| ()));
    let mut response = answer.unwrap_or_else(Refusal::into_response);
    response.extensions_mut().insert(Route(route.to_owned()));
    response
}

/// What most senders are told once it is stored.
pub fn received() -> Response {
    let json = (header::CONTENT_TYPE, "application/json");
    ([json], r#"{"received":true}"#).into_response()
}

/// The token of an endpoint's address.
pub fn token(token: Token) -> Result<String, Refusal> {
    match token {
        Ok(Path(token)) if (1..=MOST_TOKEN_CHARS).contains(&token.len()) => Ok(token),
        _ => Err(refused("There is no such endpoint.")),
    }
}

/// A signature that is missing, malformed or wrong.
pub fn refused(detail: &str) -> Refusal {
    Refusal::new(ErrorReason::SignatureInvalid, detail)
}

/// A body that verified and cannot be filed.
pub fn unreadable(message: &str) -> Refusal {
    Refusal::invalid(vec![FieldViolation {
        field: String::new(),
        message: message.to_owned(),
    }])
}

/// Refuses a signature that was made too long ago, or too far ahead. By wall time, never by the platform's clock: a shifted
/// clock must not let old signatures in.
pub fn check_time(signed_at: u64) -> Result<(), Refusal> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    if now.abs_diff(signed_at) > TOLERANCE.as_secs() {
        return Err(refused(
            "The signature's time is more than 300 seconds from now.",
        ));
    }
    Ok(())
}

fn is_usable(text: &str) -> bool {
    (1..=MOST_KEY_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn now(gateway: &Gateway) -> prost_types::Timestamp {
    let now = gateway.clock.now();
    prost_types::Timestamp {
        seconds: now.timestamp(),
        nanos: i32::try_from(now.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}
