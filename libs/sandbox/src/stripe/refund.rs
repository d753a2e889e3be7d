//! Owns refunds: in full or in part, never more than was taken. Those to some test cards stay pending for an hour, or
//! fail after one.
//!
//! Deliberately absent: refunds of what no charge took, and canceling a pending one.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::payment_method::{self, Behavior};
use super::{Call, Operation, dispute, event, kind, operation, test_clock};
use crate::ids;
use crate::store::Tx;

/// When what does not happen at once happens.
const LATER_SECONDS: i64 = 3_600;
const REASONS: &[&str] = &["duplicate", "fraudulent", "requested_by_customer"];

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/refunds",
        "refunds.create",
        &[
            "amount",
            "charge",
            "metadata",
            "metadata.*",
            "payment_intent",
            "reason",
        ],
        create,
    ),
    operation(
        "GET",
        "/v1/refunds",
        "refunds.list",
        list_parameters!("charge", "payment_intent"),
        |tx, call| {
            let (of_charge, of_intent) = (
                list::equals(call, "charge")?,
                list::equals(call, "payment_intent")?,
            );
            list::list(tx, call, kind::REFUND, |refund| {
                of_charge(refund) && of_intent(refund)
            })
        },
    ),
    operation(
        "GET",
        "/v1/refunds/{id}",
        "refunds.retrieve",
        &[],
        |tx, call| get(tx, kind::REFUND, "refund", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/refunds/{id}",
        "refunds.update",
        &["metadata", "metadata.*"],
        update,
    ),
];

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    let asked = params.integer_from("amount", 1, 99_999_999)?;
    let reason = params.one_of("reason", REASONS)?;
    let metadata = params.metadata(None)?;
    let mut charge = match (params.text("charge")?, params.text("payment_intent")?) {
        (Some(id), None) => list::get_named(tx, kind::CHARGE, "charge", id, "charge")?.clone(),
        (None, Some(id)) => {
            let intent = list::get_named(
                tx,
                kind::PAYMENT_INTENT,
                "payment_intent",
                id,
                "payment_intent",
            )?;
            let charge = intent["latest_charge"]
                .as_str()
                .filter(|_| intent["status"] == "succeeded");
            let charge = charge.and_then(|id| tx.get(kind::CHARGE, id)).cloned();
            charge.ok_or_else(|| {
                let message = format!(
                    "This PaymentIntent ({id}) does not have a successful charge to refund."
                );
                StripeError::state(Some("payment_intent_unexpected_state"), message)
                    .with_param("payment_intent")
            })?
        }
        (Some(_), Some(_)) => {
            let message = "You may only specify one of these parameters: charge, payment_intent.";
            return Err(StripeError::parameter(
                "parameters_exclusive",
                "charge",
                message,
            ));
        }
        (None, None) => return Err(StripeError::missing("charge")),
    };
    let id = charge["id"].as_str().unwrap_or_default().to_owned();
    if charge["status"] != "succeeded" {
        return Err(StripeError::state(
            None,
            format!("Charge {id} did not succeed and cannot be refunded."),
        ));
    }
    if dispute::holds(tx, &charge) {
        let message = format!("Charge {id} is disputed and cannot be refunded.");
        return Err(StripeError::state(Some("charge_disputed"), message));
    }
    let refunded = charge["amount_refunded"].as_i64().unwrap_or(0);
    let left = charge["amount"].as_i64().unwrap_or(0) - refunded;
    if left == 0 {
        let message = format!("Charge {id} has already been refunded.");
        return Err(StripeError::state(Some("charge_already_refunded"), message));
    }
    let amount = asked.unwrap_or(left);
    if amount > left {
        let message = format!(
            "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})."
        );
        return Err(StripeError::state(Some("amount_too_large"), message).with_param("amount"));
    }
    let method = charge["payment_method"]
        .as_str()
        .and_then(|id| tx.get(kind::PAYMENT_METHOD, id));
    let (status, due_at) = match method.map(payment_method::behavior) {
        Some(Behavior::RefundsFail) => ("succeeded", Some(tx.now + LATER_SECONDS)),
        Some(Behavior::RefundsPend) => ("pending", Some(tx.now + LATER_SECONDS)),
        _ => ("succeeded", None),
    };
    let refund = json!({
        "id": ids::stripe("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": ids::stripe("txn"),
        "charge": id,
        "created": tx.now,
        "currency": charge["currency"],
        "destination_details": {
            "card": { "reference": null, "reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund" },
            "type": "card",
        },
        "metadata": metadata,
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "receipt_number": null,
        "source_transfer_reversal": null,
        "status": status,
        "transfer_reversal": null,
        "_clock": test_clock::of(tx, &charge),
        "_due_at": due_at,
    });
    tx.put(kind::REFUND, refund.clone());
    event::emit(tx, "refund.created", &refund, None);
    let previous = json!({ "amount_refunded": refunded, "refunded": false });
    charge["amount_refunded"] = json!(refunded + amount);
    charge["refunded"] = json!(amount == left);
    tx.put(kind::CHARGE, charge.clone());
    event::emit(tx, "charge.refunded", &charge, Some(previous));
    Ok(refund)
}

/// What was to come of it later comes now.
pub(super) fn due(tx: &mut Tx<'_>, mut refund: Value) {
    if refund["status"] != "pending" {
        fail(tx, refund);
        return;
    }
    refund["status"] = json!("succeeded");
    event::put_updated(tx, kind::REFUND, "refund.updated", refund.clone());
    event::emit(tx, "charge.refund.updated", &refund, None);
}

/// The bank sends the money back to us: the charge is no longer refunded.
pub(super) fn fail(tx: &mut Tx<'_>, mut refund: Value) -> Value {
    refund["status"] = json!("failed");
    refund["failure_reason"] = json!("lost_or_stolen_card");
    refund["failure_balance_transaction"] = json!(ids::stripe("txn"));
    refund["_due_at"] = Value::Null;
    tx.put(kind::REFUND, refund.clone());
    let charge = refund["charge"]
        .as_str()
        .and_then(|id| tx.get(kind::CHARGE, id))
        .cloned();
    if let Some(mut charge) = charge {
        let refunded = charge["amount_refunded"].as_i64().unwrap_or(0);
        charge["amount_refunded"] = json!(refunded - refund["amount"].as_i64().unwrap_or(0));
        charge["refunded"] = json!(false);
        event::put_updated(tx, kind::CHARGE, "charge.updated", charge);
    }
    event::emit(tx, "refund.failed", &refund, None);
    event::emit(tx, "charge.refund.updated", &refund, None);
    refund
}

/// The bank is asked from outside to send it back.
pub(super) fn fail_by_id(tx: &mut Tx<'_>, id: &str) -> Result<Value> {
    let refund = get(tx, kind::REFUND, "refund", id)?.clone();
    if refund["status"] == "failed" {
        return Err(StripeError::state(None, "This refund has failed already."));
    }
    Ok(fail(tx, refund))
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut refund = get(tx, kind::REFUND, "refund", call.id)?.clone();
    refund["metadata"] = call.params.metadata(Some(&refund["metadata"]))?;
    event::put_updated(tx, kind::REFUND, "refund.updated", refund.clone());
    Ok(refund)
}
