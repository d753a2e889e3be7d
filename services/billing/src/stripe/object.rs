//! What billing reads of Stripe's objects, and no more: a field that is missing or new never fails a call that in truth
//! succeeded.
//! Deliberately absent: everything else Stripe says.

mod money;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use money::{
    CardState, ChargeState, CheckoutSession, CustomerDetails, CustomerState, DisputeState,
    EventPage, Expanded, InvoiceAlert, MethodState, PaymentIntentState, PaymentReading,
    RefundState, UpcomingInvoice,
};

/// An id, or the object when it was expanded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Ref {
    /// The id.
    Id(String),
    /// The object.
    Object {
        /// Its id.
        id: String,
    },
}

impl Ref {
    /// The id either way.
    pub fn id(&self) -> &str {
        match self {
            Ref::Id(id) | Ref::Object { id } => id,
        }
    }
}

/// A list.
#[derive(Debug, Deserialize)]
pub struct Page<T> {
    /// Its first page.
    #[serde(default = "Vec::new")]
    pub data: Vec<T>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { data: Vec::new() }
    }
}

/// What a search found.
pub type Found<T> = Page<T>;

macro_rules! only_id {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        pub struct $name {
            /// Stripe's id.
            pub id: String,
        })*
    };
}

only_id! {
    /// A customer.
    Customer
    /// A product.
    Product
    /// A price.
    Price
    /// A coupon.
    Coupon
    /// A refund.
    Refund
}

/// A subscription.
#[derive(Debug, Clone, Deserialize)]
pub struct Subscription {
    /// `sub_…`.
    pub id: String,
    /// Its status, in Stripe's words.
    #[serde(default)]
    pub status: String,
    /// What we noted on it.
    #[serde(default)]
    pub metadata: HashMap<String, String>,
    /// Its last invoice.
    #[serde(default)]
    pub latest_invoice: Option<Ref>,
    #[serde(default)]
    items: Page<Item>,
    #[serde(default)]
    trial_end: Option<i64>,
    #[serde(default)]
    canceled_at: Option<i64>,
    #[serde(default)]
    ended_at: Option<i64>,
    #[serde(default)]
    cancel_at_period_end: bool,
    #[serde(default)]
    pause_collection: Option<PauseCollection>,
}

#[derive(Debug, Clone, Deserialize)]
struct PauseCollection {
    #[serde(default)]
    resumes_at: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Item {
    #[serde(default)]
    current_period_start: Option<i64>,
    #[serde(default)]
    current_period_end: Option<i64>,
}

impl<T: Clone> Clone for Page<T> {
    fn clone(&self) -> Self {
        Self {
            data: self.data.clone(),
        }
    }
}

/// What a reading of a subscription says, in our words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Stripe's status.
    pub status: String,
    /// The period that is running.
    pub period_start: Option<DateTime<Utc>>,
    /// Its end.
    pub period_end: Option<DateTime<Utc>>,
    /// When the trial ends or ended.
    pub trial_end: Option<DateTime<Utc>>,
    /// When it was canceled or ended.
    pub canceled_at: Option<DateTime<Utc>>,
    /// It ends with its period.
    #[serde(default)]
    pub cancel_at_period_end: bool,
    /// Collection is paused.
    #[serde(default)]
    pub paused: bool,
    /// When collection begins again by itself.
    #[serde(default)]
    pub resumes_at: Option<DateTime<Utc>>,
}

impl Subscription {
    /// What it says. Since the 2025 versions the period stands on the items; we sell one.
    pub fn reading(&self) -> Reading {
        let item = self.items.data.first();
        Reading {
            status: self.status.clone(),
            period_start: item.and_then(|item| item.current_period_start).and_then(at),
            period_end: item.and_then(|item| item.current_period_end).and_then(at),
            trial_end: self.trial_end.and_then(at),
            canceled_at: self.ended_at.or(self.canceled_at).and_then(at),
            cancel_at_period_end: self.cancel_at_period_end,
            paused: self.pause_collection.is_some(),
            resumes_at: self
                .pause_collection
                .as_ref()
                .and_then(|pause| pause.resumes_at)
                .and_then(at),
        }
    }

    /// Whether it still bills or may yet.
    pub fn is_live(&self) -> bool {
        !matches!(self.status.as_str(), "canceled" | "incomplete_expired")
    }
}

/// A payment method.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentMethod {
    /// `pm_…`.
    pub id: String,
    #[serde(default)]
    customer: Option<Ref>,
    #[serde(default)]
    card: Option<Card>,
}

#[derive(Debug, Clone, Deserialize)]
struct Card {
    #[serde(default)]
    fingerprint: Option<String>,
}

impl PaymentMethod {
    /// The same for the same card, whoever brings it.
    pub fn fingerprint(&self) -> Option<&str> {
        self.card.as_ref()?.fingerprint.as_deref()
    }

    /// Whether it is attached to this customer.
    pub fn belongs_to(&self, customer: &str) -> bool {
        self.customer.as_ref().map(Ref::id) == Some(customer)
    }
}

/// A payment, from being asked for to being made.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentIntent {
    /// `pi_…`.
    pub id: String,
    /// Where it stands, in Stripe's words.
    #[serde(default)]
    pub status: String,
    /// Lets the payer's browser go on with it.
    #[serde(default)]
    pub client_secret: Option<String>,
    #[serde(default)]
    last_payment_error: Option<PaymentError>,
}

#[derive(Debug, Clone, Deserialize)]
struct PaymentError {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    decline_code: Option<String>,
}

impl PaymentIntent {
    /// Its payer has to do something first. One that only awaits its confirmation has not been tried yet.
    pub fn waits_for_payer(&self) -> bool {
        self.status == "requires_action"
    }

    /// It was tried and came to nothing.
    pub fn has_failed(&self) -> bool {
        matches!(self.status.as_str(), "requires_payment_method" | "canceled")
    }

    /// Why, in the issuer's word or Stripe's.
    pub fn decline_code(&self) -> Option<String> {
        let error = self.last_payment_error.as_ref()?;
        error.decline_code.clone().or_else(|| error.code.clone())
    }
}

/// An invoice.
#[derive(Debug, Clone, Deserialize)]
pub struct Invoice {
    /// `in_…`.
    pub id: String,
    /// `draft`, `open`, `paid`, `uncollectible` or `void`.
    #[serde(default)]
    pub status: Option<String>,
    /// Whose it is.
    #[serde(default)]
    pub customer: Option<Ref>,
    /// In which currency.
    #[serde(default)]
    pub currency: String,
    /// What it asks for.
    #[serde(default)]
    pub amount_due: i64,
    /// What was paid.
    #[serde(default)]
    pub amount_paid: i64,
    #[serde(default)]
    parent: Option<Parent>,
    #[serde(default)]
    subscription: Option<Ref>,
    #[serde(default)]
    lines: Page<Line>,
    #[serde(default)]
    status_transitions: Transitions,
    /// What its payer or an operator is told when it cannot be collected.
    #[serde(flatten)]
    pub alert: InvoiceAlert,
}

#[derive(Debug, Clone, Deserialize)]
struct Parent {
    #[serde(default)]
    subscription_details: Option<SubscriptionDetails>,
}

#[derive(Debug, Clone, Deserialize)]
struct SubscriptionDetails {
    #[serde(default)]
    subscription: Option<Ref>,
}

#[derive(Debug, Clone, Deserialize)]
struct Line {
    #[serde(default)]
    period: Option<Span>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Span {
    start: i64,
    end: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Transitions {
    paid_at: Option<i64>,
}

impl Invoice {
    /// The subscription it bills. Older API versions name it directly.
    pub fn subscription(&self) -> Option<&str> {
        let details = self
            .parent
            .as_ref()
            .and_then(|parent| parent.subscription_details.as_ref());
        details
            .and_then(|details| details.subscription.as_ref())
            .or(self.subscription.as_ref())
            .map(Ref::id)
    }

    /// The span its lines bill: for a subscription the period they pay for, not the one before it, which is what the
    /// invoice's own `period_*` name.
    pub fn period(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let spans = || self.lines.data.iter().filter_map(|line| line.period);
        let start = spans().map(|span| span.start).min().and_then(at)?;
        let end = spans().map(|span| span.end).max().and_then(at)?;
        Some((start, end))
    }

    /// When it was paid.
    pub fn paid_at(&self) -> Option<DateTime<Utc>> {
        self.status_transitions.paid_at.and_then(at)
    }

    /// Whether it was paid.
    pub fn is_paid(&self) -> bool {
        self.status.as_deref() == Some("paid")
    }
}

/// A payment on an invoice.
#[derive(Debug, Clone, Deserialize)]
pub struct InvoicePayment {
    #[serde(default)]
    payment: Payment,
    #[serde(default)]
    invoice: Option<Ref>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Payment {
    #[serde(default)]
    payment_intent: Option<Ref>,
}

impl InvoicePayment {
    /// The payment intent that moved the money.
    pub fn payment_intent(&self) -> Option<&str> {
        self.payment.payment_intent.as_ref().map(Ref::id)
    }

    /// The invoice it pays.
    pub fn invoice(&self) -> Option<&str> {
        self.invoice.as_ref().map(Ref::id)
    }
}

fn at(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_another_api_version_is_read_for_what_it_has() {
        let subscription: Subscription =
            serde_json::from_str(r#"{"id":"sub_1","latest_invoice":{"id":"in_1","x":1}}"#)
                .expect("readable");
        assert_eq!(
            subscription.latest_invoice.as_ref().map(Ref::id),
            Some("in_1")
        );
        assert_eq!(subscription.reading().period_end, None);
        let invoice: Invoice =
            serde_json::from_str(r#"{"id":"in_1","subscription":"sub_1"}"#).expect("readable");
        assert_eq!(invoice.subscription(), Some("sub_1"));
        assert_eq!(invoice.period(), None);
    }

    #[test]
    fn an_invoice_pays_for_the_period_of_its_lines() {
        let invoice: Invoice = serde_json::from_str(
            r#"{"id":"in_1","status":"paid","period_start":1,"period_end":1,
                "parent":{"type":"subscription_details","subscription_details":{"subscription":"sub_1"}},
                "lines":{"data":[{"period":{"start":100,"end":200}},{"period":{"start":90,"end":150}}]}}"#,
        )
        .expect("readable");
        let seconds = invoice
            .period()
            .map(|(start, end)| (start.timestamp(), end.timestamp()));
        assert_eq!(seconds, Some((90, 200)));
        assert!(invoice.is_paid());
    }
}
