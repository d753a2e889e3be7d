//! All queries about off-boardings.
//! Deliberately absent: a delete.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{SagaId, Tenant};
use sqlx::PgConnection;

use super::Offboarding;

/// The client's last one.
pub(crate) async fn get(conn: &mut PgConnection, tenant: Tenant) -> Result<Option<Offboarding>> {
    let row = sqlx::query_as!(
        Offboarding,
        r#"
        select saga_id as "saga: SagaId", period_end, hurried, reason, requested_by, requested_at, withdrawn_at,
          withdrawn_for, completed_at, revision
        from offboarding where tenant_id = $1
        "#,
        tenant.client.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Writes how it stands, under the account's lock.
pub(crate) async fn store(
    conn: &mut PgConnection,
    tenant: Tenant,
    one: &Offboarding,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into offboarding (agency_id, tenant_id, saga_id, period_end, hurried, reason, requested_by, requested_at,
          withdrawn_at, withdrawn_for, completed_at, revision, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)
        on conflict (tenant_id) do update set saga_id = $3, period_end = $4, hurried = $5, reason = $6, requested_by = $7,
          requested_at = $8, withdrawn_at = $9, withdrawn_for = $10, completed_at = $11, revision = $12, updated_at = $13
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        one.saga.uuid(),
        one.period_end,
        one.hurried,
        one.reason,
        one.requested_by,
        one.requested_at,
        one.withdrawn_at,
        one.withdrawn_for,
        one.completed_at,
        one.revision,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
