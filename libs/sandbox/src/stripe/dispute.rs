//! Owns disputes: the holder takes his money back through his bank, and the bank decides.
//!
//! ```text
//! needs_response ── evidence submitted ──▶ under_review ──▶ won | lost
//!        └── closed, or nothing said until due ──▶ lost
//! ```
//!
//! As in Stripe's test mode the evidence `winning_evidence` or `losing_evidence` decides at once; otherwise
//! `POST /_/stripe/disputes/{id}/resolve` does.
//!
//! Deliberately absent: inquiries, and the fee.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::{Call, Operation, event, kind, operation, test_clock};
use crate::ids;
use crate::store::Tx;

pub(crate) const REASONS: [&str; 9] = [
    "fraudulent",
    "bank_cannot_process",
    "credit_not_processed",
    "duplicate",
    "general",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "unrecognized",
];
const EVIDENCE: [&str; 27] = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
];
const RESPONSE_SECONDS: i64 = 7 * 86_400;
const MOST_TEXT: usize = 150_000;

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "GET",
        "/v1/disputes",
        "disputes.list",
        list_parameters!("charge", "payment_intent"),
        |tx, call| {
            let (of_charge, of_intent) = (
                list::equals(call, "charge")?,
                list::equals(call, "payment_intent")?,
            );
            list::list(tx, call, kind::DISPUTE, |dispute| {
                of_charge(dispute) && of_intent(dispute)
            })
        },
    ),
    operation(
        "GET",
        "/v1/disputes/{id}",
        "disputes.retrieve",
        &[],
        |tx, call| get(tx, kind::DISPUTE, "dispute", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/disputes/{id}",
        "disputes.update",
        &["evidence.*", "metadata", "metadata.*", "submit"],
        update,
    ),
    operation(
        "POST",
        "/v1/disputes/{id}/close",
        "disputes.close",
        &[],
        |tx, call| {
            let dispute = open_one(tx, call.id)?;
            Ok(decide(tx, dispute, false))
        },
    ),
];

fn is_open(dispute: &Value) -> bool {
    dispute["status"] != "won" && dispute["status"] != "lost"
}

fn open_one(tx: &Tx<'_>, id: &str) -> Result<Value> {
    let dispute = get(tx, kind::DISPUTE, "dispute", id)?;
    if is_open(dispute) {
        return Ok(dispute.clone());
    }
    let message = "This dispute is already closed.";
    Err(StripeError::state(Some("dispute_closed"), message))
}

/// The holder disputes a charge: the amount is withdrawn until the bank has decided.
pub(super) fn open(
    tx: &mut Tx<'_>,
    charge: &str,
    reason: &str,
    amount: Option<i64>,
) -> Result<Value> {
    let mut charge = get(tx, kind::CHARGE, "charge", charge)?.clone();
    let taken = charge["amount"].as_i64().unwrap_or(0);
    let left = taken - charge["amount_refunded"].as_i64().unwrap_or(0);
    if charge["status"] != "succeeded" || charge["disputed"] == true || left <= 0 {
        let message = "Only a charge that took money, was not refunded whole and is not disputed already can be disputed.";
        return Err(StripeError::state(None, message));
    }
    let amount = amount.unwrap_or(left);
    if !(1..=left).contains(&amount) {
        let message =
            format!("The amount must be between 1 and {left}, what is left of the charge.");
        return Err(StripeError::state(None, message).with_param("amount"));
    }
    let evidence: serde_json::Map<String, Value> = EVIDENCE
        .iter()
        .map(|field| ((*field).to_owned(), Value::Null))
        .collect();
    let due_by = tx.now + RESPONSE_SECONDS;
    let dispute = json!({
        "id": ids::stripe("du"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [{
            "id": ids::stripe("txn"), "object": "balance_transaction", "amount": -amount, "created": tx.now,
            "currency": charge["currency"], "fee": 0, "net": -amount, "reporting_category": "dispute", "type": "adjustment",
        }],
        "charge": charge["id"],
        "created": tx.now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": evidence,
        "evidence_details": {
            "due_by": due_by, "enhanced_eligibility": {}, "has_evidence": false, "past_due": false, "submission_count": 0,
        },
        "is_charge_refundable": false,
        "livemode": false,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": charge["payment_method_details"]["card"]["brand"], "case_type": "chargeback",
                "network_reason_code": "83",
            },
            "type": "card",
        },
        "reason": reason,
        "status": "needs_response",
        "_clock": test_clock::of(tx, &charge),
        "_due_at": due_by,
    });
    charge["disputed"] = json!(true);
    tx.put(kind::CHARGE, charge);
    tx.put(kind::DISPUTE, dispute.clone());
    event::emit(tx, "charge.dispute.created", &dispute, None);
    event::emit(tx, "charge.dispute.funds_withdrawn", &dispute, None);
    Ok(dispute)
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut dispute = get(tx, kind::DISPUTE, "dispute", call.id)?.clone();
    let submit = call.params.boolean("submit")?;
    let mut given = None;
    if let Some(evidence) = call.params.object("evidence")? {
        dispute = open_one(tx, call.id)?;
        let fields = evidence.tree().as_object().into_iter().flatten();
        for (field, _) in fields {
            let Some(known) = EVIDENCE.iter().find(|known| *known == field) else {
                let name = evidence.name_of(field);
                let message = format!("Received unknown parameter: {name}");
                return Err(StripeError::parameter("parameter_unknown", &name, message));
            };
            let text = evidence.raw(known)?.unwrap_or_default();
            if text.chars().count() > MOST_TEXT {
                let message = format!("Evidence can have up to {MOST_TEXT} characters in all.");
                let name = evidence.name_of(field);
                return Err(StripeError::parameter("parameter_invalid", &name, message));
            }
            dispute["evidence"][*known] = if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            };
        }
        dispute["evidence_details"]["has_evidence"] = json!(true);
        given = dispute["evidence"]["uncategorized_text"]
            .as_str()
            .map(str::to_owned);
    }
    dispute["metadata"] = call.params.metadata(Some(&dispute["metadata"]))?;
    // Evidence is submitted with the update that brings it, unless the caller says otherwise.
    let submitted = submit.unwrap_or(call.params.has("evidence"));
    if submitted {
        if dispute["status"] != "needs_response" {
            let message = "Evidence can be submitted once, while the dispute needs a response.";
            return Err(StripeError::state(None, message).with_param("submit"));
        }
        let count = dispute["evidence_details"]["submission_count"].as_i64();
        dispute["evidence_details"]["submission_count"] = json!(count.unwrap_or(0) + 1);
        dispute["status"] = json!("under_review");
        dispute["_due_at"] = Value::Null;
    }
    event::put_updated(tx, kind::DISPUTE, "charge.dispute.updated", dispute.clone());
    match given.as_deref() {
        Some("winning_evidence") if submitted => Ok(decide(tx, dispute, true)),
        Some("losing_evidence") if submitted => Ok(decide(tx, dispute, false)),
        _ => Ok(dispute),
    }
}

/// The bank decides, asked to from outside.
pub(super) fn resolve(tx: &mut Tx<'_>, id: &str, won: bool) -> Result<Value> {
    let dispute = open_one(tx, id)?;
    Ok(decide(tx, dispute, won))
}

/// Nobody answered in time.
pub(super) fn due(tx: &mut Tx<'_>, mut dispute: Value) {
    if dispute["status"] == "needs_response" {
        dispute["evidence_details"]["past_due"] = json!(true);
        decide(tx, dispute, false);
    }
}

fn decide(tx: &mut Tx<'_>, mut dispute: Value, won: bool) -> Value {
    dispute["status"] = json!(if won { "won" } else { "lost" });
    dispute["_due_at"] = Value::Null;
    let amount = dispute["amount"].clone();
    if let Some(movements) = dispute["balance_transactions"]
        .as_array_mut()
        .filter(|_| won)
    {
        let mut back = movements[0].clone();
        back["id"] = json!(ids::stripe("txn"));
        back["amount"] = amount.clone();
        back["net"] = amount;
        back["created"] = json!(tx.now);
        back["reporting_category"] = json!("dispute_reversal");
        movements.push(back);
    }
    tx.put(kind::DISPUTE, dispute.clone());
    event::emit(tx, "charge.dispute.closed", &dispute, None);
    if won {
        event::emit(tx, "charge.dispute.funds_reinstated", &dispute, None);
    }
    dispute
}

/// Is a dispute of this charge open or lost? Then the money is no longer ours to give back.
pub(super) fn holds(tx: &Tx<'_>, charge: &Value) -> bool {
    let of_charge = charge["id"]
        .as_str()
        .and_then(|id| crate::store::By::field("charge", id));
    charge["disputed"] == true
        && !tx
            .select(kind::DISPUTE, of_charge.as_ref(), |dispute| {
                dispute["status"] != "won"
            })
            .is_empty()
}
