//! Owns Resend's API: mail that goes out, under idempotency keys, and the webhooks about it. `webhook`: those.
//!
//! Deliberately absent: batches, scheduling, domains, contacts. An account is registered by `POST /_/resend/accounts
//! {api_key, webhook_url?, webhook_secret?}`; it may send from any address.

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
use crate::door::{
    self, Call, Key, KeyConflict, Operation, Provider, RETRY_AFTER_SECONDS, Reply, Request,
};
use crate::email::{self, Fate};
use crate::store::{Origin, Tx, World};
use crate::{idempotency, ids, webhooks};

pub(crate) use webhook::target;

pub(crate) const NAME: &str = "resend";
pub(crate) const ACCOUNT: &str = "resend.account";
pub(crate) const EMAIL: &str = "resend.email";

const MOST_RECEIVERS: usize = 50;
const LONGEST_KEY: usize = 256;

pub(crate) struct Resend;

impl Provider for Resend {
    const NAME: &'static str = NAME;
    const OPERATIONS: &'static [&'static [Operation]] = &[&[
        Operation {
            method: "POST",
            path: "/emails",
            name: "emails.send",
            run: send,
        },
        Operation {
            method: "GET",
            path: "/emails/{id}",
            name: "emails.get",
            run: get,
        },
    ]];

    fn authenticate(world: &World, request: &Request) -> Result<Value, Reply> {
        let Some(key) = request.bearer() else {
            return Err(error(
                401,
                "missing_api_key",
                "Missing API key in the authorization header",
            ));
        };
        let account = world.get(ACCOUNT, &ids::of_key("ra", &key));
        account
            .cloned()
            .ok_or_else(|| error(403, "invalid_api_key", "API key is invalid"))
    }

    fn no_such_path(_: &Request) -> Reply {
        error(404, "not_found", "The requested endpoint does not exist.")
    }

    fn refusal(status: u16) -> Reply {
        match status {
            401 => error(status, "missing_api_key", "Missing API key in the authorization header"),
            403 => error(status, "invalid_api_key", "API key is invalid"),
            409 => Self::key_conflict(KeyConflict::InFlight),
            422 => error(status, "validation_error", "Injected fault"),
            429 => error(
                status,
                "rate_limit_exceeded",
                "Too many requests. You can only make 2 requests per second. See rate limit response headers for more \
                 information.",
            )
            .with("retry-after", RETRY_AFTER_SECONDS)
            .with("ratelimit-limit", "2")
            .with("ratelimit-remaining", "0")
            .with("ratelimit-reset", RETRY_AFTER_SECONDS),
            400..=499 => error(status, "validation_error", "Injected fault"),
            _ => error(
                status,
                "internal_server_error",
                "An unexpected error occurred. Please try again later.",
            ),
        }
    }

    fn key(
        operation: &Operation,
        request: &Request,
        account: &Value,
    ) -> Result<Option<Key>, Reply> {
        let Some(key) = request.headers.get("idempotency-key") else {
            return Ok(None);
        };
        if operation.name != "emails.send" {
            return Ok(None);
        }
        let key = String::from_utf8_lossy(key.as_bytes());
        if !(1..=LONGEST_KEY).contains(&key.chars().count()) {
            let message = "The idempotency key must be between 1-256 chars.";
            return Err(error(400, "invalid_idempotency_key", message));
        }
        let body = match serde_json::from_slice::<Value>(&request.body) {
            Ok(mut body) => {
                body.sort_all_objects();
                body.to_string().into_bytes()
            }
            Err(_) => request.body.to_vec(),
        };
        Ok(Some(Key {
            key: format!("{NAME}:{}:{key}", text(account, "id")),
            fingerprint: idempotency::fingerprint([body.as_slice()]),
        }))
    }

    fn key_conflict(conflict: KeyConflict) -> Reply {
        match conflict {
            KeyConflict::InFlight => error(
                409,
                "concurrent_idempotent_requests",
                "Another request with this idempotency key is still in progress",
            ),
            KeyConflict::OtherRequest => error(
                409,
                "invalid_idempotent_request",
                "This idempotency key has been used on another request. Try changing your payload, or use a different \
                 idempotency key.",
            ),
        }
    }
}

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new().fallback(
        |State(core): State<Arc<Core>>, request: http::Request<Body>| {
            door::handle::<Resend>(core, request)
        },
    )
}

fn error(status: u16, name: &str, message: impl Into<String>) -> Reply {
    let message = message.into();
    Reply::json(
        status,
        &json!({ "statusCode": status, "name": name, "message": message }),
    )
}

fn invalid(message: impl Into<String>) -> Reply {
    error(422, "validation_error", message)
}

fn text<'o>(object: &'o Value, name: &str) -> &'o str {
    object[name].as_str().unwrap_or_default()
}

/// A time as Resend's API writes it: `2026-11-21 08:00:00.000000+00`.
fn written(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .format("%Y-%m-%d %H:%M:%S.000000+00")
        .to_string()
}

/// One address or several, as they were given.
fn addresses(body: &Map<String, Value>, name: &str) -> Result<Vec<String>, Reply> {
    let given: Vec<Option<&str>> = match body.get(name) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![Some(one)],
        Some(Value::Array(many)) => many.iter().map(Value::as_str).collect(),
        Some(_) => vec![None],
    };
    if given.len() > MOST_RECEIVERS {
        return Err(invalid(format!(
            "The `{name}` field must contain at most {MOST_RECEIVERS} addresses."
        )));
    }
    given
        .into_iter()
        .map(|one| {
            let one = one.filter(|one| email::address(one).is_some());
            one.map(str::to_owned).ok_or_else(|| {
                invalid(format!(
                    "Invalid `{name}` field. The email address needs to follow the `email@example.com` or `Name \
                     <email@example.com>` format."
                ))
            })
        })
        .collect()
}

fn send(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let body = match serde_json::from_slice(&call.request.body) {
        Ok(Value::Object(body)) => body,
        _ => {
            return Err(error(
                400,
                "validation_error",
                "The request body is not valid JSON.",
            ));
        }
    };
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    for name in ["from", "to", "subject"] {
        if given(name).is_none() {
            let message = format!("Missing `{name}` field.");
            return Err(error(422, "missing_required_field", message));
        }
    }
    if given("html").is_none() && given("text").is_none() {
        return Err(invalid("Missing `html` or `text` field."));
    }
    for name in ["from", "subject", "html", "text"] {
        if given(name).is_some_and(|value| !value.is_string()) {
            return Err(invalid(format!("The `{name}` field must be a `string`.")));
        }
    }
    if given("scheduled_at").is_some() {
        return Err(invalid("The simulator schedules nothing."));
    }
    addresses(&body, "from")?;
    let (to, cc, bcc) = (
        addresses(&body, "to")?,
        addresses(&body, "cc")?,
        addresses(&body, "bcc")?,
    );
    if to.is_empty() {
        return Err(error(422, "missing_required_field", "Missing `to` field."));
    }
    let reply_to = addresses(&body, "reply_to")?;
    let tags = tags(given("tags"))?;
    let headers = given("headers").cloned().unwrap_or_else(|| json!({}));
    let plain = |headers: &Map<String, Value>| headers.values().all(Value::is_string);
    if !headers.as_object().is_some_and(plain) {
        return Err(invalid("The `headers` field must be an object of strings."));
    }
    let id = ids::uuid();
    let field = |name: &str| given(name).cloned().unwrap_or(Value::Null);
    let email = json!({
        "object": "email",
        "id": id,
        "to": to,
        "from": field("from"),
        "created_at": written(tx.now),
        "subject": field("subject"),
        "html": field("html"),
        "text": field("text"),
        "bcc": bcc,
        "cc": cc,
        "reply_to": reply_to,
        "last_event": "queued",
        "scheduled_at": null,
        "tags": tags,
        "headers": headers,
        "_account": call.account["id"],
        "_created": tx.now,
        "_due_at": tx.now,
        "_operation": tx.origin.operation,
        "_traceparent": tx.origin.traceparent,
    });
    tx.put(EMAIL, email);
    Ok(Reply::json(200, &json!({ "id": id })))
}

/// `[{name, value}]`, both of letters, digits, `_` and `-`.
fn tags(given: Option<&Value>) -> Result<Value, Reply> {
    let Some(given) = given else {
        return Ok(json!([]));
    };
    let plain = |text: Option<&str>| {
        text.is_some_and(|text| {
            !text.is_empty()
                && text.len() <= 256
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        })
    };
    let tag = |tag: &Value| plain(tag["name"].as_str()) && plain(tag["value"].as_str());
    if given.as_array().is_some_and(|tags| tags.iter().all(tag)) {
        return Ok(given.clone());
    }
    Err(invalid(
        "Tags should only contain ASCII letters, numbers, underscores, or dashes.",
    ))
}

fn get(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let email = tx
        .get(EMAIL, &call.ids[0])
        .filter(|email| email["_account"] == call.account["id"]);
    let email = email.ok_or_else(|| error(404, "not_found", "Email not found"))?;
    Ok(Reply::json(200, email))
}

/// What happens behind the answer: sent, then what becomes of it at each receiver. A delayed one comes up again.
pub(crate) fn due(tx: &mut Tx<'_>, id: &str) {
    let Some(mut email) = tx.get(EMAIL, id).cloned() else {
        return;
    };
    let delayed_before = email["last_event"] == "delivery_delayed";
    email["_due_at"] = Value::Null;
    let receivers: Vec<String> = ["to", "cc", "bcc"]
        .iter()
        .filter_map(|name| email[*name].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if !delayed_before {
        webhook::tell(tx, &mut email, "sent", None);
    }
    let mut wait = false;
    for receiver in &receivers {
        let address = email::address(receiver).unwrap_or(receiver);
        let fate = email::fate(address);
        match fate {
            _ if delayed_before && fate != Fate::Delayed => {}
            Fate::Bounced => webhook::tell(tx, &mut email, "bounced", Some((receiver, "General"))),
            Fate::Suppressed => {
                webhook::tell(tx, &mut email, "bounced", Some((receiver, "Suppressed")));
            }
            Fate::Delayed if !delayed_before => {
                webhook::tell(tx, &mut email, "delivery_delayed", Some((receiver, "")));
                wait = true;
            }
            Fate::Delivered | Fate::Complained | Fate::Delayed | Fate::Unsubscribed => {
                webhook::tell(tx, &mut email, "delivered", Some((receiver, "")));
                email::deliver(tx, NAME, &email, address);
            }
        }
        if fate == Fate::Complained && !delayed_before {
            webhook::tell(tx, &mut email, "complained", Some((receiver, "")));
        }
    }
    if wait {
        email["last_event"] = json!("delivery_delayed");
        email["_due_at"] = json!(tx.now + email::DELAY_SECONDS);
    }
    tx.put(EMAIL, email);
}

pub(crate) fn control() -> Router<Arc<Core>> {
    Router::new().route("/accounts", post(register))
}

async fn register(State(core): State<Arc<Core>>, body: Bytes) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["api_key", "webhook_url", "webhook_secret"])?;
    let key = read.require_text("api_key");
    let (url, secret) = (read.url("webhook_url"), read.text("webhook_secret"));
    if secret.as_deref().is_some_and(|s| webhook::key(s).is_none()) {
        read.wrong("webhook_secret", "must be whsec_ and base64");
    }
    if url.is_some() && secret.is_none() {
        read.wrong("webhook_secret", "is required with webhook_url");
    }
    read.finish()?;
    let id = ids::of_key("ra", &key);
    let committed = core.commit(|world| {
        let mut tx = Tx::new(world, world.now(), Origin::default());
        tx.put(ACCOUNT, json!({ "id": id, "_url": url, "_secret": secret }));
        let mut record = tx.into_record();
        record.settled = webhooks::due_now(world, &id);
        (record, ())
    });
    Ok(match committed {
        Ok(()) => Json(json!({ "id": id, "webhook_url": url })).into_response(),
        Err(error) => broken(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_once_and_no_pattern_hides_another() {
        door::check_operations::<Resend>();
    }
}
