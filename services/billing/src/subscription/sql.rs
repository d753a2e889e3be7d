//! The queries of subscriptions and of the account that all of a client's billing hangs on.
//! Deliberately absent: a status change that does not also take the next sequence; events are ordered by it.

mod trial;

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{CouponId, Currency, Interval, Money, PlanId, SagaId, SubscriptionId, Tenant};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{PayerAction, Status, Subscription};
use crate::coupon;
use crate::coupon::redemption::{Discount, Held};
use crate::saga::start_subscription::StartSubscription;

pub(crate) use trial::{claim_trial, had_subscription, note_trial, release_trial};

struct Row {
    id: SubscriptionId,
    plan_id: PlanId,
    plan_version: i32,
    currency: String,
    interval: String,
    amount_minor: i64,
    status: String,
    failure_reason: Option<String>,
    saga_id: SagaId,
    stripe_subscription_id: Option<String>,
    current_period_start_at: Option<DateTime<Utc>>,
    current_period_end_at: Option<DateTime<Utc>>,
    trial_end_at: Option<DateTime<Utc>>,
    paid_through_at: Option<DateTime<Utc>>,
    canceled_at: Option<DateTime<Utc>>,
    cancel_at_period_end: bool,
    resumes_at: Option<DateTime<Utc>>,
    grace_ends_at: Option<DateTime<Utc>>,
    trial_days: i32,
    payment_intent_id: Option<String>,
    payment_client_secret: Option<String>,
    cancel_requested_at: Option<DateTime<Utc>>,
    change_saga_id: Option<SagaId>,
    entitlement_version: i64,
    sequence: i64,
    provider_revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    discount: Option<Json<DiscountRow>>,
}

/// The coupon that the subscription holds, as the database gathers it.
#[derive(Debug, Deserialize)]
struct DiscountRow {
    coupon: Uuid,
    code: String,
    percent_off_bp: Option<i32>,
    amount_off_minor: Option<i64>,
    currency: Option<String>,
    duration: String,
    duration_in_months: Option<i32>,
    first_minor: i64,
}

impl From<DiscountRow> for Discount {
    fn from(row: DiscountRow) -> Discount {
        let currency = row.currency.as_deref();
        Discount {
            held: Held {
                coupon: CouponId::from_uuid(row.coupon),
                code: row.code,
                off: coupon::sql::off(row.percent_off_bp, row.amount_off_minor, currency),
                duration: coupon::sql::duration(&row.duration, row.duration_in_months),
            },
            first_minor: row.first_minor,
        }
    }
}

impl From<Row> for Subscription {
    fn from(row: Row) -> Subscription {
        Subscription {
            id: row.id,
            plan_id: row.plan_id,
            plan_version: row.plan_version,
            // Foreign key and CHECK keep both to what a plan may have.
            price: Money::new(
                row.amount_minor,
                row.currency.parse().unwrap_or(Currency::USD),
            ),
            interval: row.interval.parse().unwrap_or(Interval::Month),
            status: Status::from_text(&row.status),
            failure_reason: row.failure_reason,
            saga_id: row.saga_id,
            stripe_subscription_id: row.stripe_subscription_id,
            current_period_start_at: row.current_period_start_at,
            current_period_end_at: row.current_period_end_at,
            trial_end_at: row.trial_end_at,
            paid_through_at: row.paid_through_at,
            canceled_at: row.canceled_at,
            cancel_at_period_end: row.cancel_at_period_end,
            resumes_at: row.resumes_at,
            grace_ends_at: row.grace_ends_at,
            trial_days: row.trial_days,
            payer_action: row.payment_intent_id.map(|payment_intent| PayerAction {
                payment_intent,
                client_secret: row.payment_client_secret,
            }),
            cancel_requested_at: row.cancel_requested_at,
            change_saga_id: row.change_saga_id,
            entitlement_version: row.entitlement_version,
            sequence: row.sequence,
            provider_revision: row.provider_revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
            discount: row.discount.map(|discount| discount.0.into()),
        }
    }
}

/// One of a client's subscriptions.
pub(crate) async fn get(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
) -> Result<Option<Subscription>> {
    let mut rows = select(conn, tenant, Some(id), None, None, 1).await?;
    Ok(rows.pop())
}

/// The one that a saga started.
pub(super) async fn find_by_saga(
    conn: &mut PgConnection,
    tenant: Tenant,
    saga: SagaId,
) -> Result<Option<Subscription>> {
    let mut rows = select(conn, tenant, None, Some(saga), None, 1).await?;
    Ok(rows.pop())
}

/// A client's, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: Option<SubscriptionId>,
    limit: i64,
) -> Result<Vec<Subscription>> {
    select(conn, tenant, None, None, after, limit).await
}

async fn select(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: Option<SubscriptionId>,
    saga: Option<SagaId>,
    after: Option<SubscriptionId>,
    limit: i64,
) -> Result<Vec<Subscription>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select id as "id: SubscriptionId", plan_id as "plan_id: PlanId", plan_version, currency, "interval", amount_minor,
          status, failure_reason, saga_id as "saga_id: SagaId", stripe_subscription_id, current_period_start_at,
          current_period_end_at, trial_end_at, paid_through_at, canceled_at, cancel_at_period_end,
          resumes_at, grace_ends_at, trial_days, payment_intent_id, payment_client_secret, cancel_requested_at,
          change_saga_id as "change_saga_id: SagaId", entitlement_version, sequence, provider_revision, created_at,
          updated_at,
          (select jsonb_build_object('coupon', c.id, 'code', c.code, 'percent_off_bp', c.percent_off_bp,
                                     'amount_off_minor', c.amount_off_minor, 'currency', c.currency, 'duration', c.duration,
                                     'duration_in_months', c.duration_in_months, 'first_minor', r.discount_minor)
           from coupon_redemption r
           join coupon c on c.agency_id = r.agency_id and c.id = r.coupon_id
           where r.tenant_id = subscription.tenant_id and r.subscription_id = subscription.id
             and r.state <> 'released') as "discount: Json<DiscountRow>"
        from subscription
        where tenant_id = $1 and ($2::uuid is null or id = $2) and ($3::uuid is null or saga_id = $3)
          and ($4::uuid is null or id < $4)
        order by id desc
        limit $5
        "#,
        tenant.client.uuid(),
        id.map(SubscriptionId::uuid),
        saga.map(SagaId::uuid),
        after.map(SubscriptionId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Subscription::from).collect())
}

/// The subscription in the client's one place.
pub(crate) async fn find_live(
    conn: &mut PgConnection,
    tenant: Tenant,
) -> Result<Option<SubscriptionId>> {
    let row = sqlx::query!(
        r#"
        select id as "id: SubscriptionId" from subscription
        where tenant_id = $1 and status in ('incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused')
        "#,
        tenant.client.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.id))
}

/// Makes the client's account if this is its first dealing with billing.
pub(crate) async fn ensure_account(conn: &mut PgConnection, tenant: Tenant) -> Result<()> {
    sqlx::query!(
        "insert into billing_account (agency_id, tenant_id) values ($1, $2) on conflict (tenant_id) do nothing",
        tenant.agency.uuid(),
        tenant.client.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The client's customer at Stripe, if it has one.
pub(crate) async fn stripe_customer(
    conn: &mut PgConnection,
    tenant: Tenant,
) -> Result<Option<String>> {
    let row = sqlx::query!(
        "select stripe_customer_id from billing_account where tenant_id = $1",
        tenant.client.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| row.stripe_customer_id))
}

/// Locks the account: changes of one client's billing happen one after the other. Before any other lock.
pub(crate) async fn lock_account(conn: &mut PgConnection, tenant: Tenant) -> Result<()> {
    sqlx::query!(
        "select tenant_id from billing_account where tenant_id = $1 for update",
        tenant.client.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(())
}

/// The place of the next event about the account as a whole. Under its lock.
pub(crate) async fn next_account_sequence(conn: &mut PgConnection, tenant: Tenant) -> Result<i64> {
    let row = sqlx::query!(
        "update billing_account set sequence = sequence + 1 where tenant_id = $1 returning sequence",
        tenant.client.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(row.sequence)
}

/// Notes the client's customer at Stripe; the first one stands. Gives the one that stands.
pub(crate) async fn note_customer(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_customer: &str,
) -> Result<String> {
    let row = sqlx::query!(
        r#"
        update billing_account set stripe_customer_id = coalesce(stripe_customer_id, $2) where tenant_id = $1
        returning stripe_customer_id as "stripe_customer_id!"
        "#,
        tenant.client.uuid(),
        stripe_customer
    )
    .fetch_one(&mut *conn)
    .await?;
    note_object(conn, tenant, &row.stripe_customer_id, None).await?;
    Ok(row.stripe_customer_id)
}

/// Stripe's customer is gone: the next sale makes a new one. True when it was the one that stood.
pub(crate) async fn forget_customer(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_customer: &str,
) -> Result<bool> {
    let forgotten = sqlx::query!(
        r#"
        update billing_account set stripe_customer_id = null, default_payment_method_id = null, delinquent = false
        where tenant_id = $1 and stripe_customer_id = $2
        "#,
        tenant.client.uuid(),
        stripe_customer
    )
    .execute(conn)
    .await?;
    Ok(forgotten.rows_affected() == 1)
}

/// Takes over how the client's customer stands with Stripe.
pub(crate) async fn note_standing(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_customer: &str,
    delinquent: bool,
    default_payment_method: Option<&str>,
) -> Result<()> {
    sqlx::query!(
        r#"
        update billing_account set delinquent = $3, default_payment_method_id = $4
        where tenant_id = $1 and stripe_customer_id = $2
          and (delinquent, default_payment_method_id) is distinct from ($3, $4)
        "#,
        tenant.client.uuid(),
        stripe_customer,
        delinquent,
        default_payment_method
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes whose an object at Stripe is.
pub(crate) async fn note_object(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_id: &str,
    subscription: Option<SubscriptionId>,
) -> Result<()> {
    let key = lookup_key(stripe_id);
    sqlx::query!(
        r#"
        insert into stripe_object (lookup_key, agency_id, tenant_id, subscription_id) values ($1, $2, $3, $4)
        on conflict (lookup_key) do nothing
        "#,
        key.as_slice(),
        tenant.agency.uuid(),
        tenant.client.uuid(),
        subscription.map(SubscriptionId::uuid)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What the directory keeps instead of Stripe's id.
pub(crate) fn lookup_key(stripe_id: &str) -> [u8; 32] {
    Sha256::digest(stripe_id).into()
}

/// Takes the client's one place; `subscription_one_live_key` refuses when it is taken.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    saga: SagaId,
    new: &StartSubscription,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into subscription (agency_id, tenant_id, id, plan_id, plan_version, currency, "interval", amount_minor,
                                  saga_id, sequence, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $10)
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        new.subscription.uuid(),
        new.plan.uuid(),
        new.plan_version,
        new.price.currency.as_str(),
        new.interval.as_str(),
        new.price.amount_minor,
        saga.uuid(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes which subscription at Stripe is ours.
pub(crate) async fn note_stripe_subscription(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
    stripe_subscription: &str,
) -> Result<()> {
    sqlx::query!(
        "update subscription set stripe_subscription_id = $3 where tenant_id = $1 and id = $2",
        tenant.client.uuid(),
        id.uuid(),
        stripe_subscription
    )
    .execute(&mut *conn)
    .await?;
    note_object(conn, tenant, stripe_subscription, Some(id)).await
}

/// Writes a changed subscription under the account's lock: the next sequence and, where identity must know, the next
/// entitlement version of the client. Gives it as it stands.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    changed: &Subscription,
    entitling: bool,
    now: DateTime<Utc>,
) -> Result<Subscription> {
    let row = sqlx::query!(
        r#"
        with account as (
          update billing_account set entitlement_version = entitlement_version + 1
          where tenant_id = $1 and $11
          returning entitlement_version
        )
        update subscription set status = $3, failure_reason = $4, current_period_start_at = $5,
          current_period_end_at = $6, trial_end_at = $7, paid_through_at = $8, canceled_at = $9, updated_at = $10,
          cancel_at_period_end = $12, resumes_at = $13, grace_ends_at = $14, payment_intent_id = $15,
          payment_client_secret = $16, cancel_requested_at = $17, change_saga_id = $18,
          sequence = sequence + 1,
          entitlement_version = coalesce((select a.entitlement_version from account a), subscription.entitlement_version)
        where tenant_id = $1 and id = $2
        returning sequence, entitlement_version
        "#,
        tenant.client.uuid(),
        changed.id.uuid(),
        changed.status.as_str(),
        changed.failure_reason,
        changed.current_period_start_at,
        changed.current_period_end_at,
        changed.trial_end_at,
        changed.paid_through_at,
        changed.canceled_at,
        now,
        entitling,
        changed.cancel_at_period_end,
        changed.resumes_at,
        changed.grace_ends_at,
        changed.payer_action.as_ref().map(|action| action.payment_intent.as_str()),
        changed.payer_action.as_ref().and_then(|action| action.client_secret.as_deref()),
        changed.cancel_requested_at,
        changed.change_saga_id.map(SagaId::uuid),
    )
    .fetch_one(conn)
    .await?;
    Ok(Subscription {
        sequence: row.sequence,
        entitlement_version: row.entitlement_version,
        updated_at: now,
        ..changed.clone()
    })
}

/// Counts an applied reading of Stripe's object; false when another reading was applied since `revision` was read, so
/// that this one may be older than what it would overwrite.
pub(crate) async fn count_reading(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
    revision: i64,
) -> Result<bool> {
    let counted = sqlx::query!(
        r#"
        update subscription set provider_revision = provider_revision + 1
        where tenant_id = $1 and id = $2 and provider_revision = $3
        "#,
        tenant.client.uuid(),
        id.uuid(),
        revision
    )
    .execute(conn)
    .await?;
    Ok(counted.rows_affected() == 1)
}

/// The subscription whose first payment is this one.
pub(crate) async fn find_by_payment(
    conn: &mut PgConnection,
    tenant: Tenant,
    payment_intent: &str,
) -> Result<Option<SubscriptionId>> {
    let row = sqlx::query!(
        r#"
        select id as "id: SubscriptionId" from subscription where tenant_id = $1 and payment_intent_id = $2
        order by id desc limit 1
        "#,
        tenant.client.uuid(),
        payment_intent
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.id))
}

/// Takes hold of a subscription for the one saga that changes it. Under the account's lock.
pub(crate) async fn hold(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
    saga: SagaId,
) -> Result<()> {
    sqlx::query!(
        "update subscription set change_saga_id = $3 where tenant_id = $1 and id = $2",
        tenant.client.uuid(),
        id.uuid(),
        saga.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets go of it, if this saga holds it.
pub(crate) async fn let_go(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
    saga: SagaId,
) -> Result<()> {
    sqlx::query!(
        r#"
        update subscription set change_saga_id = null
        where tenant_id = $1 and id = $2 and change_saga_id = $3
        "#,
        tenant.client.uuid(),
        id.uuid(),
        saga.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a subscription which is not paid yet is not wanted any more.
pub(crate) async fn request_cancel(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        update subscription set cancel_requested_at = coalesce(cancel_requested_at, $3)
        where tenant_id = $1 and id = $2 and status = 'incomplete'
        "#,
        tenant.client.uuid(),
        id.uuid(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
