//! Owns charges: the record of every attempt to take money, and reading them.
//!
//! Deliberately absent: making one directly; payment intents do.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::{Call, Operation, event, kind, operation, search};
use crate::ids;
use crate::store::Tx;

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "GET",
        "/v1/charges",
        "charges.list",
        list_parameters!("customer", "payment_intent"),
        |tx, call| {
            let (of_customer, of_intent) = (
                list::equals(call, "customer")?,
                list::equals(call, "payment_intent")?,
            );
            list::list(tx, call, kind::CHARGE, |charge| {
                of_customer(charge) && of_intent(charge)
            })
        },
    ),
    operation(
        "GET",
        "/v1/charges/search",
        "charges.search",
        search::PARAMETERS,
        |tx, call| search::search(tx, call, kind::CHARGE),
    ),
    operation(
        "GET",
        "/v1/charges/{id}",
        "charges.retrieve",
        &[],
        |tx, call| get(tx, kind::CHARGE, "charge", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/charges/{id}",
        "charges.update",
        &["description", "metadata", "metadata.*"],
        update_charge,
    ),
];

/// Writes down that money was taken, or why not.
pub(super) fn record(
    tx: &mut Tx<'_>,
    intent: &Value,
    method: &Value,
    failure: Option<&StripeError>,
) -> Value {
    let succeeded = failure.is_none();
    let amount = intent["amount"].clone();
    let card = &method["card"];
    let code = failure.and_then(|error| error.decline_code.clone().or(error.code.clone()));
    let charge = json!({
        "id": ids::stripe("ch"),
        "object": "charge",
        "amount": amount,
        "amount_captured": if succeeded { amount.clone() } else { json!(0) },
        "amount_refunded": 0,
        "application": null,
        "application_fee": null,
        "application_fee_amount": null,
        "balance_transaction": if succeeded { json!(ids::stripe("txn")) } else { Value::Null },
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "MAINSTAY",
        "captured": succeeded,
        "created": tx.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": false,
        "failure_balance_transaction": null,
        "failure_code": failure.and_then(|error| error.code.clone()),
        "failure_message": failure.map(|error| error.message.clone()),
        "fraud_details": {},
        "livemode": false,
        "metadata": intent["metadata"],
        "on_behalf_of": null,
        "outcome": {
            "advice_code": null,
            "network_advice_code": null,
            "network_decline_code": null,
            "network_status": if succeeded { "approved_by_network" } else { "declined_by_network" },
            "reason": code,
            "risk_level": "normal",
            "risk_score": 20,
            "seller_message": if succeeded { "Payment complete." } else { "The bank did not return any further details with this decline." },
            "type": if succeeded { "authorized" } else { "issuer_declined" },
        },
        "paid": succeeded,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {
            "card": {
                "amount_authorized": amount, "brand": card["brand"], "checks": card["checks"], "country": card["country"],
                "exp_month": card["exp_month"], "exp_year": card["exp_year"], "fingerprint": card["fingerprint"],
                "funding": card["funding"], "installments": null, "last4": card["last4"], "mandate": null,
                "network": card["brand"], "three_d_secure": null, "wallet": null,
            },
            "type": "card",
        },
        "receipt_email": intent["receipt_email"],
        "receipt_number": null,
        "receipt_url": null,
        "refunded": false,
        "review": null,
        "shipping": null,
        "source_transfer": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": if succeeded { "succeeded" } else { "failed" },
        "transfer_data": null,
        "transfer_group": null,
    });
    tx.put(kind::CHARGE, charge.clone());
    charge
}

fn update_charge(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut charge = get(tx, kind::CHARGE, "charge", call.id)?.clone();
    if let Some(text) = call.params.raw("description")? {
        charge["description"] = if text.is_empty() {
            Value::Null
        } else {
            json!(text)
        };
    }
    charge["metadata"] = call.params.metadata(Some(&charge["metadata"]))?;
    event::put_updated(tx, kind::CHARGE, "charge.updated", charge.clone());
    Ok(charge)
}
