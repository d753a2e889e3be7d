//! Owns invoices: from draft to paid, void or uncollectible, and the attempts to collect them.
//!
//! ```text
//! draft ── finalize ──▶ open ── collected ──▶ paid
//!                        ├── void ──▶ void
//!                        └── mark_uncollectible ──▶ uncollectible ── collected ──▶ paid
//! ```
//!
//! Deliberately absent: invoices made by hand and their items; subscriptions make them. Also the hour that Stripe
//! leaves a renewal in draft: here it is finalized at once, so that a test's clock needs no second push.

pub(super) mod lines;
mod operations;

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::get;
use super::payment_intent::{self, Outcome};
use super::{coupon, event, kind, subscription};
use crate::ids;
use crate::store::{By, Tx};
use lines::Charge;

pub(super) use operations::OPERATIONS;

/// Days after which a failed renewal is tried again, counted from the invoice: eight attempts within two weeks.
const RETRY_DAYS: [i64; 8] = [1, 3, 5, 7, 9, 11, 13, 14];
/// Why an invoice stays a draft where `/_/stripe/customers/{id}/finalization` says that it fails.
pub(super) const FINALIZATION_FAILED: &str = "The customer's location isn't recognized. Set a valid customer address in order to \
                                   automatically calculate tax.";
/// Declines that no retry mends.
const HARD_DECLINES: [&str; 4] = ["lost_card", "stolen_card", "fraudulent", "incorrect_number"];

/// A draft for `subscription`, staged and told of.
pub(super) fn draft(
    tx: &mut Tx<'_>,
    subscription: &Value,
    reason: &str,
    charges: &[Charge],
    start: i64,
    end: i64,
) -> Value {
    let mut invoice = blank(tx, &ids::stripe("in"), subscription, reason, start, end);
    let discounts = coupon::of(tx, &subscription["discounts"]);
    let used = lines::write(tx, &mut invoice, charges, &discounts);
    subscription::discounts_used(
        tx,
        subscription["id"].as_str().unwrap_or_default(),
        &discounts,
        &used,
    );
    tx.put(kind::INVOICE, invoice.clone());
    event::emit(tx, "invoice.created", &invoice, None);
    invoice
}

/// The next invoice as it would be today. Nothing of it is kept.
pub(super) fn preview(
    tx: &Tx<'_>,
    subscription: &Value,
    charges: &[Charge],
    start: i64,
    end: i64,
) -> Value {
    let id = format!("upcoming_{}", ids::stripe("in"));
    let mut invoice = blank(tx, &id, subscription, "upcoming", start, end);
    let discounts = coupon::of(tx, &subscription["discounts"]);
    lines::write(tx, &mut invoice, charges, &discounts);
    invoice["next_payment_attempt"] = json!(end);
    invoice
}

fn blank(tx: &Tx<'_>, id: &str, subscription: &Value, reason: &str, start: i64, end: i64) -> Value {
    let customer_id = subscription["customer"].as_str().unwrap_or_default();
    let customer = tx
        .get(kind::CUSTOMER, customer_id)
        .cloned()
        .unwrap_or(Value::Null);
    let by_hand = subscription["collection_method"] == "send_invoice";
    let due_date = subscription["days_until_due"]
        .as_i64()
        .filter(|_| by_hand)
        .map(|days| tx.now + days * 86_400);
    json!({
        "id": id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Mainstay sandbox",
        "account_tax_ids": null,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": null,
        "attempt_count": 0,
        "attempted": false,
        "auto_advance": true,
        "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null, "provider": null, "status": null },
        "automatically_finalizes_at": null,
        "billing_reason": reason,
        "collection_method": subscription["collection_method"],
        "created": tx.now,
        "currency": subscription["currency"],
        "custom_fields": null,
        "customer": customer_id,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "due_date": due_date,
        "effective_at": null,
        "ending_balance": null,
        "footer": customer["invoice_settings"]["footer"],
        "from_invoice": null,
        "hosted_invoice_url": null,
        "invoice_pdf": null,
        "issuer": { "type": "self" },
        "last_finalization_error": null,
        "latest_revision": null,
        "lines": null,
        "livemode": false,
        "metadata": {},
        "next_payment_attempt": null,
        "number": null,
        "on_behalf_of": null,
        "parent": {
            "quote_details": null,
            "subscription_details": { "metadata": subscription["metadata"], "subscription": subscription["id"] },
            "type": "subscription_details",
        },
        "payment_settings": { "default_mandate": null, "payment_method_options": null, "payment_method_types": null },
        "period_end": end,
        "period_start": start,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": null,
        "rendering": null,
        "shipping_cost": null,
        "shipping_details": null,
        "starting_balance": 0,
        "statement_descriptor": null,
        "status": "draft",
        "status_transitions": { "finalized_at": null, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "test_clock": subscription["test_clock"],
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": null,
        "_payment_intent": null,
        "_clock": subscription["_clock"],
        "_subscription": subscription["id"],
    })
}

/// Makes a draft payable. What is due is asked for through a payment intent; if nothing is, the invoice is paid.
pub(super) fn finalize(tx: &mut Tx<'_>, mut invoice: Value) -> Value {
    let id = invoice["id"].as_str().unwrap_or_default().to_owned();
    let customer = invoice["customer"]
        .as_str()
        .and_then(|id| tx.get(kind::CUSTOMER, id));
    if customer.is_some_and(|customer| customer["_finalization_fails"] == true) {
        return fail_finalization(tx, invoice);
    }
    invoice["last_finalization_error"] = Value::Null;
    invoice["number"] = json!(next_number(tx, &invoice));
    invoice["status"] = json!("open");
    invoice["status_transitions"]["finalized_at"] = json!(tx.now);
    invoice["effective_at"] = json!(tx.now);
    invoice["ending_balance"] = invoice["_ending_balance"].clone();
    invoice["hosted_invoice_url"] = json!(format!(
        "https://invoice.stripe.com/i/acct_sandbox/test_{id}"
    ));
    invoice["invoice_pdf"] = json!(format!(
        "https://pay.stripe.com/invoice/acct_sandbox/test_{id}/pdf"
    ));
    if let Some(mut customer) = invoice["customer"]
        .as_str()
        .and_then(|id| tx.get(kind::CUSTOMER, id))
        .cloned()
        && customer["balance"] != invoice["_ending_balance"]
    {
        customer["balance"] = invoice["_ending_balance"].clone();
        event::put_updated(tx, kind::CUSTOMER, "customer.updated", customer);
    }
    let due = invoice["amount_due"].as_i64().unwrap_or(0);
    if due > 0 {
        let currency = invoice["currency"].as_str().unwrap_or("usd").to_owned();
        let description = if invoice["billing_reason"] == "subscription_create" {
            "Subscription creation"
        } else {
            "Subscription update"
        };
        let customer = invoice["customer"].clone();
        let mut intent =
            payment_intent::open(tx, due, &currency, &customer, Some(description), json!({}));
        intent["_invoice"] = json!(id);
        invoice["_payment_intent"] = intent["id"].clone();
        tx.put(
            kind::INVOICE_PAYMENT,
            invoice_payment(tx.now, &invoice, &intent),
        );
        tx.put(kind::PAYMENT_INTENT, intent);
    }
    tx.put(kind::INVOICE, invoice.clone());
    event::emit(tx, "invoice.finalized", &invoice, None);
    if due == 0 {
        invoice["attempted"] = json!(true);
        return mark_paid(tx, invoice);
    }
    invoice
}

/// Stays a draft and says why.
fn fail_finalization(tx: &mut Tx<'_>, mut invoice: Value) -> Value {
    invoice["last_finalization_error"] = json!({
        "code": "customer_tax_location_invalid",
        "doc_url": "https://docs.stripe.com/error-codes/customer-tax-location-invalid",
        "message": FINALIZATION_FAILED,
        "type": "invalid_request_error",
    });
    tx.put(kind::INVOICE, invoice.clone());
    event::emit(tx, "invoice.finalization_failed", &invoice, None);
    invoice
}

/// The payment intent that an invoice asks for money by.
pub(super) fn intent(tx: &Tx<'_>, invoice: &Value) -> Option<Value> {
    tx.get(kind::PAYMENT_INTENT, invoice["_payment_intent"].as_str()?)
        .cloned()
}

fn invoice_payment(now: i64, invoice: &Value, intent: &Value) -> Value {
    json!({
        "id": ids::stripe("inpay"),
        "object": "invoice_payment",
        "amount_paid": null,
        "amount_requested": invoice["amount_due"],
        "created": now,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": true,
        "livemode": false,
        "payment": { "payment_intent": intent["id"], "type": "payment_intent" },
        "status": "open",
        "status_transitions": { "canceled_at": null, "paid_at": null },
        "_payment_intent": intent["id"],
    })
}

/// `PREFIX-0007`, counted per customer.
fn next_number(tx: &mut Tx<'_>, invoice: &Value) -> String {
    let Some(mut customer) = invoice["customer"]
        .as_str()
        .and_then(|id| tx.get(kind::CUSTOMER, id))
        .cloned()
    else {
        return ids::random(8).to_ascii_uppercase();
    };
    let sequence = customer["next_invoice_sequence"].as_i64().unwrap_or(1);
    let number = format!(
        "{}-{sequence:04}",
        customer["invoice_prefix"].as_str().unwrap_or("MAIN")
    );
    customer["next_invoice_sequence"] = json!(sequence + 1);
    if customer["currency"].is_null() {
        customer["currency"] = invoice["currency"].clone();
    }
    tx.put(kind::CUSTOMER, customer);
    number
}

/// The payment intent succeeded: so the invoice is paid.
pub(super) fn settle(tx: &mut Tx<'_>, id: &str) {
    if let Some(invoice) = tx
        .get(kind::INVOICE, id)
        .filter(|invoice| invoice["status"] != "paid")
        .cloned()
    {
        mark_paid(tx, invoice);
    }
}

fn mark_paid(tx: &mut Tx<'_>, mut invoice: Value) -> Value {
    let id = invoice["id"].as_str().unwrap_or_default().to_owned();
    invoice["status"] = json!("paid");
    invoice["status_transitions"]["paid_at"] = json!(tx.now);
    invoice["amount_paid"] = invoice["amount_due"].clone();
    invoice["amount_remaining"] = json!(0);
    invoice["auto_advance"] = json!(false);
    invoice["attempted"] = json!(true);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["_due_at"] = Value::Null;
    tx.put(kind::INVOICE, invoice.clone());
    event::emit(tx, "invoice.paid", &invoice, None);
    event::emit(tx, "invoice.payment_succeeded", &invoice, None);
    change_payment(tx, &id, "paid", "paid_at", Some("invoice_payment.paid"));
    subscription::invoice_paid(tx, &invoice);
    invoice
}

fn change_payment(
    tx: &mut Tx<'_>,
    invoice: &str,
    status: &str,
    moment: &str,
    event_type: Option<&str>,
) {
    let of_invoice = By::field("invoice", invoice);
    let open = tx.select(kind::INVOICE_PAYMENT, of_invoice.as_ref(), |payment| {
        payment["status"] == "open"
    });
    let Some(mut payment) = open.first().map(|payment| (*payment).clone()) else {
        return;
    };
    payment["status"] = json!(status);
    payment["status_transitions"][moment] = json!(tx.now);
    if status == "paid" {
        payment["amount_paid"] = payment["amount_requested"].clone();
    }
    tx.put(kind::INVOICE_PAYMENT, payment.clone());
    if let Some(event_type) = event_type {
        event::emit(tx, event_type, &payment, None);
    }
}

/// Tries to collect an open invoice with `method`, or the one that stands behind the subscription or customer. A
/// failure leaves its trace and comes back as the error.
pub(super) fn collect(
    tx: &mut Tx<'_>,
    id: &str,
    method: Option<&str>,
    off_session: bool,
) -> Result<Outcome> {
    let invoice = get(tx, kind::INVOICE, "invoice", id)?.clone();
    let Some(method) = method
        .map(str::to_owned)
        .or_else(|| method_behind(tx, &invoice))
    else {
        note_failure(tx, id, None);
        let message = "This customer has no attached payment source or default payment method. Please consider adding a \
                       default payment method.";
        return Err(StripeError::state(Some("resource_missing"), message));
    };
    let intent_id = invoice["_payment_intent"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut intent = get(tx, kind::PAYMENT_INTENT, "payment_intent", &intent_id)?.clone();
    intent["payment_method"] = json!(method);
    intent["status"] = json!("requires_confirmation");
    tx.put(kind::PAYMENT_INTENT, intent);
    let outcome = payment_intent::confirm(tx, &intent_id, off_session);
    match &outcome {
        Ok(Outcome::Succeeded) => {
            count_attempt(tx, id);
            settle(tx, id);
        }
        Ok(Outcome::RequiresAction) => note_action_required(tx, id),
        Err(error) => note_failure(tx, id, error.decline_code.as_deref()),
    }
    outcome
}

/// Which payment method would be charged.
pub(super) fn method_behind(tx: &Tx<'_>, invoice: &Value) -> Option<String> {
    let subscription = invoice["parent"]["subscription_details"]["subscription"].as_str();
    let subscription = subscription.and_then(|id| tx.get(kind::SUBSCRIPTION, id));
    let customer = invoice["customer"]
        .as_str()
        .and_then(|id| tx.get(kind::CUSTOMER, id));
    let named = [
        invoice["default_payment_method"].as_str(),
        subscription.and_then(|s| s["default_payment_method"].as_str()),
        customer.and_then(|c| c["invoice_settings"]["default_payment_method"].as_str()),
    ];
    named
        .into_iter()
        .flatten()
        .find(|id| tx.get(kind::PAYMENT_METHOD, id).is_some())
        .map(str::to_owned)
}

fn count_attempt(tx: &mut Tx<'_>, id: &str) -> Option<Value> {
    let mut invoice = tx.get(kind::INVOICE, id)?.clone();
    invoice["attempt_count"] = json!(invoice["attempt_count"].as_i64().unwrap_or(0) + 1);
    invoice["attempted"] = json!(true);
    tx.put(kind::INVOICE, invoice.clone());
    Some(invoice)
}

/// The holder must authenticate. The attempt counts as failed until he does.
pub(super) fn note_action_required(tx: &mut Tx<'_>, id: &str) {
    let Some(invoice) = plan_retry(tx, id, None) else {
        return;
    };
    event::emit(tx, "invoice.payment_action_required", &invoice, None);
    event::emit(tx, "invoice.payment_failed", &invoice, None);
    subscription::invoice_failed(tx, &invoice);
}

pub(super) fn note_failure(tx: &mut Tx<'_>, id: &str, decline_code: Option<&str>) {
    let Some(invoice) = plan_retry(tx, id, decline_code) else {
        return;
    };
    event::emit(tx, "invoice.payment_failed", &invoice, None);
    subscription::invoice_failed(tx, &invoice);
}

/// Counts the attempt and plans the next one: never for a first invoice or after a hard decline.
fn plan_retry(tx: &mut Tx<'_>, id: &str, decline_code: Option<&str>) -> Option<Value> {
    let mut invoice = count_attempt(tx, id)?;
    let attempts = usize::try_from(invoice["attempt_count"].as_i64().unwrap_or(1)).unwrap_or(1);
    let created = invoice["created"].as_i64().unwrap_or(tx.now);
    let retried =
        invoice["billing_reason"] != "subscription_create" && invoice["auto_advance"] == true;
    let hard = decline_code.is_some_and(|code| HARD_DECLINES.contains(&code));
    let last = created + RETRY_DAYS[RETRY_DAYS.len() - 1] * 86_400;
    // Attempts by hand may come late; a planned one never lies in the past.
    let next = RETRY_DAYS
        .get(attempts - 1)
        .map(|days| (created + days * 86_400).max(tx.now + 3_600));
    let next = next.filter(|_| retried && !hard);
    invoice["next_payment_attempt"] = json!(next);
    invoice["_due_at"] = if retried {
        json!(next.unwrap_or(last.max(tx.now + 3_600)))
    } else {
        Value::Null
    };
    tx.put(kind::INVOICE, invoice.clone());
    Some(invoice)
}

pub(super) fn mark_uncollectible(tx: &mut Tx<'_>, mut invoice: Value) -> Value {
    invoice["status"] = json!("uncollectible");
    invoice["status_transitions"]["marked_uncollectible_at"] = json!(tx.now);
    invoice["auto_advance"] = json!(false);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["_due_at"] = Value::Null;
    tx.put(kind::INVOICE, invoice.clone());
    event::emit(tx, "invoice.marked_uncollectible", &invoice, None);
    invoice
}

pub(super) fn void(tx: &mut Tx<'_>, mut invoice: Value) -> Value {
    let id = invoice["id"].as_str().unwrap_or_default().to_owned();
    invoice["status"] = json!("void");
    invoice["status_transitions"]["voided_at"] = json!(tx.now);
    invoice["auto_advance"] = json!(false);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["_due_at"] = Value::Null;
    tx.put(kind::INVOICE, invoice.clone());
    event::emit(tx, "invoice.voided", &invoice, None);
    change_payment(tx, &id, "canceled", "canceled_at", None);
    let intent = invoice["_payment_intent"]
        .as_str()
        .and_then(|id| tx.get(kind::PAYMENT_INTENT, id))
        .cloned();
    if let Some(intent) = intent.filter(|intent| intent["status"] != "canceled") {
        payment_intent::cancel_intent(tx, intent, Some("void_invoice"));
    }
    invoice
}

/// A subscription ended: what is still open is no longer collected by itself.
pub(super) fn stop_collecting(tx: &mut Tx<'_>, subscription: &str) {
    let of_subscription = By::field("_subscription", subscription);
    let open: Vec<Value> = tx
        .select(kind::INVOICE, of_subscription.as_ref(), |invoice| {
            invoice["status"] == "open"
        })
        .into_iter()
        .cloned()
        .collect();
    for mut invoice in open {
        invoice["auto_advance"] = json!(false);
        invoice["next_payment_attempt"] = Value::Null;
        invoice["_due_at"] = Value::Null;
        event::put_updated(tx, kind::INVOICE, "invoice.updated", invoice);
    }
}
