//! The queries of closing a client.
//! Deliberately absent: opening it again; the table refuses that.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{LeadId, MessageId, Tenant};
use sqlx::PgConnection;

/// Closes the client, under the lock of its row; the new revision.
pub(super) async fn close(
    conn: &mut PgConnection,
    tenant: Tenant,
    now: DateTime<Utc>,
) -> Result<i64> {
    let revision = sqlx::query_scalar!(
        "update client_sending set closed_at = $2, revision = revision + 1, updated_at = $2
         where tenant_id = $1 returning revision",
        tenant.client.uuid(),
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(revision)
}

/// Some of what waits to leave.
pub(super) async fn waiting(
    conn: &mut PgConnection,
    tenant: Tenant,
    limit: i64,
) -> Result<Vec<MessageId>> {
    let ids = sqlx::query_scalar!(
        r#"select m.id as "id: MessageId" from send_queue q
           join message m on m.tenant_id = q.tenant_id and m.id = q.message_id
           where q.tenant_id = $1 and m.status in ('scheduled', 'queued')
           order by m.id limit $2"#,
        tenant.client.uuid(),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Some of the leads that are neither won nor lost.
pub(super) async fn open_leads(
    conn: &mut PgConnection,
    tenant: Tenant,
    limit: i64,
) -> Result<Vec<LeadId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: LeadId" from lead
           where tenant_id = $1 and merged_into is null and status not in ('won', 'lost')
           order by id limit $2"#,
        tenant.client.uuid(),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}
