//! All queries about entitlements and what was heard of saga steps.
//! Deliberately absent: a write without a version.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_jobs::saga_step::{Heard, Write};
use mainstay_rpc::entitlement::Limits;
use mainstay_types::{PlanId, SagaId, SubscriptionId, Tenant};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Entitlements, Put, Stored};

pub(super) async fn get(conn: &mut PgConnection, tenant: Tenant) -> Result<Option<Stored>> {
    let row = sqlx::query!(
        r#"select features, limits as "limits: Json<Limits>", subscription_id as "subscription_id: SubscriptionId",
             plan_id as "plan_id: PlanId", subscription_status, paid_through_at, version,
             saga_id as "saga_id: SagaId", step, revision, updated_at
           from entitlement where tenant_id = $1"#,
        tenant.client.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Stored {
        entitlements: Entitlements {
            features: row.features,
            limits: row.limits.0,
            subscription_id: row.subscription_id,
            plan_id: row.plan_id,
            subscription_status: row.subscription_status,
            paid_through_at: row.paid_through_at,
        },
        version: row.version,
        saga: row.saga_id,
        step: row.step,
        revision: row.revision,
        updated_at: row.updated_at,
    }))
}

/// Writes over what stands; the decision was made under the client's row lock, and a trigger holds the versions to it.
pub(super) async fn store(
    conn: &mut PgConnection,
    tenant: Tenant,
    put: &Put,
    now: DateTime<Utc>,
) -> Result<i64> {
    let what = &put.entitlements;
    let revision = sqlx::query_scalar!(
        "insert into entitlement as e (agency_id, tenant_id, features, limits, subscription_id, plan_id,
           subscription_status, paid_through_at, version, saga_id, step, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
         on conflict (tenant_id) do update set features = excluded.features, limits = excluded.limits,
           subscription_id = excluded.subscription_id, plan_id = excluded.plan_id,
           subscription_status = excluded.subscription_status, paid_through_at = excluded.paid_through_at,
           version = excluded.version, saga_id = excluded.saga_id, step = excluded.step,
           revision = e.revision + 1, updated_at = excluded.updated_at
         returning revision",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        &what.features,
        Json(&what.limits) as _,
        what.subscription_id.uuid(),
        what.plan_id.uuid(),
        what.subscription_status,
        what.paid_through_at,
        put.write.version,
        put.write.saga.uuid(),
        put.write.step,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(revision)
}

pub(super) async fn heard(
    conn: &mut PgConnection,
    tenant: Tenant,
    saga: SagaId,
    step: &str,
) -> Result<Option<Heard>> {
    let heard = sqlx::query_as!(
        Heard,
        "select fence, done, undone from saga_step where tenant_id = $1 and saga_id = $2 and step = $3",
        tenant.client.uuid(),
        saga.uuid(),
        step,
    )
    .fetch_optional(conn)
    .await?;
    Ok(heard)
}

/// Notes that the step was heard with this fence, as a do or an undo.
pub(super) async fn hear(
    conn: &mut PgConnection,
    tenant: Tenant,
    write: &Write,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into saga_step as s (agency_id, tenant_id, saga_id, step, fence, done, undone, created_at, updated_at, expires_at)
         values ($1, $2, $3, $4, $5, not $6, $6, $7, $7, $8)
         on conflict (tenant_id, saga_id, step) do update set fence = greatest(s.fence, excluded.fence),
           done = s.done or excluded.done, undone = s.undone or excluded.undone,
           updated_at = excluded.updated_at, expires_at = excluded.expires_at",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        write.saga.uuid(),
        write.step,
        write.fence,
        write.undo,
        now,
        expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}
