//! SendGrid's webhooks: ECDSA over the time and the raw bytes
//! (https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features). A
//! request brings many events, and each is filed by itself.
//! Deliberately absent: telling some of them to come again. A request is answered for all of them, and what is stored already
//! is known when it comes again with the others.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, request::Parts};
use mainstay_proto::errors::v1::ErrorReason;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde_json::Value;

use super::receive::{
    Event, Scheme, Token, answered, check_time, receive, received, refused, token, unreadable,
};
use super::secrets::Known;
use crate::{
    app::Gateway,
    refusal::Refusal,
    trace::{Traceparent, header_text},
};

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-email-event-webhook-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-twilio-email-event-webhook-timestamp");
/// What stands before the point in the DER of a P-256 public key (RFC 5480); integrations has seen to it that it does.
const DER_PREFIX_BYTES: usize = 26;
const POINT_BYTES: usize = 65;
/// SendGrid sends at most a thousand at once.
const MOST_EVENTS: usize = 5000;

/// `POST /webhooks/sendgrid/{account_token}`
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
    let route = "/webhooks/sendgrid/{account_token}";
    let answer = answer.map(|_| received());
    answered(&gateway, Signature::PROVIDER, route, answer)
}

/// SendGrid's two headers.
#[derive(Debug)]
struct Signature {
    /// As it was signed.
    timestamp: String,
    given: Vec<u8>,
}

impl Signature {
    fn read(head: &Parts) -> Result<Self, Refusal> {
        let header = |name: &HeaderName| {
            header_text(&head.headers, name)
                .ok_or_else(|| refused("The request has no signature of SendGrid's."))
        };
        let (timestamp, given) = (header(&TIMESTAMP)?, header(&SIGNATURE)?);
        let signed_at = timestamp.parse::<u64>();
        check_time(signed_at.map_err(|_| refused("Its time is no number of seconds."))?)?;
        let given = STANDARD.decode(given);
        Ok(Self {
            timestamp: timestamp.to_owned(),
            given: given.map_err(|_| refused("The signature is not base64."))?,
        })
    }
}

impl Scheme for Signature {
    const PROVIDER: &'static str = "sendgrid";

    fn verifies(&self, known: &Known, body: &[u8]) -> bool {
        let signed = [self.timestamp.as_bytes(), body].concat();
        known.secrets.iter().any(|key| {
            let der = STANDARD.decode(key).unwrap_or_default();
            let point = der.get(DER_PREFIX_BYTES..).unwrap_or_default();
            point.len() == POINT_BYTES
                && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                    .verify(&signed, &self.given)
                    .is_ok()
        })
    }

    fn events(&self, body: Bytes) -> Result<Vec<Event>, Refusal> {
        let events: Vec<Value> = serde_json::from_slice(&body)
            .map_err(|_| unreadable("the body is not an array of events of SendGrid's"))?;
        if events.len() > MOST_EVENTS {
            let detail = format!("A request may bring at most {MOST_EVENTS} events.");
            return Err(Refusal::new(ErrorReason::PayloadTooLarge, detail));
        }
        let filed = events.into_iter().map(|event| {
            let text = |name: &str| event.get(name).and_then(Value::as_str);
            let (key, kind) = text("sg_event_id")
                .zip(text("event"))
                .ok_or_else(|| unreadable("each event must have `sg_event_id` and `event`"))?;
            Ok(Event {
                key: key.to_owned(),
                kind: format!("email.{kind}"),
                content_type: "application/json".to_owned(),
                body: event.to_string().into(),
            })
        });
        filed.collect()
    }
}
