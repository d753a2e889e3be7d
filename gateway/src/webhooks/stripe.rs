//! Stripe's webhooks: `Stripe-Signature` over the raw bytes (https://docs.stripe.com/webhooks/signature).
//! Deliberately absent: reading the event beyond its id and type, and only after it verified.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Json,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, header};
use mainstay_proto::{
    errors::v1::{ErrorReason, FieldViolation},
    integrations::v1::Webhook,
};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;

use crate::{
    app::Gateway,
    refusal::Refusal,
    rest::read_bounded,
    trace::{Route, Traceparent, header_text},
};

const PROVIDER: &str = "stripe";
const SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");
/// How far the signed time may lie from ours, either way.
const TOLERANCE: Duration = Duration::from_secs(300);
/// The most signatures of one webhook that are looked at: Stripe sends one for each active secret.
const MOST_SIGNATURES: usize = 16;
const MOST_KEY_CHARS: usize = 255;

/// `POST /webhooks/stripe`
pub async fn platform(
    State(gateway): State<Arc<Gateway>>,
    Extension(traceparent): Extension<Traceparent>,
    request: Request,
) -> Response {
    routed(
        &gateway,
        "/webhooks/stripe",
        receive(&gateway, "", traceparent, request).await,
    )
}

/// `POST /webhooks/stripe/{endpoint_token}`
pub async fn endpoint(
    State(gateway): State<Arc<Gateway>>,
    token: Result<Path<String>, PathRejection>,
    Extension(traceparent): Extension<Traceparent>,
    request: Request,
) -> Response {
    let answer = match token {
        Ok(Path(token)) if (1..=255).contains(&token.len()) => {
            receive(&gateway, &token, traceparent, request).await
        }
        _ => Err(refused("There is no such endpoint.")),
    };
    routed(&gateway, "/webhooks/stripe/{endpoint_token}", answer)
}

fn routed(gateway: &Gateway, route: &str, answer: Result<Response, Refusal>) -> Response {
    if let Err(refusal) = &answer
        && refusal.reason == ErrorReason::SignatureInvalid
    {
        gateway.webhooks.note_refused(PROVIDER);
    }
    let mut response = answer.unwrap_or_else(Refusal::into_response);
    response.extensions_mut().insert(Route(route.to_owned()));
    response
}

async fn receive(
    gateway: &Gateway,
    endpoint: &str,
    Traceparent(traceparent): Traceparent,
    request: Request,
) -> Result<Response, Refusal> {
    let _place = gateway.webhook_place()?;
    let (head, body) = request.into_parts();
    // Before the body: without a signature there is nothing to read it for.
    let signature = Signature::read(&head.headers)?;
    signature.check_time(SystemTime::now())?;
    let body = read_bounded(body, gateway.settings.body_max_bytes).await?;
    let account = verify(gateway, endpoint, &signature, &body).await?;
    let event = Event::read(&body)?;
    gateway
        .webhooks
        .intake
        .store(Webhook {
            provider: PROVIDER.to_owned(),
            account,
            event_key: event.id,
            r#type: event.kind,
            content_type: header_text(&head.headers, &header::CONTENT_TYPE)
                .filter(|kind| kind.len() <= 255)
                .unwrap_or("application/json")
                .to_owned(),
            body: body.into(),
            received_at: Some(now(gateway)),
            traceparent: Some(traceparent),
        })
        .await?;
    Ok(Json(json!({"received": true})).into_response())
}

async fn verify(
    gateway: &Gateway,
    endpoint: &str,
    signature: &Signature,
    body: &Bytes,
) -> Result<String, Refusal> {
    let secrets = &gateway.webhooks.secrets;
    let mut known = secrets.of(PROVIDER, endpoint).await?;
    if !signature.verifies(&known.secrets, body) {
        known = secrets.again(PROVIDER, endpoint).await?;
        if !signature.verifies(&known.secrets, body) {
            return Err(refused("No signature in Stripe-Signature verifies."));
        }
    }
    Ok(if known.account.is_empty() {
        "default".to_owned()
    } else {
        known.account.clone()
    })
}

/// A parsed `Stripe-Signature`.
#[derive(Debug)]
struct Signature {
    /// As it was signed.
    timestamp: String,
    seconds: u64,
    v1: Vec<Vec<u8>>,
}

impl Signature {
    fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
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
        Ok(Self {
            timestamp: timestamp.to_owned(),
            seconds,
            v1,
        })
    }

    // Wall time, never the platform's clock: a shifted clock must not let old signatures in.
    fn check_time(&self, now: SystemTime) -> Result<(), Refusal> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now.abs_diff(self.seconds) > TOLERANCE.as_secs() {
            return Err(refused(
                "The signature's time is more than 300 seconds from now.",
            ));
        }
        Ok(())
    }

    fn verifies(&self, secrets: &[String], body: &[u8]) -> bool {
        secrets.iter().any(|secret| {
            let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
                return false;
            };
            let mac = mac
                .chain_update(self.timestamp.as_bytes())
                .chain_update(b".")
                .chain_update(body);
            // `verify_slice` compares in constant time.
            self.v1
                .iter()
                .any(|given| mac.clone().verify_slice(given).is_ok())
        })
    }
}

/// What the inbox files an event by.
#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Event {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let wrong = |message: &str| {
            Refusal::invalid(vec![FieldViolation {
                field: String::new(),
                message: message.to_owned(),
            }])
        };
        let event: Event = serde_json::from_slice(body)
            .map_err(|_| wrong("the body is not a Stripe event: JSON with `id` and `type`"))?;
        for text in [&event.id, &event.kind] {
            let usable = (1..=MOST_KEY_CHARS).contains(&text.chars().count())
                && !text.chars().any(char::is_control);
            if !usable {
                return Err(wrong(
                    "the event's `id` and `type` must have 1 to 255 characters",
                ));
            }
        }
        Ok(event)
    }
}

fn refused(detail: &str) -> Refusal {
    Refusal::new(ErrorReason::SignatureInvalid, detail)
}

fn now(gateway: &Gateway) -> prost_types::Timestamp {
    let now = gateway.clock.now();
    prost_types::Timestamp {
        seconds: now.timestamp(),
        nanos: i32::try_from(now.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}
