//! Invoices, as Stripe made them (mirrored; Stripe stays their owner).
//! Deliberately absent: making or changing one. That is Stripe's, asked for by sagas.

pub mod rpc;
pub(crate) mod rules;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_types::{InvoiceId, Money, SubscriptionId};

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InvoiceStatus {
    /// Being made.
    Draft,
    /// To be paid.
    Open,
    /// Given up; may still be paid.
    Uncollectible,
    /// Withdrawn.
    Void,
    /// Paid.
    Paid,
}

impl InvoiceStatus {
    /// As Stripe and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            InvoiceStatus::Draft => "draft",
            InvoiceStatus::Open => "open",
            InvoiceStatus::Uncollectible => "uncollectible",
            InvoiceStatus::Void => "void",
            InvoiceStatus::Paid => "paid",
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        use InvoiceStatus::{Draft, Open, Paid, Uncollectible, Void};
        let mut all = [Draft, Open, Uncollectible, Void, Paid].into_iter();
        all.find(|status| status.as_str() == text)
    }
}

/// An invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Its id here.
    pub id: InvoiceId,
    /// What it bills.
    pub subscription_id: Option<SubscriptionId>,
    /// `in_…`.
    pub stripe_invoice_id: String,
    /// Where it stands.
    pub status: InvoiceStatus,
    /// What it asks for.
    pub amount_due: Money,
    /// What was paid.
    pub amount_paid: Money,
    /// The period its lines bill.
    pub period_start_at: Option<DateTime<Utc>>,
    /// Its end.
    pub period_end_at: Option<DateTime<Utc>>,
    /// When it was paid.
    pub paid_at: Option<DateTime<Utc>>,
    /// Rises with every change.
    pub sequence: i64,
    /// When we first heard of it.
    pub created_at: DateTime<Utc>,
}
