//! What every change leaves behind, in its own transaction: a domain event and an audit row.
//! Deliberately absent: decisions on who must know. An event has its consumers here, in one table.

mod money;
mod saga;

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_jobs::audit::{self, AuditRecord};
use mainstay_jobs::outbox::{self, NewEvent};
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, ClientId, ServiceName, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;

pub(crate) use money::{
    Notice, checkout_changed, dispute_changed, notice, payment_changed, refund_changed,
};

pub(crate) use saga::{Parked, saga_decided, saga_parked};

use crate::coupon::Coupon;
use crate::invoice::{Invoice, InvoiceStatus};
use crate::offboarding::Offboarding;
use crate::plan::Plan;
use crate::subscription::Subscription;

/// Who makes a change, for whom and when. Sagas carry it, so that what they do later is still that person's act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// In which agency.
    pub agency: AgencyId,
    /// On which client, where the act is about one.
    pub client: Option<ClientId>,
    /// `mem_…`, `key_…`, `service:billing`.
    pub principal: String,
    /// The request.
    pub request_id: Option<String>,
    /// The platform's time.
    pub now: DateTime<Utc>,
}

impl By {
    /// The caller of an RPC about one client, or about the agency.
    pub fn of(ctx: &Context, now: DateTime<Utc>) -> Self {
        use mainstay_rpc::Visible;
        let scope = ctx.agency_scope();
        let about_one_client =
            ctx.method.access.scope() == mainstay_proto::options::v1::Scope::Client;
        let client = match scope.visible {
            Visible::Only(clients) if about_one_client => clients.first().copied(),
            _ => None,
        };
        Self {
            agency: scope.agency,
            client,
            principal: ctx.principal(),
            request_id: Some(ctx.request_id.clone()),
            now,
        }
    }

    /// Stripe, by way of its events.
    pub fn stripe(tenant: Tenant, event: &str, now: DateTime<Utc>) -> Self {
        Self {
            agency: tenant.agency,
            client: Some(tenant.client),
            principal: "service:billing".to_owned(),
            request_id: Some(event.to_owned()),
            now,
        }
    }

    /// The same, later.
    pub fn at(&self, now: DateTime<Utc>) -> Self {
        Self {
            now,
            ..self.clone()
        }
    }
}

/// Messaging stops and starts with what a client has paid for.
const SUBSCRIPTION_CONSUMERS: &[ServiceName] = &[ServiceName::Messaging];
/// Somebody has to look at these, or need not any more.
const ALERTING_CONSUMERS: &[ServiceName] = &[ServiceName::Escalation];
/// Both.
const TROUBLE_CONSUMERS: &[ServiceName] = &[ServiceName::Messaging, ServiceName::Escalation];

struct Change<'a> {
    noun: &'static str,
    id: String,
    sequence: i64,
    event_type: &'static str,
    action: &'a str,
    client: Option<ClientId>,
    before: Option<Value>,
    after: Value,
    consumers: &'static [ServiceName],
}

async fn leave(conn: &mut PgConnection, by: &By, change: Change<'_>) -> Result<()> {
    let event = NewEvent {
        event_type: change.event_type,
        schema_version: 1,
        agency: by.agency,
        client: change.client,
        aggregate_type: change.noun,
        aggregate_id: change.id.clone(),
        sequence: change.sequence,
        occurred_at: by.now,
        actor: by.principal.clone(),
        cause: None,
        payload: change.after.clone(),
        consumers: change.consumers,
    };
    outbox::emit(conn, &event).await?;
    let record = AuditRecord {
        agency: by.agency,
        client: change.client,
        actor: &by.principal,
        action: change.action,
        target_type: change.noun,
        target_id: &change.id,
        before: change.before,
        after: Some(change.after),
        request_id: by.request_id.as_deref(),
        occurred_at: by.now,
    };
    audit::record(conn, &record).await?;
    Ok(())
}

/// What can happen to a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PlanChange {
    Created,
    Updated,
    Archived,
}

/// A plan was created, updated or archived.
pub(crate) async fn plan_changed(
    conn: &mut PgConnection,
    by: &By,
    what: PlanChange,
    before: Option<&Plan>,
    after: &Plan,
) -> Result<()> {
    let (event_type, action) = match what {
        PlanChange::Created => ("billing.plan.created", "billing.plan.create"),
        PlanChange::Updated => ("billing.plan.updated", "billing.plan.update"),
        PlanChange::Archived => ("billing.plan.archived", "billing.plan.archive"),
    };
    let told = |plan: &Plan| {
        json!({
            "plan_id": plan.id,
            "version": plan.version,
            "state": plan.state.as_str(),
            "terms": plan.terms,
        })
    };
    let change = Change {
        noun: "plan",
        id: after.id.to_string(),
        sequence: after.revision,
        event_type,
        action,
        client: None,
        before: before.map(told),
        after: told(after),
        consumers: &[],
    };
    leave(conn, by, change).await
}

/// What can happen to a coupon, redemptions aside: those are told by the subscriptions that redeem it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CouponChange {
    Created,
    Deactivated,
    /// It was never redeemed and is gone.
    Deleted,
    /// Its counter was not what its redemptions say, and is again.
    Recounted,
}

/// A coupon was made, ended or counted anew; `after` carries the new revision, taken under its lock.
pub(crate) async fn coupon_changed(
    conn: &mut PgConnection,
    by: &By,
    what: CouponChange,
    before: Option<&Coupon>,
    after: &Coupon,
) -> Result<()> {
    let (event_type, action) = match what {
        CouponChange::Created => ("billing.coupon.created", "billing.coupon.create"),
        CouponChange::Deactivated => ("billing.coupon.deactivated", "billing.coupon.deactivate"),
        CouponChange::Deleted => ("billing.coupon.deleted", "billing.coupon.delete"),
        CouponChange::Recounted => ("billing.coupon.recounted", "billing.coupon.recount"),
    };
    let told = |coupon: &Coupon| {
        json!({
            "coupon_id": coupon.id,
            "state": coupon.state.as_str(),
            "terms": coupon.terms,
            "times_redeemed": coupon.times_redeemed,
        })
    };
    let change = Change {
        noun: "coupon",
        id: after.id.to_string(),
        sequence: after.revision,
        event_type,
        action,
        client: None,
        before: before.map(told),
        after: told(after),
        consumers: &[],
    };
    leave(conn, by, change).await
}

/// What can happen to a subscription.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SubscriptionChange {
    Created,
    Activated,
    /// Its payer has to authenticate the first payment.
    ActionRequired,
    /// Its activation is being undone.
    Revoked,
    Failed,
    /// Stripe's object says something new.
    Updated,
    Canceled,
}

/// A subscription changed; `after` carries the new sequence, taken under its lock.
pub(crate) async fn subscription_changed(
    conn: &mut PgConnection,
    by: &By,
    what: SubscriptionChange,
    before: Option<&Subscription>,
    after: &Subscription,
) -> Result<()> {
    use SubscriptionChange::{
        ActionRequired, Activated, Canceled, Created, Failed, Revoked, Updated,
    };
    let (event_type, action) = match what {
        Created => (
            "billing.subscription.created",
            "billing.subscription.create",
        ),
        Activated => (
            "billing.subscription.activated",
            "billing.subscription.activate",
        ),
        ActionRequired => (
            "billing.subscription.payment_action_required",
            "billing.subscription.await_payment",
        ),
        Revoked => (
            "billing.subscription.revoked",
            "billing.subscription.revoke",
        ),
        Failed => ("billing.subscription.failed", "billing.subscription.fail"),
        Updated => (
            "billing.subscription.updated",
            "billing.subscription.update",
        ),
        Canceled => (
            "billing.subscription.canceled",
            "billing.subscription.cancel",
        ),
    };
    let told = |subscription: &Subscription| {
        json!({
            "subscription_id": subscription.id,
            "status": subscription.status.as_str(),
            "plan_id": subscription.plan_id,
            "plan_version": subscription.plan_version,
            "price": subscription.price,
            "interval": subscription.interval,
            "coupon_code": subscription.discount.as_ref().map(|discount| &discount.held.code),
            "failure_reason": subscription.failure_reason,
            "stripe_subscription_id": subscription.stripe_subscription_id,
            "current_period_end_at": subscription.current_period_end_at,
            "paid_through_at": subscription.paid_through_at,
            "canceled_at": subscription.canceled_at,
            "cancel_at_period_end": subscription.cancel_at_period_end,
            "resumes_at": subscription.resumes_at,
            "grace_ends_at": subscription.grace_ends_at,
            "payment_intent_id": subscription.payer_action.as_ref().map(|action| &action.payment_intent),
        })
    };
    let change = Change {
        noun: "subscription",
        id: after.id.to_string(),
        sequence: after.sequence,
        event_type,
        action,
        client: by.client,
        before: before.map(told),
        after: told(after),
        consumers: SUBSCRIPTION_CONSUMERS,
    };
    leave(conn, by, change).await
}

/// What can happen to an off-boarding.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OffboardingChange {
    Requested,
    Hurried,
    Withdrawn,
    Completed,
}

/// An off-boarding was asked for, hurried, withdrawn or completed.
pub(crate) async fn offboarding_changed(
    conn: &mut PgConnection,
    by: &By,
    tenant: Tenant,
    what: OffboardingChange,
    before: Option<&Offboarding>,
    after: &Offboarding,
) -> Result<()> {
    let (event_type, action) = match what {
        OffboardingChange::Requested => {
            ("billing.offboarding.requested", "billing.client.offboard")
        }
        OffboardingChange::Hurried => ("billing.offboarding.hurried", "billing.offboarding.hurry"),
        OffboardingChange::Withdrawn => (
            "billing.offboarding.withdrawn",
            "billing.offboarding.withdraw",
        ),
        OffboardingChange::Completed => (
            "billing.offboarding.completed",
            "billing.offboarding.complete",
        ),
    };
    let told = |one: &Offboarding| {
        json!({
            "saga_id": one.saga,
            "period_end": one.period_end,
            "hurried": one.hurried,
            "reason": one.reason,
            "withdrawn_at": one.withdrawn_at,
            "withdrawn_because": one.withdrawn_for,
            "completed_at": one.completed_at,
        })
    };
    let change = Change {
        noun: "offboarding",
        id: tenant.client.to_string(),
        sequence: after.revision,
        event_type,
        action,
        client: Some(tenant.client),
        before: before.map(told),
        after: told(after),
        consumers: &[],
    };
    leave(conn, by, change).await
}

/// An invoice was mirrored for the first time or changed.
pub(crate) async fn invoice_changed(
    conn: &mut PgConnection,
    by: &By,
    before: Option<&Invoice>,
    after: &Invoice,
) -> Result<()> {
    let told = |invoice: &Invoice| {
        json!({
            "invoice_id": invoice.id,
            "subscription_id": invoice.subscription_id,
            "stripe_invoice_id": invoice.stripe_invoice_id,
            "status": invoice.status.as_str(),
            "amount_due": invoice.amount_due,
            "amount_paid": invoice.amount_paid,
            "paid_at": invoice.paid_at,
        })
    };
    let change = Change {
        noun: "invoice",
        id: after.id.to_string(),
        sequence: after.sequence,
        event_type: "billing.invoice.updated",
        action: "billing.invoice.mirror",
        client: by.client,
        before: before.map(told),
        after: told(after),
        // What was not collected is settled.
        consumers: match after.status {
            InvoiceStatus::Paid | InvoiceStatus::Void => ALERTING_CONSUMERS,
            _ => &[],
        },
    };
    leave(conn, by, change).await
}
