//! Owns changes to a running subscription: items, cancellation at the period's end, trial, pause.
//!
//! Deliberately absent: `pending_if_incomplete`. A change whose invoice cannot be collected stands and leaves the
//! subscription past due (`allow_incomplete`), or is undone whole (`error_if_incomplete`).

use serde_json::{Value, json};

use super::create::{missing_payment_method, trial_end};
use super::notice;
use super::proration::prorate;
use super::{check_together, is_live, items, new_item, period, plan, recurring_price, set_period};
use crate::store::Tx;
use crate::stripe::errors::{Result, StripeError};
use crate::stripe::invoice::lines::{self as invoice_lines, Charge};
use crate::stripe::list::get;
use crate::stripe::params::Params;
use crate::stripe::payment_intent::Outcome;
use crate::stripe::{Call, coupon, event, invoice, kind, payment_method};

pub(in crate::stripe) const PARAMETERS: &[&str] = &[
    "billing_cycle_anchor",
    "cancel_at",
    "cancel_at_period_end",
    "cancellation_details.comment",
    "cancellation_details.feedback",
    "collection_method",
    "coupon",
    "days_until_due",
    "default_payment_method",
    "description",
    "discounts[].coupon",
    "discounts[].discount",
    "items[].deleted",
    "items[].id",
    "items[].metadata.*",
    "items[].price",
    "items[].quantity",
    "metadata",
    "metadata.*",
    "off_session",
    "pause_collection",
    "pause_collection.behavior",
    "pause_collection.resumes_at",
    "payment_behavior",
    "payment_settings.*",
    "proration_behavior",
    "proration_date",
    "trial_end",
    "trial_settings.end_behavior.missing_payment_method",
];

pub(in crate::stripe) fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    let mut subscription = get(tx, kind::SUBSCRIPTION, "subscription", call.id)?.clone();
    let behavior = params.one_of(
        "payment_behavior",
        &[
            "allow_incomplete",
            "default_incomplete",
            "error_if_incomplete",
        ],
    )?;
    let prorations = ["always_invoice", "create_prorations", "none"];
    let proration = params
        .one_of("proration_behavior", &prorations)?
        .unwrap_or("create_prorations");
    let metadata = params.metadata(Some(&subscription["metadata"]))?;
    if !is_live(&subscription) {
        let only = params.tree().as_object().is_some_and(|fields| {
            fields.keys().all(|name| {
                matches!(
                    name.as_str(),
                    "metadata" | "cancellation_details" | "expand"
                )
            })
        });
        if !only {
            let message =
                "A canceled subscription can only update its cancellation_details and metadata.";
            return Err(StripeError::state(None, message));
        }
    }
    subscription["metadata"] = metadata;
    plain_fields(tx, &mut subscription, params)?;
    cancellation_details(&mut subscription, params)?;
    if params.has("discounts") || params.has("coupon") {
        replace_discounts(tx, &mut subscription, params)?;
    }
    match params.boolean("cancel_at_period_end")? {
        Some(true) => cancel_at_period_end(&mut subscription, tx.now),
        Some(false) => uncancel(&mut subscription),
        None => {}
    }
    match params.raw("cancel_at")? {
        Some("") => uncancel(&mut subscription),
        Some(_) => {
            let at = params.integer("cancel_at")?.unwrap_or(tx.now);
            if at <= tx.now {
                return Err(StripeError::parameter(
                    "parameter_invalid",
                    "cancel_at",
                    "Must be in the future.",
                ));
            }
            subscription["cancel_at"] = json!(at);
            subscription["canceled_at"] = json!(tx.now);
        }
        None => {}
    }
    let now_anchor = params.one_of("billing_cycle_anchor", &["now", "unchanged"])? == Some("now");
    let at = params.integer("proration_date")?.unwrap_or(tx.now);
    let old = items(&subscription);
    let new = changed_items(tx, &subscription, params)?;
    let trial = if params.has("trial_end") {
        Some(trial_end(params, tx.now)?)
    } else {
        None
    };
    let was_trialing = subscription["status"] == "trialing";
    let interval = |items: &[Value]| items[0]["price"]["recurring"].clone();
    let restarts = now_anchor
        || (new.is_some()
            && !was_trialing
            && interval(new.as_deref().unwrap_or(&old)) != interval(&old));
    if let Some(new) = &new {
        if proration != "none" && !was_trialing && subscription["status"] != "incomplete" {
            prorate(tx, &mut subscription, &old, new, at, restarts);
        }
        subscription["items"]["data"] = json!(new);
        subscription["items"]["total_count"] = json!(new.len());
    }
    let mut bill_period = false;
    match trial {
        Some(Some(end)) => {
            subscription["status"] = json!("trialing");
            subscription["trial_start"] = if was_trialing {
                subscription["trial_start"].clone()
            } else {
                json!(tx.now)
            };
            subscription["trial_end"] = json!(end);
            subscription["billing_cycle_anchor"] = json!(end);
            set_period(&mut subscription, tx.now, end);
        }
        Some(None) if was_trialing => {
            subscription["status"] = json!("active");
            subscription["trial_end"] = json!(tx.now);
            bill_period = true;
        }
        _ => {}
    }
    if restarts || bill_period {
        bill_period = true;
        subscription["billing_cycle_anchor"] = json!(tx.now);
        let end = invoice_lines::period_end(tx.now, &items(&subscription)[0]["price"], tx.now);
        set_period(&mut subscription, tx.now, end);
    }
    plan(&mut subscription);
    event::put_updated(
        tx,
        kind::SUBSCRIPTION,
        "customer.subscription.updated",
        subscription.clone(),
    );
    // A trial moved to within three days of its end is told of now.
    notice::give(tx, &subscription);
    if bill_period || (proration == "always_invoice" && has_pending(&subscription)) {
        bill(
            tx,
            call.id,
            bill_period,
            behavior == Some("error_if_incomplete"),
        )?;
    }
    get(tx, kind::SUBSCRIPTION, "subscription", call.id).cloned()
}

fn has_pending(subscription: &Value) -> bool {
    subscription["_pending"]
        .as_array()
        .is_some_and(|pending| !pending.is_empty())
}

fn plain_fields(tx: &Tx<'_>, subscription: &mut Value, params: &Params<'_>) -> Result<()> {
    params.boolean("off_session")?;
    if let Some(text) = params.raw("description")? {
        subscription["description"] = if text.is_empty() {
            Value::Null
        } else {
            json!(text)
        };
    }
    if let Some(id) = params.raw("default_payment_method")? {
        let customer = subscription["customer"].as_str().unwrap_or_default();
        subscription["default_payment_method"] = match id {
            "" => Value::Null,
            id => payment_method::of_customer(tx, id, customer, "default_payment_method")?["id"]
                .clone(),
        };
    }
    if let Some(method) = params.one_of(
        "collection_method",
        &["charge_automatically", "send_invoice"],
    )? {
        subscription["collection_method"] = json!(method);
    }
    if let Some(days) = params.integer_from("days_until_due", 0, 365)? {
        subscription["days_until_due"] = json!(days);
    }
    if let Some(settings) = params.object("payment_settings")?
        && let Some(saves) =
            settings.one_of("save_default_payment_method", &["off", "on_subscription"])?
    {
        subscription["payment_settings"]["save_default_payment_method"] = json!(saves);
    }
    if matches!(params.tree()["pause_collection"].as_str(), Some("")) {
        subscription["pause_collection"] = Value::Null;
    } else if let Some(pause) = params.object("pause_collection")? {
        let behavior =
            pause.one_of("behavior", &["keep_as_draft", "mark_uncollectible", "void"])?;
        let behavior =
            behavior.ok_or_else(|| StripeError::missing("pause_collection[behavior]"))?;
        let resumes_at = pause.integer("resumes_at")?;
        if resumes_at.is_some_and(|at| at <= tx.now) {
            let message = "Invalid timestamp: must be in the future.";
            return Err(StripeError::parameter(
                "parameter_invalid",
                "pause_collection[resumes_at]",
                message,
            ));
        }
        subscription["pause_collection"] =
            json!({ "behavior": behavior, "resumes_at": resumes_at });
    }
    if let Some(on_missing) = missing_payment_method(params)? {
        subscription["trial_settings"]["end_behavior"]["missing_payment_method"] =
            json!(on_missing);
    }
    Ok(())
}

pub(in crate::stripe) fn cancellation_details(
    subscription: &mut Value,
    params: &Params<'_>,
) -> Result<()> {
    const FEEDBACK: [&str; 8] = [
        "customer_service",
        "low_quality",
        "missing_features",
        "other",
        "switched_service",
        "too_complex",
        "too_expensive",
        "unused",
    ];
    let Some(details) = params.object("cancellation_details")? else {
        return Ok(());
    };
    if let Some(comment) = details.raw("comment")? {
        subscription["cancellation_details"]["comment"] = if comment.is_empty() {
            Value::Null
        } else {
            json!(comment)
        };
    }
    if let Some(feedback) = details.one_of("feedback", &FEEDBACK)? {
        subscription["cancellation_details"]["feedback"] = json!(feedback);
    }
    Ok(())
}

pub(in crate::stripe) fn cancel_at_period_end(subscription: &mut Value, now: i64) {
    subscription["cancel_at_period_end"] = json!(true);
    subscription["cancel_at"] = json!(period(subscription).1);
    subscription["canceled_at"] = json!(now);
    subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
}

fn uncancel(subscription: &mut Value) {
    subscription["cancel_at_period_end"] = json!(false);
    subscription["cancel_at"] = Value::Null;
    subscription["canceled_at"] = Value::Null;
    subscription["cancellation_details"]["reason"] = Value::Null;
}

fn replace_discounts(tx: &mut Tx<'_>, subscription: &mut Value, params: &Params<'_>) -> Result<()> {
    let id = subscription["id"].as_str().unwrap_or_default().to_owned();
    let customer = subscription["customer"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let currency = subscription["currency"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let holder = coupon::Holder {
        subscription: &id,
        customer: &customer,
        currency: &currency,
    };
    let before = subscription["discounts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let after = coupon::asked(tx, params, &holder, &before)?;
    coupon::removed(tx, &before, &after);
    subscription["discounts"] = json!(after);
    Ok(())
}

/// The items as they will be, if the request changes them.
fn changed_items(
    tx: &Tx<'_>,
    subscription: &Value,
    params: &Params<'_>,
) -> Result<Option<Vec<Value>>> {
    let asked = params.objects("items")?;
    if asked.is_empty() {
        return Ok(None);
    }
    let id = subscription["id"].as_str().unwrap_or_default();
    let (start, end) = period(subscription);
    let mut items = items(subscription);
    for change in &asked {
        let price = match change.text("price")? {
            Some(price) => Some(recurring_price(tx, price, &change.name_of("price"))?.clone()),
            None => None,
        };
        let quantity = change.integer_from("quantity", 0, 1_000_000)?;
        let Some(item_id) = change.text("id")? else {
            let price = price.ok_or_else(|| StripeError::missing(&change.name_of("price")))?;
            items.push(new_item(
                tx.now,
                id,
                &price,
                quantity.unwrap_or(1),
                change.metadata(None)?,
            ));
            continue;
        };
        let at = items.iter().position(|item| item["id"] == item_id);
        let at = at.ok_or_else(|| {
            StripeError::no_such("subscription_item", item_id, &change.name_of("id"))
        })?;
        if change.boolean("deleted")? == Some(true) {
            items.remove(at);
            continue;
        }
        let quantity = quantity.or(items[at]["quantity"].as_i64()).unwrap_or(1);
        let price = price.unwrap_or_else(|| items[at]["price"].clone());
        let metadata = change.metadata(Some(&items[at]["metadata"]))?;
        let mut item = new_item(tx.now, id, &price, quantity, metadata);
        item["id"] = json!(item_id);
        item["created"] = items[at]["created"].clone();
        items[at] = item;
    }
    if items.is_empty() {
        return Err(StripeError::state(
            None,
            "A subscription must have at least one active item.",
        ));
    }
    for (index, item) in items.iter().enumerate() {
        if items[..index]
            .iter()
            .any(|other| other["price"]["id"] == item["price"]["id"])
        {
            let message = "Cannot add multiple subscription items with the same price.";
            return Err(StripeError::state(None, message).with_param("items"));
        }
    }
    check_together(&items)?;
    for item in &mut items {
        item["current_period_start"] = json!(start);
        item["current_period_end"] = json!(end);
    }
    Ok(Some(items))
}

/// Invoices what is pending, and the period that begins if `whole_period`.
fn bill(tx: &mut Tx<'_>, id: &str, whole_period: bool, fail_if_unpaid: bool) -> Result<()> {
    let mut subscription = get(tx, kind::SUBSCRIPTION, "subscription", id)?.clone();
    let (start, end) = period(&subscription);
    let mut charges = take_pending(&mut subscription);
    if whole_period {
        charges.extend(invoice_lines::full_period(
            tx,
            &items(&subscription),
            start,
            end,
        ));
    }
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    let invoice = invoice::draft(
        tx,
        &subscription,
        "subscription_update",
        &charges,
        start,
        tx.now,
    );
    // The draft may have used up a discount: go on from what is staged.
    subscription = get(tx, kind::SUBSCRIPTION, "subscription", id)?.clone();
    subscription["latest_invoice"] = invoice["id"].clone();
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    let invoice = invoice::finalize(tx, invoice);
    if invoice["status"] != "open" || subscription["collection_method"] == "send_invoice" {
        return Ok(());
    }
    match invoice::collect(tx, invoice["id"].as_str().unwrap_or_default(), None, true) {
        Ok(Outcome::RequiresAction) if fail_if_unpaid => {
            let message = "Payment for this subscription requires additional user action.";
            Err(StripeError::declined(
                "subscription_payment_intent_requires_action",
                None,
                message,
            ))
        }
        Err(error) if fail_if_unpaid => Err(error),
        _ => Ok(()),
    }
}

pub(in crate::stripe) fn take_pending(subscription: &mut Value) -> Vec<Charge> {
    let pending = subscription["_pending"].take();
    subscription["_pending"] = json!([]);
    pending
        .as_array()
        .into_iter()
        .flatten()
        .map(Charge::from_pending)
        .collect()
}

/// What `invoice_now` and `prorate` mean at cancellation: one last invoice, with credit for the unused time.
pub(in crate::stripe) fn final_bill(
    tx: &mut Tx<'_>,
    id: &str,
    invoice_now: bool,
    prorate_unused: bool,
) -> Result<()> {
    let mut subscription = get(tx, kind::SUBSCRIPTION, "subscription", id)?.clone();
    if prorate_unused {
        let old = items(&subscription);
        let now = tx.now;
        prorate(tx, &mut subscription, &old, &[], now, true);
        tx.put(kind::SUBSCRIPTION, subscription.clone());
    }
    if invoice_now && has_pending(&subscription) {
        bill(tx, id, false, false)?;
    }
    Ok(())
}
