//! The objects by which money moves and is asked for: payment intents, charges, refunds, disputes, checkout sessions, and
//! who pays with what.
//! Deliberately absent: meaning. What a mirror makes of a reading stands with each slice's rules.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Ref, at};

/// An object that was asked to be expanded, or its id where it was not.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Expanded<T> {
    /// The object.
    Object(Box<T>),
    /// Its id.
    Id(String),
}

/// A payment intent, with its last charge.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentIntentState {
    /// `pi_…`.
    pub id: String,
    /// Its status, in Stripe's words.
    #[serde(default)]
    pub status: String,
    /// Who pays.
    #[serde(default)]
    pub customer: Option<Ref>,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    amount: i64,
    #[serde(default)]
    amount_received: i64,
    #[serde(default)]
    latest_charge: Option<Expanded<ChargeState>>,
    #[serde(default)]
    last_payment_error: Option<PaymentError>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PaymentError {
    code: Option<String>,
    decline_code: Option<String>,
    message: Option<String>,
}

/// A charge.
#[derive(Debug, Clone, Deserialize)]
pub struct ChargeState {
    /// `ch_…`.
    pub id: String,
    /// The intent it was made for.
    #[serde(default)]
    pub payment_intent: Option<Ref>,
    /// Who paid.
    #[serde(default)]
    pub customer: Option<Ref>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    amount: i64,
    #[serde(default)]
    amount_captured: i64,
    #[serde(default)]
    amount_refunded: i64,
    #[serde(default)]
    disputed: bool,
    #[serde(default)]
    failure_code: Option<String>,
    #[serde(default)]
    failure_message: Option<String>,
    #[serde(default)]
    created: i64,
}

/// What a reading of a payment says, whichever object it was made of. Plain data: a saga can carry it in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentReading {
    /// The intent, or the charge where there is none.
    pub stripe_id: String,
    /// The last charge.
    pub stripe_charge: Option<String>,
    /// Who paid.
    pub customer: Option<String>,
    /// The invoice it pays, where that was looked up.
    pub stripe_invoice: Option<String>,
    /// In Stripe's words.
    pub status: String,
    /// In which currency.
    pub currency: String,
    /// What was asked for.
    pub amount: i64,
    /// What was taken.
    pub captured: i64,
    /// What of it was given back.
    pub refunded: i64,
    /// Whether it was ever disputed.
    pub disputed: bool,
    /// Why it failed.
    pub failure_code: Option<String>,
    /// The same, for people.
    pub failure_message: Option<String>,
    /// When the last charge was made.
    pub charged_at: Option<DateTime<Utc>>,
}

impl PaymentIntentState {
    /// What it says.
    pub fn reading(&self) -> PaymentReading {
        let charge = match &self.latest_charge {
            Some(Expanded::Object(charge)) => Some(charge.as_ref()),
            Some(Expanded::Id(_)) | None => None,
        };
        let charge_id = match &self.latest_charge {
            Some(Expanded::Id(id)) => Some(id.clone()),
            _ => charge.map(|charge| charge.id.clone()),
        };
        let error = self.last_payment_error.clone().unwrap_or_default();
        let of_charge = charge.map(ChargeState::moved);
        let (captured, refunded) = of_charge.unwrap_or((self.amount_received, 0));
        let succeeded = self.status == "succeeded";
        PaymentReading {
            stripe_id: self.id.clone(),
            stripe_charge: charge_id,
            customer: self.customer.as_ref().map(|of| of.id().to_owned()),
            stripe_invoice: None,
            status: self.status.clone(),
            currency: self.currency.clone(),
            amount: self.amount,
            captured,
            refunded,
            disputed: charge.is_some_and(|charge| charge.disputed),
            // An intent keeps the error of a try before the one that succeeded.
            failure_code: error.decline_code.or(error.code).filter(|_| !succeeded),
            failure_message: error.message.filter(|_| !succeeded),
            charged_at: charge.and_then(|charge| at(charge.created)),
        }
    }
}

impl ChargeState {
    /// What it took and what of it was given back. A released authorization is told as refunded though nothing was taken.
    fn moved(&self) -> (i64, i64) {
        let captured = match self.status.as_str() {
            "succeeded" => self.amount_captured,
            _ => 0,
        };
        (captured, self.amount_refunded.min(captured))
    }

    /// What it says, where it has no intent.
    pub fn reading(&self) -> PaymentReading {
        let (captured, refunded) = self.moved();
        PaymentReading {
            stripe_id: self.id.clone(),
            stripe_charge: Some(self.id.clone()),
            customer: self.customer.as_ref().map(|of| of.id().to_owned()),
            stripe_invoice: None,
            status: match self.status.as_str() {
                "pending" => "processing".to_owned(),
                other => other.to_owned(),
            },
            currency: self.currency.clone(),
            amount: self.amount,
            captured,
            refunded,
            disputed: self.disputed,
            failure_code: self.failure_code.clone(),
            failure_message: self.failure_message.clone(),
            charged_at: at(self.created),
        }
    }
}

/// A refund.
#[derive(Debug, Clone, Deserialize)]
pub struct RefundState {
    /// `re_…`.
    pub id: String,
    /// Its status, in Stripe's words.
    #[serde(default)]
    pub status: Option<String>,
    /// In which currency.
    #[serde(default)]
    pub currency: String,
    /// How much.
    #[serde(default)]
    pub amount: i64,
    /// Why, in Stripe's words.
    #[serde(default)]
    pub reason: Option<String>,
    /// Why it failed.
    #[serde(default)]
    pub failure_reason: Option<String>,
    /// Of which intent.
    #[serde(default)]
    pub payment_intent: Option<Ref>,
    /// Of which charge.
    #[serde(default)]
    pub charge: Option<Ref>,
}

/// A dispute.
#[derive(Debug, Clone, Deserialize)]
pub struct DisputeState {
    /// `du_…` or `dp_…`.
    pub id: String,
    /// Its status, in Stripe's words.
    #[serde(default)]
    pub status: String,
    /// In which currency.
    #[serde(default)]
    pub currency: String,
    /// How much.
    #[serde(default)]
    pub amount: i64,
    /// Why, in Stripe's words.
    #[serde(default)]
    pub reason: String,
    /// About which intent.
    #[serde(default)]
    pub payment_intent: Option<Ref>,
    /// About which charge.
    #[serde(default)]
    pub charge: Option<Ref>,
    #[serde(default)]
    evidence_details: EvidenceDetails,
    #[serde(default)]
    balance_transactions: Vec<BalanceTransaction>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct EvidenceDetails {
    #[serde(default)]
    due_by: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct BalanceTransaction {
    #[serde(default)]
    amount: i64,
}

impl DisputeState {
    /// Until when evidence counts.
    pub fn evidence_due_at(&self) -> Option<DateTime<Utc>> {
        self.evidence_details.due_by.and_then(at)
    }

    /// Whether Stripe took the money back.
    pub fn funds_withdrawn(&self) -> bool {
        self.balance_transactions.iter().any(|one| one.amount < 0)
    }

    /// Whether Stripe returned it.
    pub fn funds_reinstated(&self) -> bool {
        self.balance_transactions.iter().any(|one| one.amount > 0)
    }
}

/// A customer, as far as billing follows it.
#[derive(Debug, Clone, Deserialize)]
pub struct CustomerState {
    /// `cus_…`.
    pub id: String,
    /// Whether it was deleted; then nothing else is said.
    #[serde(default)]
    pub deleted: bool,
    /// Whether its last invoice is overdue.
    #[serde(default)]
    pub delinquent: Option<bool>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Where receipts go.
    #[serde(default)]
    pub email: Option<String>,
    /// Its telephone.
    #[serde(default)]
    pub phone: Option<String>,
    /// What we noted on it.
    #[serde(default)]
    pub metadata: HashMap<String, String>,
    #[serde(default)]
    invoice_settings: InvoiceSettings,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct InvoiceSettings {
    #[serde(default)]
    default_payment_method: Option<Ref>,
}

impl CustomerState {
    /// What pays its invoices unless they say otherwise.
    pub fn default_payment_method(&self) -> Option<&str> {
        let method = self.invoice_settings.default_payment_method.as_ref();
        method.map(Ref::id)
    }
}

/// A payment method, as far as a person needs to tell it apart.
#[derive(Debug, Clone, Deserialize)]
pub struct MethodState {
    /// `pm_…`.
    pub id: String,
    /// `card`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Who pays with it; nobody once it is detached.
    #[serde(default)]
    pub customer: Option<Ref>,
    /// The card.
    #[serde(default)]
    pub card: Option<CardState>,
}

/// A card.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CardState {
    /// `visa`.
    pub brand: Option<String>,
    /// Its last four digits.
    pub last4: Option<String>,
    /// When it expires.
    pub exp_month: Option<i32>,
    /// When it expires.
    pub exp_year: Option<i32>,
    /// The same for the same number.
    pub fingerprint: Option<String>,
}

/// A checkout session.
#[derive(Debug, Clone, Deserialize)]
pub struct CheckoutSession {
    /// `cs_…`.
    pub id: String,
    /// `payment`, `setup` or `subscription`.
    #[serde(default)]
    pub mode: String,
    /// `open`, `complete` or `expired`.
    #[serde(default)]
    pub status: Option<String>,
    /// `paid`, `unpaid` or `no_payment_required`.
    #[serde(default)]
    pub payment_status: String,
    /// Who pays.
    #[serde(default)]
    pub customer: Option<Ref>,
    /// What was subscribed to.
    #[serde(default)]
    pub subscription: Option<Ref>,
    /// Who it said it is.
    #[serde(default)]
    pub customer_details: Option<CustomerDetails>,
    /// What we noted on it or on its link.
    #[serde(default)]
    pub metadata: HashMap<String, String>,
}

/// Who a payer said to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CustomerDetails {
    /// The name.
    pub name: Option<String>,
    /// The email address.
    pub email: Option<String>,
    /// The telephone.
    pub phone: Option<String>,
}

/// What `invoice.upcoming` tells: it is about an invoice that is not made yet, so there is no object to read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct UpcomingInvoice {
    /// In which currency.
    pub currency: String,
    /// What it will ask for.
    pub amount_due: i64,
    next_payment_attempt: Option<i64>,
}

impl UpcomingInvoice {
    /// When Stripe will collect it.
    pub fn collected_at(&self) -> Option<DateTime<Utc>> {
        self.next_payment_attempt.and_then(at)
    }
}

/// What an invoice tells its payer or an operator when it cannot be collected.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct InvoiceAlert {
    /// Where the payer pays or authenticates.
    pub hosted_invoice_url: Option<String>,
    /// When Stripe tries next.
    pub next_payment_attempt: Option<i64>,
    /// How often it was tried.
    pub attempt_count: i64,
    /// Why it could not be finalized.
    pub last_finalization_error: Option<FinalizationError>,
}

/// Why an invoice could not be finalized.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FinalizationError {
    /// In Stripe's words.
    pub code: Option<String>,
    /// For people.
    pub message: Option<String>,
}

impl InvoiceAlert {
    /// When Stripe tries next.
    pub fn next_attempt_at(&self) -> Option<DateTime<Utc>> {
        self.next_payment_attempt.and_then(at)
    }
}

/// A page of Stripe's list of events, newest first; each as its webhook would have brought it.
#[derive(Debug, Deserialize)]
pub struct EventPage {
    /// The events.
    #[serde(default)]
    pub data: Vec<Value>,
    /// Whether there are older ones.
    #[serde(default)]
    pub has_more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_payment_is_what_its_last_charge_moved() {
        let intent = |charge: Value| -> PaymentReading {
            let intent = json!({"id": "pi_1", "status": "succeeded", "currency": "usd", "amount": 500,
                "amount_received": 500, "latest_charge": charge, "last_payment_error": {"code": "old"}});
            let intent: PaymentIntentState = serde_json::from_value(intent).expect("readable");
            intent.reading()
        };
        let whole = intent(
            json!({"id": "ch_1", "status": "succeeded", "amount_captured": 500,
            "amount_refunded": 200, "disputed": true, "created": 7}),
        );
        assert_eq!(
            (whole.captured, whole.refunded, whole.disputed),
            (500, 200, true)
        );
        assert_eq!(whole.failure_code, None, "the error of an earlier try");
        let bare = intent(json!("ch_1"));
        assert_eq!(
            (bare.captured, bare.stripe_charge.as_deref()),
            (500, Some("ch_1"))
        );
    }

    #[test]
    fn a_released_authorization_gave_nothing_back() {
        let charge: ChargeState =
            serde_json::from_value(json!({"id": "ch_1", "status": "succeeded",
            "amount": 500, "amount_captured": 0, "amount_refunded": 500}))
            .expect("readable");
        let reading = charge.reading();
        assert_eq!((reading.captured, reading.refunded), (0, 0));
    }
}
