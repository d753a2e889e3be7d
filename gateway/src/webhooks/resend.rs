//! Resend's webhooks: Svix's headers over id, time and raw bytes (https://docs.svix.com/receiving/verifying-payloads/how-manual).
//! Deliberately absent: reading the event beyond its type, and only after it verified.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, request::Parts};
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

const ID: HeaderName = HeaderName::from_static("svix-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("svix-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("svix-signature");
/// The most signatures of one webhook that are looked at: Svix sends one for each active secret.
const MOST_SIGNATURES: usize = 16;

/// `POST /webhooks/resend/{account_token}`
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
    let route = "/webhooks/resend/{account_token}";
    let answer = answer.map(|_| received());
    answered(&gateway, Signature::PROVIDER, route, answer)
}

/// Svix's three headers.
#[derive(Debug)]
struct Signature {
    id: String,
    /// As it was signed.
    timestamp: String,
    v1: Vec<Vec<u8>>,
}

impl Signature {
    fn read(head: &Parts) -> Result<Self, Refusal> {
        let header = |name: &HeaderName| {
            header_text(&head.headers, name).ok_or_else(|| {
                refused("The request has no svix-id, svix-timestamp or svix-signature header.")
            })
        };
        let (id, timestamp, signatures) = (header(&ID)?, header(&TIMESTAMP)?, header(&SIGNATURE)?);
        let signed_at = timestamp.parse::<u64>();
        check_time(signed_at.map_err(|_| refused("svix-timestamp is no number of seconds."))?)?;
        let v1: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .take(MOST_SIGNATURES)
            .filter_map(|text| STANDARD.decode(text).ok())
            .collect();
        if v1.is_empty() {
            return Err(refused("svix-signature has no `v1`."));
        }
        Ok(Self {
            id: id.to_owned(),
            timestamp: timestamp.to_owned(),
            v1,
        })
    }
}

impl Scheme for Signature {
    const PROVIDER: &'static str = "resend";

    fn verifies(&self, known: &Known, body: &[u8]) -> bool {
        known.secrets.iter().any(|secret| {
            let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret));
            let head = format!("{}.{}.", self.id, self.timestamp);
            key.is_ok_and(|key| signs(&key, &[head.as_bytes(), body], &self.v1))
        })
    }

    fn events(&self, body: Bytes) -> Result<Vec<Event>, Refusal> {
        let filed: Filed = serde_json::from_slice(&body)
            .map_err(|_| unreadable("the body is not an event of Resend's: JSON with `type`"))?;
        // Resend says `email.bounced` of mail, and `domain.updated` of other things.
        let kind = filed.kind.strip_prefix("email.").unwrap_or(&filed.kind);
        Ok(vec![Event {
            key: self.id.clone(),
            kind: format!("email.{kind}"),
            content_type: "application/json".to_owned(),
            body,
        }])
    }
}

/// What the inbox files an event by, beside its id.
#[derive(Deserialize)]
struct Filed {
    #[serde(rename = "type")]
    kind: String,
}
