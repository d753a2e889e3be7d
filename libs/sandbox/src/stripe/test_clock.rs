//! Owns Stripe's test clocks: a time of its own for some customers, that only `advance` moves.
//!
//! ```text
//! ready ── advance ──▶ advancing ── all that falls due is done, one transaction each ──▶ ready
//! ```
//!
//! An object whose `_clock` names one lives in its time: it is looked at when the clock gets there, and a request about
//! it happens at the clock's second. `_clock` comes down from the customer.
//!
//! Deliberately absent: Stripe's limits of three customers per clock and two periods per advance.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::{Call, Operation, event, kind, operation};
use crate::ids;
use crate::store::{By, Tx};

/// As far as the simulators' own clock goes in one step.
const FURTHEST_SECONDS: i64 = 10 * 366 * 86_400;
/// Stripe removes them by itself; here they stay until then at least.
const LIFE_SECONDS: i64 = 30 * 86_400;
/// Before everything else that may be due.
const AT_ONCE: i64 = 0;

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/test_helpers/test_clocks",
        "test_clocks.create",
        &["frozen_time", "name"],
        create,
    ),
    operation(
        "GET",
        "/v1/test_helpers/test_clocks",
        "test_clocks.list",
        list_parameters!(),
        |tx, call| list::list(tx, call, kind::TEST_CLOCK, |_| true),
    ),
    operation(
        "GET",
        "/v1/test_helpers/test_clocks/{id}",
        "test_clocks.retrieve",
        &[],
        |tx, call| get(tx, kind::TEST_CLOCK, "test clock", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/test_helpers/test_clocks/{id}/advance",
        "test_clocks.advance",
        &["frozen_time"],
        advance,
    ),
    operation(
        "DELETE",
        "/v1/test_helpers/test_clocks/{id}",
        "test_clocks.delete",
        &[],
        delete,
    ),
];

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let frozen_time = call
        .params
        .integer_from("frozen_time", 0, i64::from(u32::MAX))?
        .ok_or_else(|| StripeError::missing("frozen_time"))?;
    let clock = json!({
        "id": ids::stripe("clock"),
        "object": "test_helpers.test_clock",
        "created": tx.now,
        "deletes_after": tx.now + LIFE_SECONDS,
        "frozen_time": frozen_time,
        "livemode": false,
        "name": call.params.raw("name")?.filter(|name| !name.is_empty()),
        "status": "ready",
        "status_details": {},
    });
    tx.put(kind::TEST_CLOCK, clock.clone());
    event::emit(tx, "test_helpers.test_clock.created", &clock, None);
    Ok(clock)
}

/// Only says where to: the way there is many transactions, which `step` makes.
fn advance(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut clock = get(tx, kind::TEST_CLOCK, "test clock", call.id)?.clone();
    let target = call
        .params
        .integer("frozen_time")?
        .ok_or_else(|| StripeError::missing("frozen_time"))?;
    if clock["status"] != "ready" {
        let message = "The test clock is advancing; wait until its status is ready.";
        return Err(StripeError::state(
            Some("test_clock_advancement_underway"),
            message,
        ));
    }
    let now = clock["frozen_time"].as_i64().unwrap_or(0);
    if target <= now || target > now + FURTHEST_SECONDS {
        let message = format!(
            "frozen_time must be after the clock's {now} and at most {FURTHEST_SECONDS} seconds after it."
        );
        return Err(StripeError::parameter(
            "parameter_invalid",
            "frozen_time",
            message,
        ));
    }
    clock["status"] = json!("advancing");
    clock["status_details"] = json!({ "advancing": { "target_frozen_time": target } });
    clock["_due_at"] = json!(AT_ONCE);
    tx.put(kind::TEST_CLOCK, clock.clone());
    event::emit(tx, "test_helpers.test_clock.advancing", &clock, None);
    Ok(clock)
}

/// One step of a clock that advances: what is due next in its time, as (kind, id), with `tx.now` set to it; or none,
/// and the clock is where it was told to go.
pub(super) fn step(tx: &mut Tx<'_>, mut clock: Value) -> Option<(String, String)> {
    let id = clock["id"].as_str().unwrap_or_default().to_owned();
    let target = clock["status_details"]["advancing"]["target_frozen_time"]
        .as_i64()
        .unwrap_or(0);
    if let Some((at, kind, due)) = tx.world().next_due(Some(&id), target) {
        // What should have been done before the clock was frozen is done now, not in its past.
        let at = at.max(clock["frozen_time"].as_i64().unwrap_or(at));
        tx.now = at;
        clock["frozen_time"] = json!(at);
        clock["_due_at"] = json!(AT_ONCE);
        tx.put(kind::TEST_CLOCK, clock);
        return Some((kind, due));
    }
    tx.now = target;
    clock["frozen_time"] = json!(target);
    clock["status"] = json!("ready");
    clock["status_details"] = json!({});
    clock["_due_at"] = Value::Null;
    tx.put(kind::TEST_CLOCK, clock.clone());
    event::emit(tx, "test_helpers.test_clock.ready", &clock, None);
    None
}

/// The clock goes with all its customers and what is theirs.
fn delete(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let clock = get(tx, kind::TEST_CLOCK, "test clock", call.id)?.clone();
    let customers: Vec<String> = tx
        .newest_first(kind::CUSTOMER, |customer| customer["test_clock"] == call.id)
        .into_iter()
        .filter_map(|customer| customer["id"].as_str().map(str::to_owned))
        .collect();
    let mut gone: Vec<(&str, String)> = Vec::new();
    const OWNED: [&str; 7] = [
        kind::SUBSCRIPTION,
        kind::INVOICE,
        kind::PAYMENT_METHOD,
        kind::PAYMENT_INTENT,
        kind::SETUP_INTENT,
        kind::CHARGE,
        kind::DISCOUNT,
    ];
    for customer in customers {
        for charge in tx.select(kind::CHARGE, By::customer(&customer).as_ref(), |_| true) {
            let of_charge = charge["id"].as_str().and_then(|id| By::field("charge", id));
            for kind in [kind::REFUND, kind::DISPUTE] {
                let found = tx.select(kind, of_charge.as_ref(), |_| true);
                let found = found.into_iter();
                gone.extend(
                    found.filter_map(|object| Some((kind, object["id"].as_str()?.to_owned()))),
                );
            }
        }
        for kind in OWNED {
            let owned: Vec<String> = tx
                .select(kind, By::customer(&customer).as_ref(), |_| true)
                .into_iter()
                .filter_map(|object| object["id"].as_str().map(str::to_owned))
                .collect();
            for id in owned {
                tx.delete(kind, &id);
            }
        }
        tx.delete(kind::CUSTOMER, &customer);
    }
    for (kind, id) in gone {
        tx.delete(kind, &id);
    }
    tx.delete(kind::TEST_CLOCK, call.id);
    event::emit(tx, "test_helpers.test_clock.deleted", &clock, None);
    Ok(json!({ "id": call.id, "object": "test_helpers.test_clock", "deleted": true }))
}

/// The clock that an object lives by.
pub(super) fn of(tx: &Tx<'_>, object: &Value) -> Value {
    if object["_clock"].is_string() {
        return object["_clock"].clone();
    }
    object["customer"]
        .as_str()
        .and_then(|customer| tx.get(kind::CUSTOMER, customer))
        .map_or(Value::Null, |customer| customer["_clock"].clone())
}

/// Sets the transaction's time to that of the object, where it lives by a clock of its own.
pub(super) fn enter(tx: &mut Tx<'_>, object: &Value) {
    let clock = of(tx, object);
    let clock = clock.as_str().and_then(|id| tx.get(kind::TEST_CLOCK, id));
    if let Some(frozen) = clock.and_then(|clock| clock["frozen_time"].as_i64()) {
        tx.now = frozen;
    }
}

/// The same for a request, by what it names.
pub(super) fn enter_for(tx: &mut Tx<'_>, call: &Call<'_>) {
    const NAMED: [&str; 6] = [
        "customer",
        "subscription",
        "invoice",
        "payment_intent",
        "charge",
        "test_clock",
    ];
    let named = NAMED
        .iter()
        .filter_map(|param| call.params.tree()[*param].as_str());
    let object = std::iter::once(call.id)
        .chain(named)
        .find_map(|id| by_prefix(tx, id))
        .cloned();
    match object {
        Some(clock) if clock["object"] == "test_helpers.test_clock" => {
            // The clock itself is operated from outside; only who is made on it is made in its time.
            if call.id != clock["id"]
                && let Some(frozen) = clock["frozen_time"].as_i64()
            {
                tx.now = frozen;
            }
        }
        Some(object) => enter(tx, &object),
        None => {}
    }
}

fn by_prefix<'t>(tx: &'t Tx<'_>, id: &str) -> Option<&'t Value> {
    let kind = match id.split_once('_')?.0 {
        "cus" => kind::CUSTOMER,
        "sub" => kind::SUBSCRIPTION,
        "in" => kind::INVOICE,
        "pi" => kind::PAYMENT_INTENT,
        "seti" => kind::SETUP_INTENT,
        "pm" => kind::PAYMENT_METHOD,
        "ch" => kind::CHARGE,
        "re" => kind::REFUND,
        "du" => kind::DISPUTE,
        "cs" => kind::CHECKOUT_SESSION,
        "clock" => kind::TEST_CLOCK,
        _ => return None,
    };
    tx.get(kind, id)
}
