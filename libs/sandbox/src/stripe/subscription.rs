//! Owns subscriptions: creation with its first invoice, the states, and the end.
//!
//! ```text
//! (create) ──▶ incomplete ── first invoice paid ──▶ active ◀──▶ past_due ── retries exhausted ──▶ canceled
//!    │             └── 23 h ──▶ incomplete_expired    ▲                                             ▲
//!    ├──▶ trialing ── trial ends, invoice paid ───────┘         cancel, from any live state ────────┘
//!    └──▶ active
//! ```
//!
//! Deliberately absent: schedules, thresholds, metered items. Changes to a running one are in `subscription_update`,
//! what time does to it in `lifecycle`.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::invoice_lines::{self, Charge};
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::payment_intent::Outcome;
use super::{
    Call, Operation, coupon, customer, event, invoice, kind, operation, payment_method, search,
    subscription_update,
};
use crate::ids;
use crate::store::Tx;

const CREATE: &[&str] = &[
    "automatic_tax.enabled",
    "cancel_at",
    "cancel_at_period_end",
    "collection_method",
    "coupon",
    "currency",
    "customer",
    "days_until_due",
    "default_payment_method",
    "description",
    "discounts[].coupon",
    "items[].metadata.*",
    "items[].price",
    "items[].quantity",
    "metadata",
    "metadata.*",
    "off_session",
    "payment_behavior",
    "payment_settings.*",
    "proration_behavior",
    "trial_end",
    "trial_period_days",
    "trial_settings.end_behavior.missing_payment_method",
    "billing_mode.type",
];
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
const MOST_ITEMS: usize = 20;

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/subscriptions",
        "subscriptions.create",
        CREATE,
        create,
    ),
    operation(
        "GET",
        "/v1/subscriptions",
        "subscriptions.list",
        list_parameters!("collection_method", "customer", "price", "status"),
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
        subscription_update::PARAMETERS,
        subscription_update::update,
    ),
    operation(
        "DELETE",
        "/v1/subscriptions/{id}",
        "subscriptions.cancel",
        CANCEL,
        cancel,
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
            subscription["cancel_at"].as_i64(),
        ),
        "active" | "past_due" | "unpaid" => earliest(
            Some(period(subscription).1),
            subscription["cancel_at"].as_i64(),
        ),
        _ => None,
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

fn read_items(tx: &Tx<'_>, subscription: &str, params: &Params<'_>) -> Result<Vec<Value>> {
    let asked = params.objects("items")?;
    if asked.is_empty() {
        return Err(StripeError::missing("items"));
    }
    if asked.len() > MOST_ITEMS {
        return Err(StripeError::parameter(
            "parameter_invalid",
            "items",
            format!("At most {MOST_ITEMS} items"),
        ));
    }
    let mut items = Vec::new();
    for item in &asked {
        let price = recurring_price(tx, item.require_text("price")?, &item.name_of("price"))?;
        if items
            .iter()
            .any(|present: &Value| present["price"]["id"] == price["id"])
        {
            let message = format!(
                "Cannot add multiple subscription items with the same price: {}",
                price["id"]
            );
            return Err(StripeError::state(None, message).with_param(&item.name_of("price")));
        }
        let quantity = item.integer_from("quantity", 0, 1_000_000)?.unwrap_or(1);
        items.push(new_item(
            tx.now,
            subscription,
            price,
            quantity,
            item.metadata(None)?,
        ));
    }
    check_together(&items)?;
    Ok(items)
}

/// When the trial ends, if there is one.
pub(super) fn trial_end(params: &Params<'_>, now: i64) -> Result<Option<i64>> {
    const LONGEST_DAYS: i64 = 730;
    let days = if params.has("trial_period_days") {
        params.integer_from("trial_period_days", 0, LONGEST_DAYS)?
    } else {
        None
    };
    let end = match params.text("trial_end")? {
        Some("now") => Some(now),
        Some(_) => params.integer("trial_end")?,
        None => days.map(|days| now + days * 86_400),
    };
    match end {
        Some(end) if end < now => Err(StripeError::parameter(
            "parameter_invalid",
            "trial_end",
            "Invalid timestamp: must be an integer Unix timestamp in the future.",
        )),
        Some(end) if end > now + (LONGEST_DAYS + 1) * 86_400 => Err(StripeError::parameter(
            "parameter_invalid",
            "trial_end",
            "Trials last at most 730 days.",
        )),
        end => Ok(end.filter(|end| *end > now)),
    }
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    let behaviors = [
        "allow_incomplete",
        "default_incomplete",
        "error_if_incomplete",
    ];
    let behavior = params
        .one_of("payment_behavior", &behaviors)?
        .unwrap_or("allow_incomplete");
    let off_session = params.boolean("off_session")?.unwrap_or(false);
    let id = ids::stripe("sub");
    let customer_id = params.require_text("customer")?.to_owned();
    params.objects("items")?;
    let mut subscription = blank(tx, &id, &customer_id, params)?;
    customer::live(tx, &customer_id, "customer")?;
    if let Some(pm) = params.text("default_payment_method")? {
        subscription["default_payment_method"] =
            payment_method::of_customer(tx, pm, &customer_id, "default_payment_method")?["id"]
                .clone();
    }
    let items = read_items(tx, &id, params)?;
    let currency = items[0]["price"]["currency"].clone();
    if params
        .currency("currency")?
        .is_some_and(|asked| currency != asked)
    {
        return Err(StripeError::state(
            None,
            "The price's currency differs from the one asked for.",
        )
        .with_param("currency"));
    }
    subscription["currency"] = currency.clone();
    subscription["items"] = json!({
        "object": "list", "data": items, "has_more": false, "total_count": items.len(),
        "url": format!("/v1/subscription_items?subscription={id}"),
    });
    let mut discounts = Vec::new();
    for (coupon, param) in coupon::named(params)? {
        discounts.push(coupon::redeem(
            tx,
            &coupon,
            &param,
            &id,
            &customer_id,
            currency.as_str().unwrap_or_default(),
        )?);
    }
    subscription["discounts"] = json!(discounts);

    let trial_end = trial_end(params, tx.now)?;
    let anchor = trial_end.unwrap_or(tx.now);
    let period_end =
        trial_end.unwrap_or_else(|| invoice_lines::period_end(anchor, &items[0]["price"], tx.now));
    subscription["billing_cycle_anchor"] = json!(anchor);
    set_period(&mut subscription, tx.now, period_end);
    if params.boolean("cancel_at_period_end")?.unwrap_or(false) {
        subscription_update::cancel_at_period_end(&mut subscription, tx.now);
    } else if let Some(at) = params.integer("cancel_at")? {
        subscription["cancel_at"] = json!(at);
    }
    let charges = match trial_end {
        Some(end) => {
            subscription["status"] = json!("trialing");
            subscription["trial_start"] = json!(tx.now);
            subscription["trial_end"] = json!(end);
            invoice_lines::trial(tx, &items, tx.now, end)
        }
        None => invoice_lines::full_period(tx, &items, tx.now, period_end),
    };
    first_invoice(tx, subscription, &charges, behavior, off_session)?;
    let mut subscription = get(tx, kind::SUBSCRIPTION, "subscription", &id)?.clone();
    if let Some(fields) = subscription.as_object_mut() {
        fields.shift_remove("_creating");
    }
    plan(&mut subscription);
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    event::emit(tx, "customer.subscription.created", &subscription, None);
    Ok(subscription)
}

fn blank(tx: &Tx<'_>, id: &str, customer: &str, params: &Params<'_>) -> Result<Value> {
    let method = params
        .one_of(
            "collection_method",
            &["charge_automatically", "send_invoice"],
        )?
        .unwrap_or("charge_automatically");
    let days_until_due = params.integer_from("days_until_due", 0, 365)?;
    if method == "send_invoice" && days_until_due.is_none() {
        return Err(StripeError::missing("days_until_due"));
    }
    params.one_of(
        "proration_behavior",
        &["always_invoice", "create_prorations", "none"],
    )?;
    if let Some(tax) = params.object("automatic_tax")?
        && tax.boolean("enabled")? == Some(true)
    {
        let message = "The simulator does not compute taxes.";
        return Err(StripeError::parameter(
            "parameter_invalid",
            "automatic_tax[enabled]",
            message,
        ));
    }
    let saves = params
        .object("payment_settings")?
        .map(|s| s.one_of("save_default_payment_method", &["off", "on_subscription"]));
    let on_missing = match params
        .object("trial_settings")?
        .map(|settings| settings.object("end_behavior"))
        .transpose()?
        .flatten()
    {
        Some(end) => end
            .one_of(
                "missing_payment_method",
                &["cancel", "create_invoice", "pause"],
            )?
            .unwrap_or("create_invoice"),
        None => "create_invoice",
    };
    Ok(json!({
        "id": id,
        "object": "subscription",
        "application": null,
        "application_fee_percent": null,
        "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null },
        "billing_cycle_anchor": tx.now,
        "billing_cycle_anchor_config": null,
        "billing_mode": { "flexible": null, "type": "classic" },
        "billing_schedules": [],
        "billing_thresholds": null,
        "cancel_at": null,
        "cancel_at_period_end": false,
        "canceled_at": null,
        "cancellation_details": { "comment": null, "feedback": null, "reason": null },
        "collection_method": method,
        "created": tx.now,
        "currency": null,
        "customer": customer,
        "days_until_due": days_until_due.filter(|_| method == "send_invoice"),
        "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [],
        "description": params.raw("description")?.filter(|text| !text.is_empty()),
        "discounts": [],
        "ended_at": null,
        "invoice_settings": { "account_tax_ids": null, "issuer": { "type": "self" } },
        "items": null,
        "latest_invoice": null,
        "livemode": false,
        "metadata": params.metadata(None)?,
        "next_pending_invoice_item_invoice": null,
        "on_behalf_of": null,
        "pause_collection": null,
        "payment_settings": {
            "payment_method_options": null, "payment_method_types": null,
            "save_default_payment_method": saves.transpose()?.flatten().unwrap_or("off"),
        },
        "pending_invoice_item_interval": null,
        "pending_setup_intent": null,
        "pending_update": null,
        "schedule": null,
        "start_date": tx.now,
        "status": "active",
        "test_clock": null,
        "transfer_data": null,
        "trial_end": null,
        "trial_settings": { "end_behavior": { "missing_payment_method": on_missing } },
        "trial_start": null,
        // While set, hooks change the status without telling: the world hears of it as created.
        "_creating": true,
        "_pending": [],
    }))
}

/// Bills the beginning and decides what state the subscription starts in.
fn first_invoice(
    tx: &mut Tx<'_>,
    mut subscription: Value,
    charges: &[Charge],
    behavior: &str,
    off_session: bool,
) -> Result<()> {
    let id = subscription["id"].as_str().unwrap_or_default().to_owned();
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    let invoice = invoice::draft(
        tx,
        &subscription,
        "subscription_create",
        charges,
        tx.now,
        tx.now,
    );
    let due = invoice["amount_due"].as_i64().unwrap_or(0);
    // Drafting may have used up a discount.
    subscription = get(tx, kind::SUBSCRIPTION, "subscription", &id)?.clone();
    subscription["latest_invoice"] = invoice["id"].clone();
    let sent = subscription["collection_method"] == "send_invoice";
    if due > 0 && !sent {
        subscription["status"] = json!("incomplete");
    }
    tx.put(kind::SUBSCRIPTION, subscription);
    let invoice = invoice::finalize(tx, invoice);
    if due == 0 || sent {
        return Ok(());
    }
    let invoice_id = invoice["id"].as_str().unwrap_or_default();
    let method = invoice::method_behind(tx, &invoice);
    if behavior == "default_incomplete" {
        // Left to the customer's browser; the intent only knows what it would use.
        let intent = invoice["_payment_intent"]
            .as_str()
            .and_then(|id| tx.get(kind::PAYMENT_INTENT, id))
            .cloned();
        if let (Some(mut intent), Some(method)) = (intent, method) {
            intent["payment_method"] = json!(method);
            intent["status"] = json!("requires_confirmation");
            tx.put(kind::PAYMENT_INTENT, intent);
        }
        return Ok(());
    }
    match invoice::collect(tx, invoice_id, None, off_session) {
        Ok(Outcome::Succeeded) => Ok(()),
        Ok(Outcome::RequiresAction) if behavior == "error_if_incomplete" => {
            let message = "Payment for this subscription requires additional user action before it can be completed \
                           successfully. Payment can be completed using the PaymentIntent associated with \
                           `subscription.latest_invoice`.";
            Err(StripeError::declined(
                "subscription_payment_intent_requires_action",
                None,
                message,
            ))
        }
        Ok(Outcome::RequiresAction) => Ok(()),
        Err(error) if error.error_type == "card_error" && behavior == "allow_incomplete" => Ok(()),
        Err(error) => Err(error),
    }
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
    }
}

/// Hook of `invoice`: an attempt failed.
pub(super) fn invoice_failed(tx: &mut Tx<'_>, invoice: &Value) {
    let Some(subscription) = of_invoice(tx, invoice) else {
        return;
    };
    if subscription["status"] == "active" || subscription["status"] == "trialing" {
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
        state
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
    subscription_update::cancellation_details(&mut subscription, &call.params)?;
    let invoice_now = call.params.boolean("invoice_now")?.unwrap_or(false);
    let prorate = call.params.boolean("prorate")?.unwrap_or(false);
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    if subscription["status"] == "active" || subscription["status"] == "past_due" {
        subscription_update::final_bill(tx, call.id, invoice_now, prorate)?;
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
