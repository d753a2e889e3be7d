//! Refunds, as Stripe made them. How much of a payment was given back is the payment's to say; here is by which refund
//! and how far each has come.
//! Deliberately absent: asking for one (BIL-52).

pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_types::{Currency, Money, PaymentId, RefundId};

use crate::stripe::object::RefundState;

/// Where a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundStatus {
    /// Under way.
    Pending,
    /// Its receiver must act.
    RequiresAction,
    /// Given back.
    Succeeded,
    /// It came back: the money is still with us.
    Failed,
    /// Called off.
    Canceled,
}

impl RefundStatus {
    /// As Stripe and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            RefundStatus::Pending => "pending",
            RefundStatus::RequiresAction => "requires_action",
            RefundStatus::Succeeded => "succeeded",
            RefundStatus::Failed => "failed",
            RefundStatus::Canceled => "canceled",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        use RefundStatus::{Canceled, Failed, Pending, RequiresAction, Succeeded};
        let mut all = [Pending, RequiresAction, Succeeded, Failed, Canceled].into_iter();
        all.find(|status| status.as_str() == text)
    }
}

/// A refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Its id here.
    pub id: RefundId,
    /// What is given back.
    pub payment_id: PaymentId,
    /// `re_…`.
    pub stripe_refund_id: String,
    /// Where it stands.
    pub status: RefundStatus,
    /// How much.
    pub amount: Money,
    /// Why.
    pub reason: Option<String>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// Rises with every change.
    pub sequence: i64,
    /// When we first heard of it.
    pub created_at: DateTime<Utc>,
}

/// The mirror after a reading; none when its status or currency is none we know. A refund may fail after it had
/// succeeded, so no status is its last; that readings come in their order is counted where they are applied.
pub(crate) fn mirror(
    before: Option<&Refund>,
    payment: PaymentId,
    reading: &RefundState,
    now: DateTime<Utc>,
) -> Option<Refund> {
    let status = RefundStatus::from_text(reading.status.as_deref()?)?;
    let currency: Currency = reading.currency.parse().ok()?;
    let read = Refund {
        id: before.map_or_else(RefundId::generate, |before| before.id),
        payment_id: payment,
        stripe_refund_id: reading.id.clone(),
        status,
        amount: Money::new(reading.amount, currency),
        reason: reading.reason.clone(),
        failure_reason: reading.failure_reason.clone(),
        sequence: before.map_or(0, |before| before.sequence),
        created_at: before.map_or(now, |before| before.created_at),
    };
    if before == Some(&read) {
        return Some(read);
    }
    Some(Refund {
        sequence: read.sequence + 1,
        ..read
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refund_can_fail_after_it_had_succeeded() {
        let (payment, now) = (PaymentId::generate(), DateTime::UNIX_EPOCH);
        let reading = |status: &str| -> RefundState {
            let refund =
                serde_json::json!({"id": "re_1", "status": status, "currency": "usd", "amount": 5});
            serde_json::from_value(refund).expect("readable")
        };
        let given = mirror(None, payment, &reading("succeeded"), now).expect("mirrored");
        let failed = mirror(Some(&given), payment, &reading("failed"), now).expect("mirrored");
        assert_eq!((failed.status, failed.sequence), (RefundStatus::Failed, 2));
        assert_eq!(
            mirror(Some(&failed), payment, &reading("failed"), now),
            Some(failed)
        );
        assert_eq!(mirror(None, payment, &reading("quantum"), now), None);
    }
}
