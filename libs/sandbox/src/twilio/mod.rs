//! Owns Twilio's API as its version 2010-04-01 speaks it. In reading order:
//!
//! - `errors`, `params`, `page`: the encoding. `magic`: numbers that fail on purpose.
//! - one file per resource, each with its `OPERATIONS`: `message`, `call`, `number`.
//! - `opt_out`: what Twilio does by itself when somebody writes STOP. `twiml`: what a webhook may answer.
//! - `callback`: webhooks, how they are told and how patiently. `control`: people who write and call; the ledger.
//!
//! Deliberately absent: sub-accounts, API keys, scheduling, the Messaging Services API (a number says at its registration
//! to which service it belongs), carriers' rates and queues: what is accepted leaves at once.

mod call;
mod callback;
mod control;
mod dates;
mod errors;
mod magic;
mod message;
mod number;
mod opt_out;
mod page;
mod params;
mod twiml;
mod verb;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use serde_json::{Value, json};

use crate::core::Core;
use crate::door::{self, Call, Credentials, Operation, Provider, Reply, Request};
use crate::ids;
use crate::store::{Tx, World};
use errors::error;

pub(crate) use callback::{answered, target};
pub(crate) use control::{inbound, router as control};

pub(crate) const NAME: &str = "twilio";
pub(crate) const API_VERSION: &str = "2010-04-01";

/// The kinds of object in the store.
pub(crate) const ACCOUNT: &str = "twilio.account";
pub(crate) const NUMBER: &str = "twilio.number";
pub(crate) const MESSAGE: &str = "twilio.message";
pub(crate) const CALL: &str = "twilio.call";
pub(crate) const OPT_OUT: &str = "twilio.opt_out";

pub(crate) struct Twilio;

impl Provider for Twilio {
    const NAME: &'static str = NAME;
    const OPERATIONS: &'static [&'static [Operation]] = &[
        &[Operation {
            method: "GET",
            path: "/2010-04-01/Accounts/{Sid}.json",
            name: "accounts.fetch",
            run: fetch_account,
        }],
        message::OPERATIONS,
        call::OPERATIONS,
        number::OPERATIONS,
    ];

    fn authenticate(world: &World, request: &Request) -> Result<Value, Reply> {
        let Some(Credentials::Basic { user, password }) = door::credentials(&request.headers)
        else {
            return Err(errors::unauthorized());
        };
        let account = world
            .get(ACCOUNT, &user)
            .filter(|account| account["_token"] == *password);
        // The credentials of one account open no other.
        let named = request.path.split('/').nth(3).unwrap_or_default();
        match account {
            Some(account) if named.strip_suffix(".json").unwrap_or(named) == user => {
                Ok(account.clone())
            }
            _ => Err(errors::unauthorized()),
        }
    }

    fn no_such_path(request: &Request) -> Reply {
        errors::not_found(&request.path)
    }

    fn refusal(status: u16) -> Reply {
        errors::refusal(status)
    }

    fn sign_off(reply: Reply) -> Reply {
        let reply = reply.with("twilio-request-id", ids::twilio("RQ"));
        reply.with("twilio-concurrent-requests", "1")
    }
}

pub(crate) fn router() -> axum::Router<Arc<Core>> {
    axum::Router::new().fallback(
        |State(core): State<Arc<Core>>, request: http::Request<Body>| {
            door::handle::<Twilio>(core, request)
        },
    )
}

fn fetch_account(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let sid = sid(call.account);
    let created = call.account["_created"].as_i64().unwrap_or(tx.now);
    Ok(Reply::json(
        200,
        &json!({
            "sid": sid,
            "friendly_name": sid,
            "status": "active",
            "type": "Full",
            "owner_account_sid": sid,
            "date_created": rfc2822(created),
            "date_updated": rfc2822(created),
            "uri": format!("/{API_VERSION}/Accounts/{sid}.json"),
        }),
    ))
}

/// The time of an object of Twilio's has come.
pub(crate) fn due(tx: &mut Tx<'_>, of_kind: &str, id: &str) {
    let Some(mut object) = tx.get(of_kind, id).cloned() else {
        return;
    };
    object["_due_at"] = Value::Null;
    match of_kind {
        MESSAGE => message::due(tx, object),
        CALL => call::due(tx, object),
        // An object that nothing plans must not come up for ever.
        _ => tx.put(of_kind, object),
    }
}

fn sid(object: &Value) -> &str {
    object["sid"].as_str().unwrap_or_default()
}

fn text<'o>(object: &'o Value, name: &str) -> &'o str {
    object[name].as_str().unwrap_or_default()
}

/// Of an account, by the path that its resources have.
fn uri(account: &str, resource: &str) -> String {
    format!("/{API_VERSION}/Accounts/{account}/{resource}.json")
}

/// A time as Twilio writes it: `Thu, 24 Aug 2023 05:01:45 +0000`.
fn rfc2822(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .format("%a, %d %b %Y %H:%M:%S +0000")
        .to_string()
}

/// An object of the account, by its sid in the path.
fn find<'t>(tx: &'t Tx<'_>, call: &Call<'_>, kind: &str) -> Result<&'t Value, Reply> {
    let id = call.ids.get(1).map_or("", String::as_str);
    tx.get(kind, id)
        .filter(|object| object["account_sid"] == call.account["sid"])
        .ok_or_else(|| errors::not_found(&call.request.path))
}

/// A number of whichever account, as the telephone network finds it.
fn number<'t>(tx: &'t Tx<'_>, phone_number: &str) -> Option<&'t Value> {
    let by = crate::store::By::field("phone_number", phone_number);
    tx.select(NUMBER, by.as_ref(), |_| true).into_iter().next()
}

fn is_e164(number: &str) -> bool {
    number.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|digit| digit.is_ascii_digit())
    })
}

fn is_url(text: &str) -> bool {
    crate::stripe::webhook_endpoint::check_url(text.split('#').next().unwrap_or_default()).is_ok()
}

fn invalid_url(name: &str, url: &str) -> Reply {
    error(
        400,
        21609,
        format!("The {name} URL {url} is not a valid URL."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_once_and_no_pattern_hides_another() {
        door::check_operations::<Twilio>();
    }

    #[test]
    fn times_are_written_as_twilio_writes_them() {
        assert_eq!(rfc2822(1_692_853_305), "Thu, 24 Aug 2023 05:01:45 +0000");
    }
}
