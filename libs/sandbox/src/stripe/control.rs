//! Owns the endpoints under `/_/stripe`: what people and banks do, which Stripe's API cannot.
//!
//! - `GET ledger?metadata=name:value`: every object, or somebody's. `GET deliveries`: webhooks on their way. `PUT webhook_endpoint {url, secret, name?}`.
//! - `GET|PUT settings {failed_payments: cancel | mark_unpaid | leave_past_due}`: the dashboard.
//! - `POST payment_intents/{id}/authenticate {succeed}` and `POST setup_intents/{id}/authenticate {succeed}`: the
//!   holder before his bank's page.
//! - `POST disputes {charge, reason?, amount?}`: the holder takes money back. `POST disputes/{id}/resolve {won}`.
//! - `POST refunds/{id}/fail`: the bank sends a refund back.
//! - `POST checkout_sessions/{id}/complete {payment_method, email?, name?, async?}`: the payer. With `async` the session
//!   completes unpaid; `POST checkout_sessions/{id}/settle {succeed}` says what became of the payment.
//! - `POST payment_links/{id}/open {client_reference_id?, email?}`: a session for somebody who followed the link.
//! - `POST customers/{id}/finalization {fails}`: invoices of the customer cannot be finalized, or can again.
//! - `POST customers/{id}/bank {declines}`: the customer's bank refuses every charge, or takes them again.
//! - `POST generate {…}`: many lives at once; its fields are described in `generate`.
//!
//! An act that the state of things does not allow is 409 with the reason; a body that makes no sense is 400 with every
//! field at fault.
//!
//! Deliberately absent: idempotency keys. Nobody retries a person.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::checkout::{links, payer};
use super::errors::Result as StripeResult;
use super::{dispute, generate, kind, list, payment_intent, refund, settings, setup_intent};
use super::{test_clock, webhook_endpoint};
use crate::control::{Fields, Reader, Refused, broken, check_fields, read_object, refused};
use crate::core::Core;
use crate::store::{Origin, Record, Tx};
use crate::time;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/ledger", get(ledger))
        .route("/webhook_endpoint", put(register_endpoint))
        .route("/deliveries", get(deliveries))
        .route("/settings", get(show_settings).put(change_settings))
        .route(
            "/payment_intents/{id}/authenticate",
            post(authenticate_payment),
        )
        .route("/setup_intents/{id}/authenticate", post(authenticate_setup))
        .route("/disputes", post(open_dispute))
        .route("/disputes/{id}/resolve", post(resolve_dispute))
        .route("/refunds/{id}/fail", post(fail_refund))
        .route("/checkout_sessions/{id}/complete", post(complete_session))
        .route("/checkout_sessions/{id}/settle", post(settle_session))
        .route("/payment_links/{id}/open", post(open_link))
        .route("/customers/{id}/finalization", post(set_finalization))
        .route("/customers/{id}/bank", post(set_bank))
        .route("/generate", post(generate_lives))
}

/// Carries out what somebody does, by the time of the object he does it to.
fn act(
    core: &Core,
    operation: &str,
    of: (&str, &str),
    act: impl FnOnce(&mut Tx<'_>) -> StripeResult<Value>,
) -> Response {
    time::catch_up(core);
    let committed = core.commit(|world| {
        let origin = Origin {
            operation: operation.to_owned(),
            ..Origin::default()
        };
        let mut tx = Tx::new(world, world.now(), origin);
        if let Some(object) = tx.get(of.0, of.1).cloned() {
            test_clock::enter(&mut tx, &object);
        }
        match act(&mut tx) {
            Ok(object) => (tx.into_record(), Ok(super::public(&object))),
            Err(error) => (Record::default(), Err(error.message)),
        }
    });
    match committed {
        Ok(Ok(object)) => Json(object).into_response(),
        Ok(Err(message)) => {
            (StatusCode::CONFLICT, Json(json!({ "error": message }))).into_response()
        }
        Err(error) => broken(&error),
    }
}

async fn ledger(
    State(core): State<Arc<Core>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let given = query.get("metadata").map(|text| text.split_once(':'));
    if given == Some(None) {
        return refused(vec![("metadata".into(), "must be name:value".into())]);
    }
    time::catch_up(&core);
    Json(core.read(|world| super::ledger::ledger(world, given.flatten()))).into_response()
}

async fn deliveries(State(core): State<Arc<Core>>) -> Response {
    crate::control::outstanding(&core, Some(super::NAME))
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
    if let Some(Err(message)) = url.as_deref().map(webhook_endpoint::check_url) {
        errors.push(("url".into(), message));
    }
    let (Some(url), Some(secret), true) = (url, secret, errors.is_empty()) else {
        return refused(errors);
    };
    let committed = core.commit(|world| {
        let mut tx = Tx::new(world, world.now(), Origin::default());
        let (endpoint, settled) =
            webhook_endpoint::register(&mut tx, &url, &secret, name.as_deref());
        let mut record = tx.into_record();
        record.settled = settled;
        (record, endpoint)
    });
    match committed {
        Ok(endpoint) => Json(super::public(&endpoint)).into_response(),
        Err(error) => broken(&error),
    }
}

async fn show_settings(State(core): State<Arc<Core>>) -> Response {
    let settings = core.read(|world| {
        let mut tx = Tx::new(world, world.now(), Origin::default());
        settings::change(&mut tx, None)
    });
    Json(settings).into_response()
}

async fn change_settings(State(core): State<Arc<Core>>, body: Bytes) -> Response {
    let body = match read_object(&body) {
        Ok(body) => body,
        Err(errors) => return refused(errors),
    };
    let mut errors = Fields::new();
    check_fields(&body, &["failed_payments"], &mut errors);
    let known = settings::FAILED_PAYMENTS;
    let wanted = body.get("failed_payments").map(|value| {
        let wanted = value.as_str().filter(|wanted| known.contains(wanted));
        if wanted.is_none() {
            let message = format!("must be one of {}", known.join(", "));
            errors.push(("failed_payments".into(), message));
        }
        wanted.unwrap_or_default()
    });
    if !errors.is_empty() {
        return refused(errors);
    }
    let committed = core.commit(|world| {
        let mut tx = Tx::new(world, world.now(), Origin::default());
        let settings = settings::change(&mut tx, wanted);
        (tx.into_record(), settings)
    });
    match committed {
        Ok(settings) => Json(settings).into_response(),
        Err(error) => broken(&error),
    }
}

/// `{"succeed": bool}`, or the older `{"outcome": "success" | "failure"}`; nothing means success.
fn read_success(body: &[u8]) -> Result<bool, Refused> {
    let mut read = Reader::new(body, &["succeed", "outcome"])?;
    let succeed = match (read.given("succeed"), read.given("outcome")) {
        (_, None) => read.flag("succeed", Some(true)),
        (Some(_), Some(_)) => {
            read.wrong("outcome", "give either succeed or outcome");
            false
        }
        (None, Some(outcome)) => match outcome.as_str() {
            Some("success") => true,
            Some("failure") => false,
            _ => {
                read.wrong("outcome", "must be success or failure");
                false
            }
        },
    };
    read.finish().map(|()| succeed)
}

async fn authenticate_payment(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let succeed = read_success(&body)?;
    let of = (kind::PAYMENT_INTENT, id.as_str());
    Ok(act(&core, "payment_intents.authenticate", of, |tx| {
        payment_intent::authenticate(tx, &id, succeed)
    }))
}

async fn authenticate_setup(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let succeed = read_success(&body)?;
    let of = (kind::SETUP_INTENT, id.as_str());
    Ok(act(&core, "setup_intents.authenticate", of, |tx| {
        setup_intent::authenticate(tx, &id, succeed)
    }))
}

async fn open_dispute(State(core): State<Arc<Core>>, body: Bytes) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["charge", "reason", "amount"])?;
    let charge = read.require_text("charge");
    let reason = read.text("reason").unwrap_or_else(|| "fraudulent".into());
    let amount = read.number("amount", 1, 99_999_999);
    if !dispute::REASONS.contains(&reason.as_str()) {
        let known = dispute::REASONS.join(", ");
        read.wrong("reason", &format!("must be one of {known}"));
    }
    read.finish()?;
    let amount = amount.and_then(|amount| i64::try_from(amount).ok());
    let of = (kind::CHARGE, charge.as_str());
    Ok(act(&core, "disputes.create", of, |tx| {
        dispute::open(tx, &charge, &reason, amount)
    }))
}

async fn resolve_dispute(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["won"])?;
    let won = read.flag("won", None);
    read.finish()?;
    let of = (kind::DISPUTE, id.as_str());
    Ok(act(&core, "disputes.resolve", of, |tx| {
        dispute::resolve(tx, &id, won)
    }))
}

async fn fail_refund(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    Reader::new(&body, &[])?.finish()?;
    let of = (kind::REFUND, id.as_str());
    Ok(act(&core, "refunds.fail", of, |tx| {
        refund::fail_by_id(tx, &id)
    }))
}

async fn complete_session(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["payment_method", "email", "name", "async"])?;
    let method = read.require_text("payment_method");
    let (email, name) = (read.text("email"), read.text("name"));
    let is_async = read.flag("async", Some(false));
    read.finish()?;
    let payer = payer::Payer {
        payment_method: &method,
        email: email.as_deref(),
        name: name.as_deref(),
        is_async,
    };
    let of = (kind::CHECKOUT_SESSION, id.as_str());
    Ok(act(&core, "checkout_sessions.complete", of, |tx| {
        payer::complete(tx, &id, &payer)
    }))
}

async fn settle_session(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let succeed = read_success(&body)?;
    let of = (kind::CHECKOUT_SESSION, id.as_str());
    Ok(act(&core, "checkout_sessions.settle", of, |tx| {
        payer::settle(tx, &id, succeed)
    }))
}

async fn open_link(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["client_reference_id", "email"])?;
    let (reference, email) = (read.text("client_reference_id"), read.text("email"));
    read.finish()?;
    let of = (kind::PAYMENT_LINK, id.as_str());
    Ok(act(&core, "payment_links.open", of, |tx| {
        links::open(tx, &id, reference.as_deref(), email.as_deref())
    }))
}

async fn set_finalization(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["fails"])?;
    let fails = read.flag("fails", None);
    read.finish()?;
    let of = (kind::CUSTOMER, id.as_str());
    Ok(act(&core, "customers.finalization", of, |tx| {
        let mut customer = list::get(tx, kind::CUSTOMER, "customer", &id)?.clone();
        customer["_finalization_fails"] = json!(fails);
        tx.put(kind::CUSTOMER, customer.clone());
        Ok(customer)
    }))
}

async fn set_bank(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["declines"])?;
    let declines = read.flag("declines", None);
    read.finish()?;
    let of = (kind::CUSTOMER, id.as_str());
    Ok(act(&core, "customers.bank", of, |tx| {
        let mut customer = list::get(tx, kind::CUSTOMER, "customer", &id)?.clone();
        customer["_bank_declines"] = json!(declines);
        tx.put(kind::CUSTOMER, customer.clone());
        Ok(customer)
    }))
}

async fn generate_lives(State(core): State<Arc<Core>>, body: Bytes) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &generate::FIELDS)?;
    let customers = read.number("customers", 1, generate::MOST_CUSTOMERS);
    let events = read.number("events", 1, generate::MOST_EVENTS);
    for (name, value) in [("customers", customers), ("events", events)] {
        if value.is_none() && read.given(name).is_none() {
            read.wrong(name, "is required");
        }
    }
    let seed = read.number("seed", 0, generate::MOST_SEED);
    let deliver = read.flag("deliver", Some(true));
    let owners = generate::read_owners(&read.body);
    let owners = owners.unwrap_or_else(|mut wrong| {
        read.errors.append(&mut wrong);
        Vec::new()
    });
    let metadata = generate::read_metadata(&read.body);
    let metadata = metadata.unwrap_or_else(|mut wrong| {
        read.errors.append(&mut wrong);
        Map::new()
    });
    read.finish()?;
    let plan = generate::Plan {
        customers: customers.unwrap_or(1),
        events: events.unwrap_or(1),
        seed: seed.unwrap_or_else(|| rand::random_range(0..=generate::MOST_SEED)),
        deliver,
        metadata,
        owners,
    };
    // Seconds of work: not on a thread that serves requests.
    let work = tokio::task::spawn_blocking(move || generate::generate(&core, &plan));
    Ok(match work.await {
        Ok(Ok(made)) => Json(made).into_response(),
        Ok(Err(error)) => broken(&error),
        Err(error) => broken(&std::io::Error::other(error)),
    })
}
