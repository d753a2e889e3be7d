//! Disputes, as Stripe has them: the deadline for evidence, where the money is, and how it ended.
//! Deliberately absent: evidence. Writing and sending it comes with BIL-53.

mod error;
pub mod rpc;
pub(crate) mod rules;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_types::{ClientId, DisputeId, Money, PaymentId};

pub use error::DisputeError;

/// Where a dispute stands, in Stripe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeStatus {
    /// An inquiry that waits for an answer.
    WarningNeedsResponse,
    /// An inquiry that was answered.
    WarningUnderReview,
    /// An inquiry that did not become a dispute.
    WarningClosed,
    /// It waits for evidence.
    NeedsResponse,
    /// The issuer decides.
    UnderReview,
    /// Settled before it began.
    Prevented,
    /// Decided for us.
    Won,
    /// Decided against us.
    Lost,
}

impl DisputeStatus {
    /// All of them.
    pub const ALL: [DisputeStatus; 8] = [
        DisputeStatus::WarningNeedsResponse,
        DisputeStatus::WarningUnderReview,
        DisputeStatus::WarningClosed,
        DisputeStatus::NeedsResponse,
        DisputeStatus::UnderReview,
        DisputeStatus::Prevented,
        DisputeStatus::Won,
        DisputeStatus::Lost,
    ];

    /// As Stripe and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DisputeStatus::WarningNeedsResponse => "warning_needs_response",
            DisputeStatus::WarningUnderReview => "warning_under_review",
            DisputeStatus::WarningClosed => "warning_closed",
            DisputeStatus::NeedsResponse => "needs_response",
            DisputeStatus::UnderReview => "under_review",
            DisputeStatus::Prevented => "prevented",
            DisputeStatus::Won => "won",
            DisputeStatus::Lost => "lost",
        }
    }

    /// Our word for Stripe's; none for one that we do not know.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == text)
    }

    /// Whether nothing more comes of it.
    pub const fn is_closed(self) -> bool {
        matches!(
            self,
            DisputeStatus::WarningClosed
                | DisputeStatus::Prevented
                | DisputeStatus::Won
                | DisputeStatus::Lost
        )
    }
}

/// A dispute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// Its id here.
    pub id: DisputeId,
    /// Whose payment.
    pub client_id: ClientId,
    /// The payment.
    pub payment_id: PaymentId,
    /// `du_…` or `dp_…`.
    pub stripe_dispute_id: String,
    /// Where it stands.
    pub status: DisputeStatus,
    /// How much.
    pub amount: Money,
    /// Why.
    pub reason: String,
    /// Until when evidence counts.
    pub evidence_due_at: Option<DateTime<Utc>>,
    /// Whether Stripe took the money back at some time.
    pub funds_withdrawn: bool,
    /// Whether Stripe returned it.
    pub funds_reinstated: bool,
    /// When it was closed, as far as we know.
    pub closed_at: Option<DateTime<Utc>>,
    /// Rises with every change.
    pub sequence: i64,
    /// When we first heard of it.
    pub created_at: DateTime<Utc>,
}
