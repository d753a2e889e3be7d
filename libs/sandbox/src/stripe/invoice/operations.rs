//! Owns what the API offers on invoices; what happens to one is in the parent.
//!
//! Deliberately absent: creating and deleting them by hand.

use serde_json::{Value, json};

use super::{change_payment, collect, finalize, mark_paid, void};
use crate::store::{By, Tx};
use crate::stripe::errors::{Result, StripeError};
use crate::stripe::list::{self, get, list_parameters};
use crate::stripe::payment_intent::{self, Outcome};
use crate::stripe::{
    Call, Operation, event, kind, operation, payment_method, search, subscription,
};

pub(in crate::stripe) const OPERATIONS: &[Operation] = &[
    operation(
        "GET",
        "/v1/invoices",
        "invoices.list",
        list_parameters!("collection_method", "customer", "status", "subscription"),
        list_invoices,
    ),
    operation(
        "GET",
        "/v1/invoices/search",
        "invoices.search",
        search::PARAMETERS,
        |tx, call| search::search(tx, call, kind::INVOICE),
    ),
    operation(
        "GET",
        "/v1/invoices/{id}",
        "invoices.retrieve",
        &[],
        |tx, call| get(tx, kind::INVOICE, "invoice", call.id).cloned(),
    ),
    operation(
        "GET",
        "/v1/invoices/{id}/lines",
        "invoices.list_lines",
        list_parameters!(),
        |tx, call| {
            let lines = get(tx, kind::INVOICE, "invoice", call.id)?["lines"]["data"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            list::page(call, &lines)
        },
    ),
    operation(
        "POST",
        "/v1/invoices/{id}",
        "invoices.update",
        UPDATE,
        update,
    ),
    operation(
        "POST",
        "/v1/invoices/{id}/pay",
        "invoices.pay",
        &[
            "forgive",
            "off_session",
            "paid_out_of_band",
            "payment_method",
        ],
        pay,
    ),
    operation(
        "POST",
        "/v1/invoices/{id}/finalize",
        "invoices.finalize",
        &["auto_advance"],
        finalize_call,
    ),
    operation(
        "POST",
        "/v1/invoices/{id}/void",
        "invoices.void",
        &[],
        void_call,
    ),
    operation(
        "POST",
        "/v1/invoices/{id}/mark_uncollectible",
        "invoices.mark_uncollectible",
        &[],
        mark_uncollectible,
    ),
    operation(
        "GET",
        "/v1/invoice_payments",
        "invoice_payments.list",
        list_parameters!(
            "invoice",
            "payment.payment_intent",
            "payment.type",
            "status"
        ),
        |tx, call| {
            let (of_invoice, of_status) = (
                list::equals(call, "invoice")?,
                list::equals(call, "status")?,
            );
            let payment = call.params.object("payment")?;
            let intent = payment
                .as_ref()
                .map(|by| by.text("payment_intent"))
                .transpose()?
                .flatten();
            let wanted = |payment: &Value| of_invoice(payment) && of_status(payment);
            match intent {
                Some(id) => {
                    let by = By::field("_payment_intent", id);
                    list::list_by(tx, call, kind::INVOICE_PAYMENT, by.as_ref(), |payment| {
                        payment["_payment_intent"] == id && wanted(payment)
                    })
                }
                None => list::list(tx, call, kind::INVOICE_PAYMENT, wanted),
            }
        },
    ),
    operation(
        "GET",
        "/v1/invoice_payments/{id}",
        "invoice_payments.retrieve",
        &[],
        |tx, call| get(tx, kind::INVOICE_PAYMENT, "invoice_payment", call.id).cloned(),
    ),
];

const UPDATE: &[&str] = &[
    "auto_advance",
    "default_payment_method",
    "description",
    "footer",
    "metadata",
    "metadata.*",
];

fn list_invoices(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let status = call.params.one_of(
        "status",
        &["draft", "open", "paid", "uncollectible", "void"],
    )?;
    let subscription = call.params.text("subscription")?;
    let (of_customer, of_method) = (
        list::equals(call, "customer")?,
        list::equals(call, "collection_method")?,
    );
    list::list(tx, call, kind::INVOICE, |invoice| {
        status.is_none_or(|status| invoice["status"] == status)
            && of_customer(invoice)
            && of_method(invoice)
            && subscription
                .is_none_or(|id| invoice["parent"]["subscription_details"]["subscription"] == id)
    })
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut invoice = get(tx, kind::INVOICE, "invoice", call.id)?.clone();
    if let Some(advance) = call.params.boolean("auto_advance")? {
        invoice["auto_advance"] = json!(advance);
        if !advance {
            invoice["_due_at"] = Value::Null;
        }
    }
    if let Some(id) = call.params.text("default_payment_method")? {
        let customer = invoice["customer"].as_str().unwrap_or_default();
        invoice["default_payment_method"] =
            payment_method::of_customer(tx, id, customer, "default_payment_method")?["id"].clone();
    }
    for field in ["description", "footer"] {
        if let Some(text) = call.params.raw(field)? {
            if invoice["status"] != "draft" {
                let message = "Finalized invoices can't be updated in this way";
                return Err(
                    StripeError::state(Some("invoice_not_editable"), message).with_param(field)
                );
            }
            invoice[field] = if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            };
        }
    }
    invoice["metadata"] = call.params.metadata(Some(&invoice["metadata"]))?;
    event::put_updated(tx, kind::INVOICE, "invoice.updated", invoice.clone());
    Ok(invoice)
}

fn pay(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut invoice = get(tx, kind::INVOICE, "invoice", call.id)?.clone();
    let out_of_band = call.params.boolean("paid_out_of_band")?.unwrap_or(false);
    let off_session = call.params.boolean("off_session")?.unwrap_or(true);
    call.params.boolean("forgive")?;
    let method = match call.params.text("payment_method")? {
        Some(id) => {
            let customer = invoice["customer"].as_str().unwrap_or_default();
            Some(
                payment_method::of_customer(tx, id, customer, "payment_method")?["id"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            )
        }
        None => None,
    };
    if invoice["status"] == "draft" {
        invoice = finalize(tx, invoice);
    }
    match invoice["status"].as_str().unwrap_or_default() {
        "open" | "uncollectible" => {}
        "paid" if invoice["amount_due"] == 0 => return Ok(invoice),
        "paid" => return Err(StripeError::state(None, "Invoice is already paid")),
        status => {
            return Err(StripeError::state(
                None,
                format!("This invoice is {status} and cannot be paid."),
            ));
        }
    }
    if out_of_band {
        let intent = invoice["_payment_intent"]
            .as_str()
            .and_then(|id| tx.get(kind::PAYMENT_INTENT, id))
            .cloned();
        if let Some(intent) = intent {
            payment_intent::cancel_intent(tx, intent, Some("automatic"));
        }
        change_payment(tx, call.id, "canceled", "canceled_at", None);
        return Ok(mark_paid(tx, invoice));
    }
    match collect(tx, call.id, method.as_deref(), off_session) {
        Ok(Outcome::Succeeded) => get(tx, kind::INVOICE, "invoice", call.id).cloned(),
        Ok(Outcome::RequiresAction) => {
            let message = "This payment requires additional user action before it can be completed successfully.";
            let mut error =
                StripeError::declined("invoice_payment_intent_requires_action", None, message);
            error.keeps_effects = true;
            Err(error)
        }
        Err(mut error) => {
            error.keeps_effects = true;
            Err(error)
        }
    }
}

fn finalize_call(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut invoice = get(tx, kind::INVOICE, "invoice", call.id)?.clone();
    if invoice["status"] != "draft" {
        let message =
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.";
        return Err(StripeError::state(None, message));
    }
    if let Some(advance) = call.params.boolean("auto_advance")? {
        invoice["auto_advance"] = json!(advance);
    }
    let invoice = finalize(tx, invoice);
    if invoice["status"] == "draft" {
        let code = Some("customer_tax_location_invalid");
        let mut error = StripeError::state(code, super::FINALIZATION_FAILED);
        error.keeps_effects = true;
        return Err(error);
    }
    Ok(invoice)
}

fn void_call(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let invoice = get(tx, kind::INVOICE, "invoice", call.id)?.clone();
    if invoice["status"] != "open" && invoice["status"] != "uncollectible" {
        let status = invoice["status"].as_str().unwrap_or_default();
        let message = format!(
            "You can only pass in open or uncollectible invoices. This invoice isn't: it is {status}."
        );
        return Err(StripeError::state(None, message));
    }
    let invoice = void(tx, invoice);
    subscription::first_invoice_voided(tx, &invoice);
    Ok(invoice)
}

fn mark_uncollectible(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let invoice = get(tx, kind::INVOICE, "invoice", call.id)?.clone();
    if invoice["status"] != "open" {
        return Err(StripeError::state(
            None,
            "You can only mark open invoices as uncollectible.",
        ));
    }
    Ok(super::mark_uncollectible(tx, invoice))
}
