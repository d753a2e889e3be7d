//! Owns events: their making as part of a transaction, and `/v1/events`.
//!
//! Deliberately absent: delivery, which is `crate::webhooks`; an event exists whether or not anyone listens.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, list_parameters};
use super::{API_VERSION, Call, Operation, kind, operation, public};
use crate::store::{EventRecord, Tx};

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

/// Records that something happened to `object`, with the attributes' former values where it was a change.
pub(super) fn emit(tx: &mut Tx<'_>, event_type: &str, object: &Value, previous: Option<Value>) {
    let id = crate::ids::stripe("evt");
    let mut data = json!({ "object": public(object) });
    if let Some(previous) = previous {
        data["previous_attributes"] = previous;
    }
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
    let body = json!({
        "id": id,
        "object": "event",
        "api_version": API_VERSION,
        "created": tx.now,
        "data": data,
        "livemode": false,
        "pending_webhooks": listening,
        "request": { "id": tx.origin.request_id, "idempotency_key": tx.origin.idempotency_key },
        "type": event_type,
    });
    tx.event(EventRecord {
        id,
        event_type: event_type.to_owned(),
        created: tx.now,
        operation: tx.origin.operation.clone(),
        traceparent: tx.origin.traceparent.clone(),
        body: body.to_string().into(),
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
    let record = tx
        .world()
        .event(call.id)
        .ok_or_else(|| StripeError::no_such("event", call.id, "id"))?;
    Ok(parse(&record, tx.world().pending_deliveries(call.id)))
}

fn list_events(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let one = call.params.text("type")?;
    let many = call.params.texts("types")?;
    let delivered = call.params.boolean("delivery_success")?;
    let wanted_type = |event_type: &str| {
        one.is_none_or(|pattern| covers(pattern, event_type))
            && (many.is_empty() || many.iter().any(|pattern| covers(pattern, event_type)))
    };
    // Headers first, bodies only for the page: parsing every event of the day for ten of them would be a waste.
    let headers: Vec<Value> = tx
        .world()
        .events()
        .rev()
        .map(|(event, pending, given_up)| {
            let wanted = wanted_type(&event.event_type)
                && delivered.is_none_or(|d| d == (pending == 0 && !given_up));
            json!({ "id": event.id, "created": event.created, "_wanted": wanted })
        })
        .collect();
    let mut page = list::page(call, headers.iter(), |header| header["_wanted"] == true)?;
    if let Some(data) = page["data"].as_array_mut() {
        for header in data {
            let id = header["id"].as_str().unwrap_or_default().to_owned();
            if let Some(record) = tx.world().event(&id) {
                *header = parse(&record, tx.world().pending_deliveries(&id));
            }
        }
    }
    Ok(page)
}

/// `invoice.*` covers `invoice.paid`.
fn covers(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => pattern == event_type,
    }
}
