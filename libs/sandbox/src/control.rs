//! Owns the endpoints under `/_/`: what a test or `mainstay up` tells the simulators, in plain JSON.
//!
//! - `POST|GET|DELETE /_/faults`: what to break (`crate::faults`).
//! - `GET /_/clock`, `POST /_/clock/advance {"seconds"}`: the time of all that has no test clock.
//! - `GET /_/messages?to=`: what simulated channels delivered.
//! - `GET /_/deliveries?provider=`: webhooks on their way, of all providers.
//! - `POST /_/inbound/sms`, `/_/inbound/call`: people who write and call (`twilio::control`).
//! - `/_/twilio/…`, `/_/resend/…`, `/_/sendgrid/…`, `/_/email/…`, `/_/openai/…`: accounts, ledgers, scripts.
//! - `/_/stripe/…`: people and banks around Stripe (`stripe::control`).
//!
//! Deliberately absent: authentication. The simulators listen where the developer put them and know no real secret.

mod reader;

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Map, Value, json};

pub(crate) use reader::{Reader, Refused};

use crate::core::Core;
use crate::door::has_operation;
use crate::faults::Breakable;
use crate::store::Record;
use crate::store::World;
use crate::{email, messages, openai, resend, sendgrid, stripe, time, twilio};

/// The simulators that can be broken.
const PROVIDERS: &[Breakable] = &[
    Breakable {
        name: stripe::NAME,
        has_operation: stripe::has_operation,
    },
    Breakable {
        name: twilio::NAME,
        has_operation: has_operation::<twilio::Twilio>,
    },
    Breakable {
        name: resend::NAME,
        has_operation: has_operation::<resend::Resend>,
    },
    Breakable {
        name: sendgrid::NAME,
        has_operation: has_operation::<sendgrid::SendGrid>,
    },
    Breakable {
        name: openai::NAME,
        has_operation: has_operation::<openai::OpenAi>,
    },
];
/// Ten years: beyond, renewals would take longer than anyone waits.
const FURTHEST_SECONDS: i64 = 10 * 366 * 86_400;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route(
            "/faults",
            post(add_fault).get(list_faults).delete(clear_faults),
        )
        .route("/clock", get(show_clock))
        .route("/clock/advance", post(advance_clock))
        .route("/messages", get(delivered))
        .route("/deliveries", get(deliveries))
        .nest("/inbound", twilio::inbound())
        .nest("/twilio", twilio::control())
        .nest("/resend", resend::control())
        .nest("/sendgrid", sendgrid::control())
        .nest("/email", email::control())
        .nest("/openai", openai::control())
        .nest("/stripe", stripe::control())
}

pub(crate) async fn not_found() -> Response {
    let body = json!({ "error": "no such address; the simulators answer under /stripe, /twilio, /resend, /sendgrid, /openai and /_" });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

pub(crate) type Fields = Vec<(String, String)>;

pub(crate) fn refused(errors: Fields) -> Response {
    let errors: Vec<Value> = errors
        .into_iter()
        .map(|(field, message)| json!({ "field": field, "message": message }))
        .collect();
    (
        StatusCode::BAD_REQUEST,
        Json(json!({ "error": "invalid request", "errors": errors })),
    )
        .into_response()
}

/// A JSON object, whatever the content type says.
pub(crate) fn read_object(body: &[u8]) -> Result<Map<String, Value>, Fields> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(vec![(String::new(), "must be a JSON object".into())]),
        Err(error) => Err(vec![(String::new(), format!("not JSON: {error}"))]),
    }
}

pub(crate) fn check_fields(body: &Map<String, Value>, known: &[&str], errors: &mut Fields) {
    for name in body.keys().filter(|name| !known.contains(&name.as_str())) {
        errors.push((
            name.clone(),
            format!("unknown field; known are {}", known.join(", ")),
        ));
    }
}

pub(crate) fn broken(error: &std::io::Error) -> Response {
    tracing::error!(%error, "the simulators' journal cannot be written");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        Json(json!({ "error": "the journal cannot be written; nothing was done" })),
    )
        .into_response()
}

async fn add_fault(State(core): State<Arc<Core>>, body: Bytes) -> Response {
    match read_object(&body).and_then(|body| core.faults.add(&body, PROVIDERS)) {
        Ok(fault) => (StatusCode::CREATED, Json(json!(fault))).into_response(),
        Err(errors) => refused(errors),
    }
}

async fn list_faults(State(core): State<Arc<Core>>) -> Response {
    Json(json!({ "data": core.faults.all() })).into_response()
}

async fn clear_faults(State(core): State<Arc<Core>>) -> Response {
    core.faults.clear();
    StatusCode::NO_CONTENT.into_response()
}

fn clock(core: &Core) -> Value {
    core.read(|world| json!({ "now": world.now(), "offset_seconds": world.clock_offset_seconds() }))
}

async fn show_clock(State(core): State<Arc<Core>>) -> Response {
    Json(clock(&core)).into_response()
}

async fn advance_clock(State(core): State<Arc<Core>>, body: Bytes) -> Response {
    let body = match read_object(&body) {
        Ok(body) => body,
        Err(errors) => return refused(errors),
    };
    let mut errors = Fields::new();
    check_fields(&body, &["seconds"], &mut errors);
    let seconds = body
        .get("seconds")
        .and_then(Value::as_i64)
        .filter(|seconds| (0..=FURTHEST_SECONDS).contains(seconds));
    if seconds.is_none() {
        errors.push((
            "seconds".into(),
            format!("must be a whole number from 0 to {FURTHEST_SECONDS}"),
        ));
    }
    let (Some(seconds), true) = (seconds, errors.is_empty()) else {
        return refused(errors);
    };
    // Years of renewals are real work: not on a thread that serves requests.
    let work = tokio::task::spawn_blocking(move || {
        core.commit(|world| {
            let offset = world.clock_offset_seconds().saturating_add(seconds);
            (
                Record {
                    clock_offset_seconds: Some(offset),
                    ..Record::default()
                },
                (),
            )
        })?;
        time::catch_up(&core);
        Ok(clock(&core))
    });
    match work.await {
        Ok(Ok(clock)) => Json(clock).into_response(),
        Ok(Err(error)) => broken(&error),
        Err(error) => broken(&std::io::Error::other(error)),
    }
}

async fn delivered(
    State(core): State<Arc<Core>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    time::catch_up(&core);
    let to = query.get("to").map(String::as_str);
    Json(json!({ "data": core.read(|world| messages::delivered(world, to)) })).into_response()
}

async fn deliveries(
    State(core): State<Arc<Core>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    outstanding(&core, query.get("provider").map(String::as_str))
}

/// What is still on its way, for tests that wait until everything has arrived.
pub(crate) fn outstanding(core: &Core, provider: Option<&str>) -> Response {
    let shown = |world: &World| -> Vec<Value> {
        let now_ms = crate::clock::wall_ms();
        let told = |event: &str| {
            world
                .event(event)
                .map(|e| (e.provider.clone(), e.event_type.clone()))
        };
        world
            .deliveries()
            .filter_map(|delivery| Some((delivery, told(&delivery.event)?)))
            .filter(|(_, (of, _))| provider.is_none_or(|wanted| wanted == of))
            .take(1_000)
            .map(|(delivery, (of, event_type))| {
                json!({
                    "event": delivery.event, "type": event_type, "provider": of, "endpoint": delivery.endpoint,
                    "attempts": delivery.attempts, "due_in_ms": delivery.due_ms - now_ms,
                })
            })
            .collect()
    };
    Json(json!({ "data": core.read(shown) })).into_response()
}
