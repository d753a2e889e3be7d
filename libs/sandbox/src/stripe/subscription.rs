//! Owns subscriptions: creation with its first invoice, the states, and the end.
//!
//! ```text
//! (create) ──▶ incomplete ── first invoice paid ──▶ active ◀──▶ past_due ── retries exhausted ──▶ canceled
//!    │             └── 23 h ──▶ incomplete_expired    ▲                                             ▲
//!    ├──▶ trialing ── trial ends, invoice paid ───────┘         cancel, from any live state ────────┘
//!    ├──▶ active
//!    └──▶ trialing ── trial ends, no payment method, `pause` ──▶ paused ── resume ──▶ active
//! ```
//!
//! `pause_collection` is something else: the status stays as it is, the invoices meanwhile are voided, kept as drafts
//! or marked uncollectible.
//!
//! Deliberately absent: schedules, thresholds, metered items. Creation is in `create`, changes to a running one in `update`,
//! what time does to it in `lifecycle`.

pub(super) mod create;
pub(super) mod notice;
mod proration;
mod resume;
pub(super) mod update;

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::{Call, Operation, coupon, event, invoice, kind, operation, search};
use crate::ids;
use crate::store::Tx;

const CANCEL: &[&str] = &[
    "cancellation_details.comment",
    "cancellation_details.feedback",
    "invoice_now",
    "prorate",
];
const STATUSES: &[&str] = &[
    "active",
    "all",
    "canceled",
    "ended",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
];
/// How long the first payment may take.
const INCOMPLETE_SECONDS: i64 = 23 * 3600;

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/subscriptions",
        "subscriptions.create",
        create::PARAMETERS,
        create::create,
    ),
    operation(
        "GET",
        "/v1/subscriptions",
        "subscriptions.list",
        list_parameters!(
            "collection_method",
            "customer",
            "price",
            "status",
            "test_clock"
        ),
        list_subscriptions,
    ),
    operation(
        "GET",
        "/v1/subscriptions/search",
        "subscriptions.search",
        search::PARAMETERS,
        |tx, call| search::search(tx, call, kind::SUBSCRIPTION),
    ),
    operation(
        "GET",
        "/v1/subscriptions/{id}",
        "subscriptions.retrieve",
        &[],
        |tx, call| get(tx, kind::SUBSCRIPTION, "subscription", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/subscriptions/{id}",
        "subscriptions.update",
        update::PARAMETERS,
        update::update,
    ),
    operation(
        "DELETE",
        "/v1/subscriptions/{id}",
        "subscriptions.cancel",
        CANCEL,
        cancel,
    ),
    operation(
        "POST",
        "/v1/subscriptions/{id}/resume",
        "subscriptions.resume",
        resume::PARAMETERS,
        resume::resume,
    ),
];

pub(super) fn is_live(subscription: &Value) -> bool {
    subscription["status"] != "canceled" && subscription["status"] != "incomplete_expired"
}

/// The subscription's items, as they are.
pub(super) fn items(subscription: &Value) -> Vec<Value> {
    subscription["items"]["data"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

pub(super) fn period(subscription: &Value) -> (i64, i64) {
    let item = &subscription["items"]["data"][0];
    (
        item["current_period_start"].as_i64().unwrap_or(0),
        item["current_period_end"].as_i64().unwrap_or(0),
    )
}

pub(super) fn set_period(subscription: &mut Value, start: i64, end: i64) {
    for item in subscription["items"]["data"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        item["current_period_start"] = json!(start);
        item["current_period_end"] = json!(end);
    }
}

/// Decides when time will next do something to it.
pub(super) fn plan(subscription: &mut Value) {
    let earliest = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
    let due = match subscription["status"].as_str().unwrap_or_default() {
        "incomplete" => subscription["created"]
            .as_i64()
            .map(|created| created + INCOMPLETE_SECONDS),
        "trialing" => earliest(
            subscription["trial_end"].as_i64(),
            notice::next(subscription),
        ),
        "active" | "past_due" | "unpaid" => {
            earliest(Some(period(subscription).1), notice::next(subscription))
        }
        _ => None,
    };
    let due = if is_live(subscription) && subscription["status"] != "incomplete" {
        let resumes_at = subscription["pause_collection"]["resumes_at"].as_i64();
        earliest(
            due,
            earliest(subscription["cancel_at"].as_i64(), resumes_at),
        )
    } else {
        due
    };
    subscription["_due_at"] = json!(due);
}

/// A price that a subscription may have.
pub(super) fn recurring_price<'t>(tx: &'t Tx<'_>, id: &str, param: &str) -> Result<&'t Value> {
    let price = list::get_named(tx, kind::PRICE, "price", id, param)?;
    if price["type"] != "recurring" {
        let message = format!(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`: {id}"
        );
        return Err(StripeError::state(None, message).with_param(param));
    }
    if price["active"] != true {
        let message =
            format!("The price specified is inactive. This field only accepts active prices: {id}");
        return Err(StripeError::state(None, message).with_param(param));
    }
    Ok(price)
}

pub(super) fn new_item(
    now: i64,
    subscription: &str,
    price: &Value,
    quantity: i64,
    metadata: Value,
) -> Value {
    let recurring = &price["recurring"];
    json!({
        "id": ids::stripe("si"),
        "object": "subscription_item",
        "billing_thresholds": null,
        "created": now,
        "current_period_end": now,
        "current_period_start": now,
        "discounts": [],
        "metadata": metadata,
        "plan": {
            "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
            "amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit", "created": price["created"],
            "currency": price["currency"], "interval": recurring["interval"], "interval_count": recurring["interval_count"],
            "livemode": false, "metadata": price["metadata"], "meter": null, "nickname": price["nickname"],
            "product": price["product"], "tiers_mode": null, "transform_usage": null, "trial_period_days": null,
            "usage_type": "licensed",
        },
        "price": price,
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": [],
    })
}

/// All of a subscription's prices are of one currency and one interval.
pub(super) fn check_together(items: &[Value]) -> Result<()> {
    let first = &items[0]["price"];
    for item in &items[1..] {
        let recurring = (
            &item["price"]["recurring"]["interval"],
            &item["price"]["recurring"]["interval_count"],
        );
        if recurring
            != (
                &first["recurring"]["interval"],
                &first["recurring"]["interval_count"],
            )
        {
            return Err(StripeError::state(
                None,
                "All prices on a subscription must have the same interval here.",
            ));
        }
        if item["price"]["currency"] != first["currency"] {
            return Err(StripeError::state(
                None,
                "All prices on a subscription must have the same currency.",
            ));
        }
    }
    Ok(())
}

/// A coupon of duration `once` is gone from the subscription when an invoice has used it; an expired one too.
pub(super) fn discounts_used(tx: &mut Tx<'_>, id: &str, discounts: &[Value], used: &[String]) {
    let Some(mut subscription) = tx.get(kind::SUBSCRIPTION, id).cloned() else {
        return;
    };
    let gone = |discount: &Value| {
        let once =
            discount["_terms"]["duration"] == "once" && used.iter().any(|id| discount["id"] == *id);
        once || discount["end"].as_i64().is_some_and(|end| end <= tx.now)
    };
    let kept: Vec<Value> = discounts
        .iter()
        .filter(|discount| !gone(discount))
        .map(|d| d["id"].clone())
        .collect();
    if kept.len() != discounts.len() {
        let before: Vec<Value> = discounts.iter().map(|d| d["id"].clone()).collect();
        coupon::removed(tx, &before, &kept);
        subscription["discounts"] = json!(kept);
        tx.put(kind::SUBSCRIPTION, subscription);
    }
}

fn of_invoice(tx: &Tx<'_>, invoice: &Value) -> Option<Value> {
    invoice["parent"]["subscription_details"]["subscription"]
        .as_str()
        .and_then(|id| tx.get(kind::SUBSCRIPTION, id))
        .cloned()
}

/// Moves to a status and tells, unless the subscription is only just being made.
fn become_status(tx: &mut Tx<'_>, mut subscription: Value, status: &str) {
    subscription["status"] = json!(status);
    if subscription["_creating"] == true {
        tx.put(kind::SUBSCRIPTION, subscription);
        return;
    }
    plan(&mut subscription);
    event::put_updated(
        tx,
        kind::SUBSCRIPTION,
        "customer.subscription.updated",
        subscription,
    );
}

/// Hook of `invoice`: what was owed is paid.
pub(super) fn invoice_paid(tx: &mut Tx<'_>, invoice: &Value) {
    let Some(mut subscription) = of_invoice(tx, invoice) else {
        return;
    };
    let intent = invoice["_payment_intent"]
        .as_str()
        .and_then(|id| tx.get(kind::PAYMENT_INTENT, id));
    let used = intent.map_or(Value::Null, |intent| intent["payment_method"].clone());
    let saves =
        subscription["payment_settings"]["save_default_payment_method"] == "on_subscription";
    if saves && subscription["default_payment_method"].is_null() && used.is_string() {
        subscription["default_payment_method"] = used;
        tx.put(kind::SUBSCRIPTION, subscription.clone());
    }
    let latest = subscription["latest_invoice"] == invoice["id"];
    if latest
        && ["incomplete", "past_due", "unpaid"]
            .iter()
            .any(|status| subscription["status"] == *status)
    {
        become_status(tx, subscription, "active");
    } else if latest && subscription["status"] == "paused" {
        resume::resumed(tx, subscription);
    }
}

/// Hook of `invoice`: an attempt failed.
pub(super) fn invoice_failed(tx: &mut Tx<'_>, invoice: &Value) {
    let Some(subscription) = of_invoice(tx, invoice) else {
        return;
    };
    if ["active", "paused", "trialing"]
        .iter()
        .any(|status| subscription["status"] == *status)
    {
        become_status(tx, subscription, "past_due");
    }
}

/// Hook of `invoice`: without its first invoice an incomplete subscription cannot begin any more.
pub(super) fn first_invoice_voided(tx: &mut Tx<'_>, invoice: &Value) {
    let Some(subscription) = of_invoice(tx, invoice) else {
        return;
    };
    if subscription["status"] == "incomplete" {
        end(tx, subscription, "incomplete_expired", tx.now);
    }
}

fn list_subscriptions(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let status = call.params.one_of("status", STATUSES)?;
    let price = call.params.text("price")?;
    // Those of a test clock are only listed by it or by their customer.
    let clock = call.params.text("test_clock")?;
    let of_one = call.params.has("customer");
    let (of_customer, of_method) = (
        list::equals(call, "customer")?,
        list::equals(call, "collection_method")?,
    );
    list::list(tx, call, kind::SUBSCRIPTION, |subscription| {
        let state = match status {
            None => {
                subscription["status"] != "canceled"
                    && subscription["status"] != "incomplete_expired"
            }
            Some("all") => true,
            Some("ended") => !is_live(subscription),
            Some(status) => subscription["status"] == status,
        };
        let items = subscription["items"]["data"].as_array();
        let in_time = match clock {
            None => of_one || subscription["test_clock"].is_null(),
            Some(clock) => subscription["test_clock"] == clock,
        };
        state
            && in_time
            && of_customer(subscription)
            && of_method(subscription)
            && price.is_none_or(|price| {
                items.is_some_and(|items| items.iter().any(|item| item["price"]["id"] == price))
            })
    })
}

fn cancel(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut subscription = get(tx, kind::SUBSCRIPTION, "subscription", call.id)?.clone();
    if !is_live(&subscription) {
        // Stripe's answer to a second cancellation.
        return Err(StripeError::no_such("subscription", call.id, "id"));
    }
    update::cancellation_details(&mut subscription, &call.params)?;
    let invoice_now = call.params.boolean("invoice_now")?.unwrap_or(false);
    let prorate = call.params.boolean("prorate")?.unwrap_or(false);
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    if subscription["status"] == "active" || subscription["status"] == "past_due" {
        update::final_bill(tx, call.id, invoice_now, prorate)?;
        subscription = get(tx, kind::SUBSCRIPTION, "subscription", call.id)?.clone();
    }
    if subscription["cancellation_details"]["reason"].is_null() {
        subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
    }
    Ok(end(tx, subscription, "canceled", tx.now))
}

/// Ends a subscription for good: nothing more is collected, and a first invoice never paid is voided.
pub(super) fn end(tx: &mut Tx<'_>, mut subscription: Value, status: &str, at: i64) -> Value {
    let id = subscription["id"].as_str().unwrap_or_default().to_owned();
    if subscription["status"] == "incomplete" {
        let first = subscription["latest_invoice"]
            .as_str()
            .and_then(|id| tx.get(kind::INVOICE, id))
            .cloned();
        if let Some(first) = first.filter(|invoice| invoice["status"] == "open") {
            invoice::void(tx, first);
        }
    }
    invoice::stop_collecting(tx, &id);
    subscription["status"] = json!(status);
    if subscription["canceled_at"].is_null() {
        subscription["canceled_at"] = json!(at);
    }
    subscription["ended_at"] = json!(at);
    subscription["cancel_at_period_end"] = json!(false);
    subscription["_due_at"] = Value::Null;
    if status == "canceled" {
        tx.put(kind::SUBSCRIPTION, subscription.clone());
        event::emit(tx, "customer.subscription.deleted", &subscription, None);
    } else {
        subscription["canceled_at"] = Value::Null;
        event::put_updated(
            tx,
            kind::SUBSCRIPTION,
            "customer.subscription.updated",
            subscription.clone(),
        );
    }
    subscription
}
