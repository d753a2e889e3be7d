//! Owns SendGrid's Mail Send, and the Event Webhook about it. `webhook`: that.
//!
//! Deliberately absent: templates, the search for messages, suppression groups, and idempotency keys, which SendGrid does
//! not have. An account is registered by `POST /_/sendgrid/accounts {api_key, webhook_url?}`, whose answer has the
//! `public_key` of its webhook; it may send from any address.

mod webhook;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::control::{Reader, Refused, broken};
use crate::core::Core;
use crate::door::{self, Call, Operation, Provider, RETRY_AFTER_SECONDS, Reply, Request};
use crate::email::{self, Fate};
use crate::store::{Origin, Tx, World};
use crate::{ids, webhooks};

pub(crate) use webhook::target;

pub(crate) const NAME: &str = "sendgrid";
pub(crate) const ACCOUNT: &str = "sendgrid.account";
pub(crate) const MAIL: &str = "sendgrid.mail";

const MOST_RECEIVERS: usize = 1_000;

pub(crate) struct SendGrid;

impl Provider for SendGrid {
    const NAME: &'static str = NAME;
    const OPERATIONS: &'static [&'static [Operation]] = &[&[Operation {
        method: "POST",
        path: "/v3/mail/send",
        name: "mail.send",
        run: send,
    }]];

    fn authenticate(world: &World, request: &Request) -> Result<Value, Reply> {
        let Some(key) = request.bearer() else {
            return Err(error(401, None, "Permission denied, wrong credentials"));
        };
        let account = world.get(ACCOUNT, &ids::of_key("sa", &key));
        account.cloned().ok_or_else(unauthorized)
    }

    fn no_such_path(_: &Request) -> Reply {
        error(404, None, "Resource not found")
    }

    fn refusal(status: u16) -> Reply {
        match status {
            401 => unauthorized(),
            403 => error(403, None, "access forbidden"),
            413 => error(413, None, "request body is too large"),
            429 => error(429, None, "too many requests")
                .with("x-ratelimit-limit", "600")
                .with("x-ratelimit-remaining", "0")
                .with("x-ratelimit-reset", RETRY_AFTER_SECONDS),
            400..=499 => error(status, None, "injected fault"),
            _ => error(status, None, "internal server error"),
        }
    }
}

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new().fallback(
        |State(core): State<Arc<Core>>, request: http::Request<Body>| {
            door::handle::<SendGrid>(core, request)
        },
    )
}

fn error(status: u16, field: Option<&str>, message: &str) -> Reply {
    let help = field.map(|field| {
        format!(
            "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message.{field}"
        )
    });
    let one = json!({ "message": message, "field": field, "help": help });
    Reply::json(status, &json!({ "errors": [one] }))
}

fn unauthorized() -> Reply {
    let message = "The provided authorization grant is invalid, expired, or revoked";
    error(401, None, message)
}

fn text<'o>(object: &'o Value, name: &str) -> &'o str {
    object[name].as_str().unwrap_or_default()
}

/// Someone who gets the mail, with what is to be repeated about it in its events.
fn receivers(body: &Value, own: &Map<String, Value>) -> Result<Vec<Value>, Reply> {
    let personalizations = body["personalizations"].as_array();
    let personalizations = personalizations.filter(|some| !some.is_empty()).ok_or_else(|| {
        let message = "The personalizations field is required and must have at least one personalization.";
        error(400, Some("personalizations"), message)
    })?;
    let mut receivers = Vec::new();
    for (at, one) in personalizations.iter().enumerate() {
        let here = format!("personalizations.{at}.to");
        if one["to"].as_array().is_none_or(Vec::is_empty) {
            let message = "The to array is required for all personalization objects, and must have at least one email \
                           object with a valid email address.";
            return Err(error(400, Some(&here), message));
        }
        let mut args = own.clone();
        args.extend(arguments(&one["custom_args"])?);
        let named = ["to", "cc", "bcc"]
            .iter()
            .filter_map(|name| one[*name].as_array());
        for receiver in named.flatten() {
            let address = receiver["email"].as_str();
            let address = address.filter(|text| email::address(text) == Some(text));
            let Some(address) = address else {
                return Err(error(400, Some(&here), "Does not contain a valid address."));
            };
            receivers
                .push(json!({ "email": address, "custom_args": args, "subject": one["subject"] }));
        }
    }
    if receivers.len() > MOST_RECEIVERS {
        let message = "The total number of recipients must be less than 1000.";
        return Err(error(400, Some("personalizations"), message));
    }
    Ok(receivers)
}

fn arguments(given: &Value) -> Result<Map<String, Value>, Reply> {
    match given {
        Value::Null => Ok(Map::new()),
        Value::Object(args) if args.values().all(Value::is_string) => Ok(args.clone()),
        _ => {
            let message = "Custom args must be an object of strings.";
            Err(error(400, Some("custom_args"), message))
        }
    }
}

fn send(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let Ok(body) = serde_json::from_slice::<Value>(&call.request.body) else {
        return Err(error(400, None, "Bad Request"));
    };
    let receivers = receivers(&body, &arguments(&body["custom_args"])?)?;
    let from = text(&body["from"], "email");
    if email::address(from) != Some(from) {
        let message = "The from object must be provided for every email send. It is an object that requires the email \
                       parameter, but may also contain a name parameter.";
        return Err(error(400, Some("from.email"), message));
    }
    let subject = |one: &Value| one["subject"].as_str().is_some_and(|s| !s.is_empty());
    if !subject(&body) && !receivers.iter().all(subject) {
        let message = "The subject is required. You can get around this requirement if you use a template with a subject \
                       defined or if every personalization has a subject defined.";
        return Err(error(400, Some("subject"), message));
    }
    let content = body["content"].as_array().filter(|content| {
        let whole = |one: &Value| one["type"].is_string() && !text(one, "value").is_empty();
        !content.is_empty() && content.iter().all(whole)
    });
    let Some(content) = content else {
        let message = "Unless a valid template_id is provided, the content parameter is required. There must be at least \
                       one defined content block.";
        return Err(error(400, Some("content"), message));
    };
    if body["mail_settings"]["sandbox_mode"]["enable"] == true {
        return Ok(Reply::empty(200));
    }
    let part = |kind: &str| {
        let found = content.iter().find(|one| one["type"] == kind);
        found.map_or(Value::Null, |one| one["value"].clone())
    };
    let id = ids::random(22);
    let first = &receivers[0]["subject"];
    let to: Vec<&str> = receivers.iter().map(|one| text(one, "email")).collect();
    let mail = json!({
        "id": id,
        "from": from,
        "to": to,
        "subject": if subject(&body) { &body["subject"] } else { first },
        "text": part("text/plain"),
        "html": part("text/html"),
        "headers": body["headers"],
        "categories": body["categories"],
        "last_event": "queued",
        "_receivers": receivers,
        "_account": call.account["id"],
        "_created": tx.now,
        "_due_at": tx.now,
        "_operation": tx.origin.operation,
        "_traceparent": tx.origin.traceparent,
    });
    tx.put(MAIL, mail);
    Ok(Reply::empty(202).with("x-message-id", id))
}

/// What happens behind the answer: processed, then what becomes of it at each receiver, in a batch. What is deferred comes
/// up again.
pub(crate) fn due(tx: &mut Tx<'_>, id: &str) {
    let Some(mut mail) = tx.get(MAIL, id).cloned() else {
        return;
    };
    let deferred_before = mail["last_event"] == "deferred";
    mail["_due_at"] = Value::Null;
    let receivers = mail["_receivers"].as_array().cloned().unwrap_or_default();
    let fate = |receiver: &Value| email::fate(text(receiver, "email"));
    if !deferred_before {
        let taken = receivers.iter().filter(|one| fate(one) != Fate::Suppressed);
        let batch = taken.map(|one| webhook::event(tx, &mail, one, "processed"));
        let batch: Vec<Value> = batch.collect();
        webhook::tell(tx, &mut mail, batch);
    }
    let mut batch = Vec::new();
    let mut wait = false;
    for receiver in &receivers {
        let fate = fate(receiver);
        if deferred_before && fate != Fate::Delayed {
            continue;
        }
        let told: &[&str] = match fate {
            Fate::Delivered => &["delivered"],
            Fate::Bounced => &["bounce"],
            Fate::Complained => &["delivered", "spamreport"],
            Fate::Unsubscribed => &["delivered", "unsubscribe"],
            Fate::Suppressed => &["dropped"],
            Fate::Delayed if deferred_before => &["delivered"],
            Fate::Delayed => {
                wait = true;
                &["deferred"]
            }
        };
        for what in told {
            batch.push(webhook::event(tx, &mail, receiver, what));
        }
        if told.contains(&"delivered") {
            let mut own = mail.clone();
            if receiver["subject"].is_string() {
                own["subject"] = receiver["subject"].clone();
            }
            email::deliver(tx, NAME, &own, text(receiver, "email"));
        }
    }
    webhook::tell(tx, &mut mail, batch);
    if wait {
        mail["last_event"] = json!("deferred");
        mail["_due_at"] = json!(tx.now + email::DELAY_SECONDS);
    }
    tx.put(MAIL, mail);
}

pub(crate) fn control() -> Router<Arc<Core>> {
    Router::new().route("/accounts", post(register))
}

async fn register(State(core): State<Arc<Core>>, body: Bytes) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["api_key", "webhook_url"])?;
    let (key, url) = (read.require_text("api_key"), read.url("webhook_url"));
    read.finish()?;
    let id = ids::of_key("sa", &key);
    let fresh = webhook::KeyPair::generate();
    let committed = core.commit(|world| {
        let mut tx = Tx::new(world, world.now(), Origin::default());
        // Whoever registers at every start has one key for good.
        let kept = tx.get(ACCOUNT, &id).and_then(webhook::KeyPair::of);
        let keys = kept.unwrap_or(fresh);
        let account =
            json!({ "id": id, "_url": url, "_key": keys.private, "public_key": keys.public });
        tx.put(ACCOUNT, account);
        let mut record = tx.into_record();
        record.settled = webhooks::due_now(world, &id);
        (record, keys.public)
    });
    Ok(match committed {
        Ok(public) => {
            Json(json!({ "id": id, "webhook_url": url, "public_key": public })).into_response()
        }
        Err(error) => broken(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_once_and_no_pattern_hides_another() {
        door::check_operations::<SendGrid>();
    }
}
