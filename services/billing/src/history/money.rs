//! What changes of payments, refunds and disputes leave behind, and the notices by which people are told what they must
//! do about money.
//! Deliberately absent: how they are told. Messaging and escalation read the events.

use mainstay_db::Result;
use mainstay_types::Tenant;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{By, Change, SUBSCRIPTION_CONSUMERS, TROUBLE_CONSUMERS, leave};
use crate::checkout::SessionState;
use crate::dispute::Dispute;
use crate::payment::Payment;
use crate::refund::Refund;
use crate::subscription::sql::next_account_sequence;

/// A payment was mirrored for the first time or changed.
pub(crate) async fn payment_changed(
    conn: &mut PgConnection,
    by: &By,
    before: Option<&Payment>,
    after: &Payment,
) -> Result<()> {
    let told = |payment: &Payment| {
        json!({
            "payment_id": payment.id,
            "stripe_payment_id": payment.stripe_id,
            "stripe_invoice_id": payment.stripe_invoice_id,
            "status": payment.status.as_str(),
            "amount": payment.amount,
            "amount_captured_minor": payment.captured_minor,
            "amount_refunded_minor": payment.refunded_minor,
            "disputed": payment.disputed,
            "failure_code": payment.failure_code,
        })
    };
    let change = Change {
        noun: "payment",
        id: after.id.to_string(),
        sequence: after.sequence,
        event_type: "billing.payment.updated",
        action: "billing.payment.mirror",
        client: by.client,
        before: before.map(told),
        after: told(after),
        consumers: &[],
    };
    leave(conn, by, change).await
}

/// A refund was mirrored for the first time or changed.
pub(crate) async fn refund_changed(
    conn: &mut PgConnection,
    by: &By,
    before: Option<&Refund>,
    after: &Refund,
) -> Result<()> {
    let told = |refund: &Refund| {
        json!({
            "refund_id": refund.id,
            "payment_id": refund.payment_id,
            "stripe_refund_id": refund.stripe_refund_id,
            "status": refund.status.as_str(),
            "amount": refund.amount,
            "failure_reason": refund.failure_reason,
        })
    };
    let change = Change {
        noun: "refund",
        id: after.id.to_string(),
        sequence: after.sequence,
        event_type: "billing.refund.updated",
        action: "billing.refund.mirror",
        client: by.client,
        before: before.map(told),
        after: told(after),
        consumers: &[],
    };
    leave(conn, by, change).await
}

/// A dispute was mirrored for the first time or changed.
pub(crate) async fn dispute_changed(
    conn: &mut PgConnection,
    by: &By,
    before: Option<&Dispute>,
    after: &Dispute,
) -> Result<()> {
    let told = |dispute: &Dispute| {
        json!({
            "dispute_id": dispute.id,
            "payment_id": dispute.payment_id,
            "stripe_dispute_id": dispute.stripe_dispute_id,
            "status": dispute.status.as_str(),
            "amount": dispute.amount,
            "reason": dispute.reason,
            "evidence_due_at": dispute.evidence_due_at,
            "funds_withdrawn": dispute.funds_withdrawn,
            "funds_reinstated": dispute.funds_reinstated,
        })
    };
    let event_type = match before {
        None => "billing.dispute.opened",
        Some(before) if !before.status.is_closed() && after.status.is_closed() => {
            "billing.dispute.closed"
        }
        Some(_) => "billing.dispute.updated",
    };
    let change = Change {
        noun: "dispute",
        id: after.id.to_string(),
        sequence: after.sequence,
        event_type,
        action: "billing.dispute.mirror",
        client: by.client,
        before: before.map(told),
        after: told(after),
        consumers: TROUBLE_CONSUMERS,
    };
    leave(conn, by, change).await
}

/// A checkout session came to something other than being paid; that is its saga's to tell.
pub(crate) async fn checkout_changed(
    conn: &mut PgConnection,
    by: &By,
    stripe_session: &str,
    state: SessionState,
    sequence: i64,
) -> Result<()> {
    let event_type = match state {
        SessionState::AwaitingPayment => "billing.checkout.awaiting_payment",
        SessionState::PaymentFailed => "billing.checkout.payment_failed",
        SessionState::Expired => "billing.checkout.expired",
    };
    let change = Change {
        noun: "checkout_session",
        id: stripe_session.to_owned(),
        sequence,
        event_type,
        action: event_type,
        client: None,
        before: None,
        after: json!({ "stripe_session_id": stripe_session, "state": state.as_str() }),
        consumers: &[],
    };
    leave(conn, by, change).await
}

/// What somebody must be told about a client's money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A collection failed; the payer is to mend the payment method.
    PaymentFailed,
    /// The payer is to authenticate.
    PaymentActionRequired,
    /// An invoice could not be finalized; the agency is to mend it at Stripe.
    FinalizationFailed,
    /// An invoice will be made.
    InvoiceUpcoming,
    /// An invoice was given up.
    InvoiceUncollectible,
    /// A trial is about to end.
    TrialWillEnd,
    /// A change of plan was not paid in time and is off.
    PendingUpdateExpired,
    /// A refund came back: the money is still with us.
    RefundFailed,
    /// The customer was edited at Stripe.
    CustomerEdited,
    /// The customer was deleted at Stripe.
    CustomerDeleted,
    /// Somebody paid a link and is a client now.
    ClientOnboarded,
    /// A client with a subscription paid for another; the second one was ended and given back.
    SecondSubscriptionRefunded,
}

impl Notice {
    const fn event_type(self) -> &'static str {
        match self {
            Notice::PaymentFailed => "billing.invoice.payment_failed",
            Notice::PaymentActionRequired => "billing.invoice.payment_action_required",
            Notice::FinalizationFailed => "billing.invoice.finalization_failed",
            Notice::InvoiceUpcoming => "billing.invoice.upcoming",
            Notice::InvoiceUncollectible => "billing.invoice.uncollectible",
            Notice::TrialWillEnd => "billing.subscription.trial_will_end",
            Notice::PendingUpdateExpired => "billing.subscription.pending_update_expired",
            Notice::RefundFailed => "billing.refund.failed",
            Notice::CustomerEdited => "billing.customer.edited_at_stripe",
            Notice::CustomerDeleted => "billing.customer.deleted_at_stripe",
            Notice::ClientOnboarded => "billing.client.onboarded",
            Notice::SecondSubscriptionRefunded => "billing.client.second_subscription_refunded",
        }
    }
}

/// Tells it: an event for messaging, and an audit record that operators see. Ordered with all else about the client's
/// account, under its lock.
pub(crate) async fn notice(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    what: Notice,
    told: Value,
) -> Result<()> {
    let sequence = next_account_sequence(conn, tenant).await?;
    let change = Change {
        noun: "billing_account",
        id: tenant.client.to_string(),
        sequence,
        event_type: what.event_type(),
        action: what.event_type(),
        client: Some(tenant.client),
        before: None,
        after: told,
        consumers: match what {
            Notice::PaymentFailed => TROUBLE_CONSUMERS,
            _ => SUBSCRIPTION_CONSUMERS,
        },
    };
    leave(conn, by, change).await
}
