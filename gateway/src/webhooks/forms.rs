//! Forms of clients' websites: an opaque token in the address, and the origin of the page that the browser names. Both can be
//! copied by whoever reads the page, so what a form says is somebody's word and no more.
//! Deliberately absent: what a form says. It is kept as it was sent.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use mainstay_proto::errors::v1::ErrorReason;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::receive::{
    Event, Scheme, Token, answered, receive, received, refused, token, unreadable,
};
use super::secrets::Known;
use crate::{
    app::Gateway,
    refusal::Refusal,
    trace::{Traceparent, header_text},
};

const ROUTE: &str = "/webhooks/forms/{token}";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// A form without an id of its own is the same one when the same is sent again within the same hour.
const WINDOW_SECONDS: i64 = 3600;

/// `POST /webhooks/forms/{token}`, and what browsers ask before it.
pub fn routes() -> Router<Arc<Gateway>> {
    Router::new().route(ROUTE, post(submit).options(preflight))
}

async fn submit(
    State(gateway): State<Arc<Gateway>>,
    given: Token,
    Extension(traceparent): Extension<Traceparent>,
    request: Request,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let answer = match token(given) {
        Err(refusal) => (Err(refusal), None),
        Ok(token) => {
            let now = gateway.clock.now().timestamp();
            let read = |head: &Parts| Submission::read(head, now);
            let answer = receive(&gateway, &token, traceparent, request, read).await;
            (answer, allowed(&gateway, &token, origin).await)
        }
    };
    let (answer, origin) = answer;
    let answer = answer.map(|_| received());
    shared(
        answered(&gateway, Submission::PROVIDER, ROUTE, answer),
        origin,
    )
}

async fn preflight(
    State(gateway): State<Arc<Gateway>>,
    given: Token,
    request: Request,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let origin = match token(given) {
        Ok(token) => allowed(&gateway, &token, origin).await,
        Err(_) => None,
    };
    if origin.is_none() {
        return refused("Forms of this origin are not taken here.").into_response();
    }
    let told = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    shared((StatusCode::NO_CONTENT, told).into_response(), origin)
}

/// The origin, if the endpoint takes forms from it.
async fn allowed(
    gateway: &Gateway,
    token: &str,
    origin: Option<HeaderValue>,
) -> Option<HeaderValue> {
    let origin = origin?;
    let known = gateway.webhooks.secrets.of(Submission::PROVIDER, token);
    let known = known.await.ok()?;
    let text = origin.to_str().ok()?;
    takes(&known, text).then_some(origin)
}

fn takes(known: &Known, origin: &str) -> bool {
    !known.account.is_empty() && known.allowed_origins.iter().any(|known| known == origin)
}

/// Lets the page read the answer.
fn shared(mut response: Response, origin: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("x-request-id"),
        );
    }
    response
}

/// What stands before a form.
#[derive(Debug)]
struct Submission {
    origin: String,
    is_json: bool,
    window: i64,
}

impl Submission {
    fn read(head: &Parts, now: i64) -> Result<Self, Refusal> {
        let text = |name: &HeaderName| header_text(&head.headers, name);
        let origin =
            text(&header::ORIGIN).ok_or_else(|| refused("The request names no origin."))?;
        let media = text(&header::CONTENT_TYPE).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        let is_json = media.eq_ignore_ascii_case(JSON);
        if !is_json && !media.eq_ignore_ascii_case(FORM) {
            return Err(Refusal::new(
                ErrorReason::UnsupportedMediaType,
                "A form is sent as application/json or application/x-www-form-urlencoded.",
            ));
        }
        Ok(Self {
            origin: origin.to_owned(),
            is_json,
            window: now.div_euclid(WINDOW_SECONDS),
        })
    }

    fn own_id(&self, body: &[u8]) -> Result<Option<String>, Refusal> {
        if !self.is_json {
            return Ok(form_urlencoded::parse(body)
                .find(|(name, _)| name == "event_id")
                .map(|(_, value)| value.into_owned()));
        }
        let object: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| unreadable("the body is not a JSON object"))?;
        match object.get("event_id") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) => Ok(Some(id.clone())),
            Some(_) => Err(unreadable("`event_id` must be a text")),
        }
    }
}

impl Scheme for Submission {
    const PROVIDER: &'static str = "forms";

    fn verifies(&self, known: &Known, _: &[u8]) -> bool {
        takes(known, &self.origin)
    }

    fn events(&self, body: Bytes) -> Result<Vec<Event>, Refusal> {
        if body.is_empty() {
            return Err(unreadable("the form is empty"));
        }
        let key = match self.own_id(&body)?.filter(|id| !id.is_empty()) {
            Some(id) => id,
            None => format!("{}@{}", hex::encode(Sha256::digest(&body)), self.window),
        };
        let content_type = if self.is_json { JSON } else { FORM };
        Ok(vec![Event {
            key,
            kind: "form.submitted".to_owned(),
            content_type: content_type.to_owned(),
            body,
        }])
    }
}
