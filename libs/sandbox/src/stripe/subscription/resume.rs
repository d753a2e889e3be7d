//! Owns the way back of a subscription that was paused because its trial ended without a payment method.
//!
//! Deliberately absent: the end of `pause_collection`, which is an update; a subscription whose collection is paused
//! is not `paused`.

use serde_json::{Value, json};

use super::{event, invoice, items, kind, plan, set_period};
use crate::store::Tx;
use crate::stripe::Call;
use crate::stripe::errors::{Result, StripeError};
use crate::stripe::invoice::lines;
use crate::stripe::list::get;

pub(super) const PARAMETERS: &[&str] = &[
    "billing_cycle_anchor",
    "proration_behavior",
    "proration_date",
];

/// Bills the period that begins now. Paid: active; declined: past due, and tried again like any renewal.
pub(super) fn resume(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut subscription = get(tx, kind::SUBSCRIPTION, "subscription", call.id)?.clone();
    let anchors = ["now", "unchanged"];
    let anchor = call.params.one_of("billing_cycle_anchor", &anchors)?;
    let prorations = ["always_invoice", "create_prorations", "none"];
    call.params.one_of("proration_behavior", &prorations)?;
    call.params.integer("proration_date")?;
    if subscription["status"] != "paused" {
        let status = subscription["status"].as_str().unwrap_or_default();
        let message =
            format!("You cannot resume a subscription that is not paused; this one is {status}.");
        return Err(StripeError::state(None, message));
    }
    let start = tx.now;
    let anchor = match (anchor, subscription["billing_cycle_anchor"].as_i64()) {
        (Some("unchanged"), Some(anchor)) => anchor,
        _ => start,
    };
    let end = lines::period_end(anchor, &items(&subscription)[0]["price"], start);
    subscription["billing_cycle_anchor"] = json!(anchor);
    set_period(&mut subscription, start, end);
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    let charges = lines::full_period(tx, &items(&subscription), start, end);
    let invoice = invoice::draft(
        tx,
        &subscription,
        "subscription_update",
        &charges,
        start,
        start,
    );
    subscription = get(tx, kind::SUBSCRIPTION, "subscription", call.id)?.clone();
    subscription["latest_invoice"] = invoice["id"].clone();
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    let invoice = invoice::finalize(tx, invoice);
    if invoice["status"] == "open" && subscription["collection_method"] != "send_invoice" {
        let id = invoice["id"].as_str().unwrap_or_default();
        match invoice::collect(tx, id, None, true) {
            Err(error) if error.error_type != "card_error" => return Err(error),
            _ => {}
        }
    } else if invoice["status"] == "open" {
        resumed(tx, subscription);
    }
    get(tx, kind::SUBSCRIPTION, "subscription", call.id).cloned()
}

/// What was owed for the resumption is paid.
pub(super) fn resumed(tx: &mut Tx<'_>, mut subscription: Value) {
    subscription["status"] = json!("active");
    plan(&mut subscription);
    event::put_updated(
        tx,
        kind::SUBSCRIPTION,
        "customer.subscription.updated",
        subscription.clone(),
    );
    event::emit(tx, "customer.subscription.resumed", &subscription, None);
}
