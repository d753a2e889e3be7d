//! Owns the endpoints under `/_/`: what a test or `mainstay up` tells the simulators, in plain JSON.
//!
//! Deliberately absent: authentication. The simulators listen where the developer put them and hold no secrets.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::core::Core;
use crate::store::{Origin, Record, Tx};
use crate::stripe;

/// The simulators that can be broken.
const PROVIDERS: &[&str] = &["stripe"];
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
        .route("/messages", get(messages))
        .route("/stripe/ledger", get(ledger))
        .route("/stripe/webhook_endpoint", put(register_endpoint))
        .route("/stripe/deliveries", get(deliveries))
        .route(
            "/stripe/payment_intents/{id}/authenticate",
            post(authenticate),
        )
}

pub(crate) async fn not_found() -> Response {
    let body = json!({ "error": "no such address; the simulators answer under /stripe/v1 and /_" });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

type Fields = Vec<(String, String)>;

fn refused(errors: Fields) -> Response {
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
fn read_object(body: &[u8]) -> Result<Map<String, Value>, Fields> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(vec![(String::new(), "must be a JSON object".into())]),
        Err(error) => Err(vec![(String::new(), format!("not JSON: {error}"))]),
    }
}

fn check_fields(body: &Map<String, Value>, known: &[&str], errors: &mut Fields) {
    for name in body.keys().filter(|name| !known.contains(&name.as_str())) {
        errors.push((
            name.clone(),
            format!("unknown field; known are {}", known.join(", ")),
        ));
    }
}

fn broken(error: &std::io::Error) -> Response {
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
        stripe::catch_up(&core);
        Ok(clock(&core))
    });
    match work.await {
        Ok(Ok(clock)) => Json(clock).into_response(),
        Ok(Err(error)) => broken(&error),
        Err(error) => broken(&std::io::Error::other(error)),
    }
}

async fn messages(
    State(core): State<Arc<Core>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let to = query.get("to").map(String::as_str);
    Json(json!({ "data": core.messages.to(to) })).into_response()
}

async fn ledger(State(core): State<Arc<Core>>) -> Response {
    stripe::catch_up(&core);
    Json(core.read(stripe::ledger::ledger)).into_response()
}

/// What is still on its way, for tests that wait until everything has arrived.
async fn deliveries(State(core): State<Arc<Core>>) -> Response {
    let pending = core.read(|world| {
        world
            .deliveries()
            .take(1_000)
            .map(|delivery| {
                let event_type = world.event(&delivery.event).map(|event| event.event_type.clone());
                json!({
                    "event": delivery.event, "type": event_type, "endpoint": delivery.endpoint, "attempts": delivery.attempts,
                    "due_in_ms": delivery.due_ms - crate::clock::wall_ms(),
                })
            })
            .collect::<Vec<Value>>()
    });
    Json(json!({ "data": pending })).into_response()
}

async fn register_endpoint(State(core): State<Arc<Core>>, body: Bytes) -> Response {
    let body = match read_object(&body) {
        Ok(body) => body,
        Err(errors) => return refused(errors),
    };
    let mut errors = Fields::new();
    check_fields(&body, &["url", "secret", "name"], &mut errors);
    let mut text = |name: &str, required: bool| {
        let found = match body.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if !text.is_empty() => return Some(text.clone()),
            Some(_) => Some(()),
        };
        if required || found.is_some() {
            errors.push((name.to_owned(), "must be a non-empty string".into()));
        }
        None
    };
    let (url, secret, name) = (text("url", true), text("secret", true), text("name", false));
    if let Some(Err(message)) = url.as_deref().map(stripe::webhook_endpoint::check_url) {
        errors.push(("url".into(), message));
    }
    let (Some(url), Some(secret), true) = (url, secret, errors.is_empty()) else {
        return refused(errors);
    };
    let committed = core.commit(|world| {
        let mut tx = Tx::new(world, world.now(), Origin::default());
        let (endpoint, settled) =
            stripe::webhook_endpoint::register(&mut tx, &url, &secret, name.as_deref());
        let mut record = tx.into_record();
        record.settled = settled;
        (record, endpoint)
    });
    match committed {
        Ok(endpoint) => Json(stripe::public(&endpoint)).into_response(),
        Err(error) => broken(&error),
    }
}

async fn authenticate(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let body = match read_object(&body) {
        Ok(body) => body,
        Err(errors) => return refused(errors),
    };
    let mut errors = Fields::new();
    check_fields(&body, &["outcome"], &mut errors);
    let succeeded = match body.get("outcome").map_or(Some("success"), Value::as_str) {
        Some("success") => true,
        Some("failure") => false,
        _ => {
            errors.push(("outcome".into(), "must be success or failure".into()));
            false
        }
    };
    if !errors.is_empty() {
        return refused(errors);
    }
    let committed = core.commit(|world| {
        let origin = Origin {
            operation: "payment_intents.authenticate".to_owned(),
            ..Origin::default()
        };
        let mut tx = Tx::new(world, world.now(), origin);
        match stripe::pass_authentication(&mut tx, &id, succeeded) {
            Ok(intent) => (tx.into_record(), Ok(intent)),
            Err(message) => (Record::default(), Err(message)),
        }
    });
    match committed {
        Ok(Ok(intent)) => Json(intent).into_response(),
        Ok(Err(message)) => {
            (StatusCode::CONFLICT, Json(json!({ "error": message }))).into_response()
        }
        Err(error) => broken(&error),
    }
}
