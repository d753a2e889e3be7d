//! Owns the making of a subscription: reading the request, the first invoice, and the state it starts in.
//!
//! Deliberately absent: items priced on the spot (`price_data`); plans have prices of their own.

use serde_json::{Value, json};

use super::{check_together, new_item, plan, recurring_price, set_period, update};
use crate::ids;
use crate::store::Tx;
use crate::stripe::errors::{Result, StripeError};
use crate::stripe::invoice::lines::{self as invoice_lines, Charge};
use crate::stripe::list::get;
use crate::stripe::params::Params;
use crate::stripe::payment_intent::Outcome;
use crate::stripe::{Call, coupon, customer, event, invoice, kind, payment_method};

pub(in crate::stripe) const PARAMETERS: &[&str] = &[
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
const MOST_ITEMS: usize = 20;

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
pub(in crate::stripe) fn trial_end(params: &Params<'_>, now: i64) -> Result<Option<i64>> {
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

pub(in crate::stripe) fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
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
    let customer = customer::live(tx, &customer_id, "customer")?;
    subscription["test_clock"] = customer["test_clock"].clone();
    subscription["_clock"] = customer["_clock"].clone();
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
    let holder = coupon::Holder {
        subscription: &id,
        customer: &customer_id,
        currency: currency.as_str().unwrap_or_default(),
    };
    subscription["discounts"] = json!(coupon::asked(tx, params, &holder, &[])?);

    let trial_end = trial_end(params, tx.now)?;
    let anchor = trial_end.unwrap_or(tx.now);
    let period_end =
        trial_end.unwrap_or_else(|| invoice_lines::period_end(anchor, &items[0]["price"], tx.now));
    subscription["billing_cycle_anchor"] = json!(anchor);
    set_period(&mut subscription, tx.now, period_end);
    if params.boolean("cancel_at_period_end")?.unwrap_or(false) {
        update::cancel_at_period_end(&mut subscription, tx.now);
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
    if super::notice::give(tx, &subscription) {
        subscription = get(tx, kind::SUBSCRIPTION, "subscription", &id)?.clone();
    }
    Ok(subscription)
}

/// What the end of a trial without a payment method shall do.
pub(super) fn missing_payment_method(params: &Params<'_>) -> Result<Option<&'static str>> {
    let end = params
        .object("trial_settings")?
        .map(|settings| settings.object("end_behavior"))
        .transpose()?
        .flatten();
    match end {
        Some(end) => end.one_of(
            "missing_payment_method",
            &["cancel", "create_invoice", "pause"],
        ),
        None => Ok(None),
    }
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
    let on_missing = missing_payment_method(params)?.unwrap_or("create_invoice");
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
    if invoice["status"] == "draft" {
        let code = Some("customer_tax_location_invalid");
        return Err(StripeError::state(code, invoice::FINALIZATION_FAILED));
    }
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
