//! Stripe's webhooks: `Stripe-Signature` over the raw bytes (https://docs.stripe.com/webhooks/signature).
//! Deliberately absent: reading the event beyond its id and type, and only after it verified.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, header, request::Parts};
use serde::Deserialize;

use super::receive::{
    Event, Scheme, Token, answered, check_time, receive, received, refused, signs, token,
    unreadable,
};
use super::secrets::Known;
use crate::{
    app::Gateway,
    refusal::Refusal,
    trace::{Traceparent, header_text},
};

const SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");
/// The most signatures of one webhook that are looked at: Stripe sends one for each active secret.
const MOST_SIGNATURES: usize = 16;

/// `POST /webhooks/stripe`
pub async fn platform(
    State(gateway): State<Arc<Gateway>>,
    Extension(traceparent): Extension<Traceparent>,
    request: Request,
) -> Response {
    let answer = receive(&gateway, "", traceparent, request, Signature::read).await;
    let answer = answer.map(|_| received());
    answered(&gateway, Signature::PROVIDER, "/webhooks/stripe", answer)
}

/// `POST /webhooks/stripe/{endpoint_token}`
pub async fn endpoint(
    State(gateway): State<Arc<Gateway>>,
    given: Token,
    Extension(traceparent): Extension<Traceparent>,
    request: Request,
) -> Response {
    let answer = match token(given) {
        Ok(token) => receive(&gateway, &token, traceparent, request, Signature::read).await,
        Err(refusal) => Err(refusal),
    };
    let route = "/webhooks/stripe/{endpoint_token}";
    let answer = answer.map(|_| received());
    answered(&gateway, Signature::PROVIDER, route, answer)
}

/// A parsed `Stripe-Signature`.
#[derive(Debug)]
struct Signature {
    /// As it was signed.
    timestamp: String,
    v1: Vec<Vec<u8>>,
    content_type: String,
}

impl Signature {
    fn read(head: &Parts) -> Result<Self, Refusal> {
        let (signature, signed_at) = Self::of(&head.headers)?;
        check_time(signed_at)?;
        Ok(signature)
    }

    fn of(headers: &HeaderMap) -> Result<(Self, u64), Refusal> {
        let text = header_text(headers, &SIGNATURE)
            .ok_or_else(|| refused("The request has no Stripe-Signature header."))?;
        let mut timestamp = None;
        let mut v1 = Vec::new();
        for (name, value) in text
            .split(',')
            .filter_map(|part| part.trim().split_once('='))
        {
            match name {
                "t" => timestamp = timestamp.or(Some(value)),
                "v1" if v1.len() < MOST_SIGNATURES => v1.extend(hex::decode(value)),
                // v0 is of test mode and proves nothing.
                _ => {}
            }
        }
        let malformed = || refused("Stripe-Signature has no `t` and `v1`.");
        let timestamp = timestamp.ok_or_else(malformed)?;
        let seconds = timestamp.parse::<u64>().map_err(|_| malformed())?;
        if v1.is_empty() {
            return Err(malformed());
        }
        let signature = Self {
            timestamp: timestamp.to_owned(),
            v1,
            content_type: header_text(headers, &header::CONTENT_TYPE)
                .filter(|kind| kind.len() <= 255)
                .unwrap_or("application/json")
                .to_owned(),
        };
        Ok((signature, seconds))
    }
}

impl Scheme for Signature {
    const PROVIDER: &'static str = "stripe";

    fn verifies(&self, known: &Known, body: &[u8]) -> bool {
        known.secrets.iter().any(|secret| {
            let parts = [self.timestamp.as_bytes(), b".", body];
            signs(secret.as_bytes(), &parts, &self.v1)
        })
    }

    fn events(&self, body: Bytes) -> Result<Vec<Event>, Refusal> {
        let filed: Filed = serde_json::from_slice(&body)
            .map_err(|_| unreadable("the body is not a Stripe event: JSON with `id` and `type`"))?;
        Ok(vec![Event {
            key: filed.id,
            kind: filed.kind,
            content_type: self.content_type.clone(),
            body,
        }])
    }
}

/// What the inbox files an event by.
#[derive(Deserialize)]
struct Filed {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}
