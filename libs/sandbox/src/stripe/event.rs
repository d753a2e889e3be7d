//! Owns events: their making as part of a transaction, and `/v1/events`.
//!
//! Deliberately absent: delivery, which is `crate::webhooks`; an event exists whether or not anyone listens.

use std::ops::Bound;

use serde::Serialize;
use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, Cursor, Window, list_parameters};
use super::{API_VERSION, Call, Operation, Public, kind, operation, public};
use crate::store::{EventRecord, Moment, Told, Tx};

/// How long Stripe tells of an event.
const KEPT_SECONDS: i64 = 30 * 86_400;

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "GET",
        "/v1/events",
        "events.list",
        list_parameters!("type", "types[]", "delivery_success"),
        list_events,
    ),
    operation("GET", "/v1/events/{id}", "events.retrieve", &[], retrieve),
];

/// An event as it is told, written without a copy of its object.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    object: &'static str,
    api_version: &'static str,
    created: i64,
    data: Data<'a>,
    livemode: bool,
    pending_webhooks: usize,
    request: Request<'a>,
    #[serde(rename = "type")]
    event_type: &'a str,
}

#[derive(Serialize)]
struct Data<'a> {
    object: Public<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_attributes: Option<&'a Value>,
}

#[derive(Serialize)]
struct Request<'a> {
    id: Option<&'a str>,
    idempotency_key: Option<&'a str>,
}

/// Records that something happened to `object`, with the attributes' former values where it was a change.
pub(super) fn emit(tx: &mut Tx<'_>, event_type: &str, object: &Value, previous: Option<Value>) {
    let id = crate::ids::stripe("evt");
    let listening = tx
        .world()
        .oldest_first(kind::WEBHOOK_ENDPOINT)
        .filter_map(|endpoint| endpoint["enabled_events"].as_array())
        .filter(|types| {
            types
                .iter()
                .any(|wanted| wanted == "*" || wanted == event_type)
        })
        .count();
    let body = super::text(&Body {
        id: &id,
        object: "event",
        api_version: API_VERSION,
        created: tx.now,
        data: Data {
            object: Public(object),
            previous_attributes: previous.as_ref(),
        },
        livemode: false,
        pending_webhooks: listening,
        request: Request {
            id: tx.origin.request_id.as_deref(),
            idempotency_key: tx.origin.idempotency_key.as_deref(),
        },
        event_type,
    });
    tx.event(EventRecord {
        id,
        event_type: event_type.to_owned(),
        created: tx.now,
        recorded: None,
        provider: super::NAME.to_owned(),
        endpoint: None,
        url: None,
        operation: tx.origin.operation.clone(),
        traceparent: tx.origin.traceparent.clone(),
        body: body.into(),
    });
}

/// Stages a changed object and its `updated` event, unless nothing changed.
pub(super) fn put_updated(tx: &mut Tx<'_>, kind: &str, event_type: &str, after: Value) {
    let id = after["id"].as_str().unwrap_or_default();
    let previous = tx
        .get(kind, id)
        .map(|before| changed_attributes(before, &after));
    let changed = previous
        .as_ref()
        .is_none_or(|previous| previous.as_object().is_some_and(|p| !p.is_empty()));
    tx.put(kind, after.clone());
    if changed {
        emit(tx, event_type, &after, previous);
    }
}

fn changed_attributes(before: &Value, after: &Value) -> Value {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
        return json!({});
    };
    let changed = before
        .iter()
        .filter(|(name, value)| !name.starts_with('_') && after.get(*name) != Some(value));
    Value::Object(
        changed
            .map(|(name, value)| (name.clone(), public(value)))
            .collect(),
    )
}

fn parse(record: &EventRecord, pending: usize) -> Value {
    let mut event: Value = serde_json::from_str(&record.body).unwrap_or_default();
    event["pending_webhooks"] = json!(pending);
    event
}

fn retrieve(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let horizon = tx.world().now() - KEPT_SECONDS;
    let record = tx
        .world()
        .event(call.id)
        .filter(|record| record.kept_from() > horizon && record.provider == super::NAME)
        .ok_or_else(|| StripeError::no_such("event", call.id, "id"))?;
    Ok(parse(&record, tx.world().pending_deliveries(call.id)))
}

/// Newest first by the second at which they happened. Bodies are parsed for the page only.
fn list_events(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let window = Window::read(call)?;
    let one = call.params.text("type")?;
    let many = call.params.texts("types")?;
    let delivered = call.params.boolean("delivery_success")?;
    let world = tx.world();
    let horizon = world.now() - KEPT_SECONDS;
    let wanted = |told: &Told<'_>| {
        let event_type = told.record.event_type.as_str();
        one.is_none_or(|pattern| covers(pattern, event_type))
            && (many.is_empty() || many.iter().any(|pattern| covers(pattern, event_type)))
            && delivered.is_none_or(|d| d == (told.outstanding == 0 && !told.given_up))
            && told.record.kept_from() > horizon
            && told.record.provider == super::NAME
    };
    let place = |id: &str, param: &str| {
        let moment = world.moment(id);
        moment.ok_or_else(|| list::no_cursor(call, id, param))
    };
    let (first, last) = ((window.least, u64::MIN), (window.most, u64::MAX));
    let (page, has_more) = match window.cursor {
        Cursor::Before(id) => {
            let above = place(id, "ending_before")?.max((window.least, u64::MIN));
            let younger = between(Bound::Excluded(above), Bound::Included(last));
            let younger = younger.into_iter().flat_map(|range| world.events(range));
            let (mut page, has_more) = window.take(younger.filter(wanted));
            page.reverse();
            (page, has_more)
        }
        cursor => {
            let last = match cursor {
                Cursor::After(id) => {
                    let below = place(id, "starting_after")?;
                    if below <= last {
                        Bound::Excluded(below)
                    } else {
                        Bound::Included(last)
                    }
                }
                _ => Bound::Included(last),
            };
            let older = between(Bound::Included(first), last);
            let older = older
                .into_iter()
                .flat_map(|range| world.events(range).rev());
            window.take(older.filter(wanted))
        }
    };
    let data = page.iter().map(|told| parse(told.record, told.outstanding));
    Ok(list::answer(call, data.collect(), has_more))
}

/// A range of moments, unless there is nothing between its ends (which a map would not forgive).
fn between(from: Bound<Moment>, to: Bound<Moment>) -> Option<(Bound<Moment>, Bound<Moment>)> {
    let moment = |bound: &Bound<Moment>| match bound {
        Bound::Included(moment) | Bound::Excluded(moment) => Some(*moment),
        Bound::Unbounded => None,
    };
    (moment(&from) < moment(&to)).then_some((from, to))
}

/// `invoice.*` covers `invoice.paid`.
fn covers(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => pattern == event_type,
    }
}
