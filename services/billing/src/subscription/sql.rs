//! The queries of subscriptions and of the account that all of a client's billing hangs on.
//! Deliberately absent: a status change that does not also take the next sequence; events are ordered by it.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{Currency, Interval, Money, PlanId, SagaId, SubscriptionId, Tenant};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::{Status, Subscription};
use crate::saga::start_subscription::StartSubscription;

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
    entitlement_version: i64,
    sequence: i64,
    provider_revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
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
            entitlement_version: row.entitlement_version,
            sequence: row.sequence,
            provider_revision: row.provider_revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
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
          current_period_end_at, trial_end_at, paid_through_at, canceled_at, entitlement_version, sequence,
          provider_revision, created_at, updated_at
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
pub(super) async fn find_live(
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
pub(super) async fn ensure_account(conn: &mut PgConnection, tenant: Tenant) -> Result<()> {
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
        entitling
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
