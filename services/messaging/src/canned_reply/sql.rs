//! All queries about canned replies.
//! Deliberately absent: what was sent with one. A message has its own text.

use mainstay_db::Result;
use mainstay_types::{CannedReplyId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::CannedReply;

/// A new one.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    made: &CannedReply,
) -> Result<()> {
    sqlx::query!(
        "insert into canned_reply (agency_id, tenant_id, id, shortcut, body, revision, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        made.id.uuid(),
        made.shortcut,
        made.body,
        made.revision,
        made.created_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The text under a shortcut.
pub(super) async fn body(
    conn: &mut PgConnection,
    tenant: Tenant,
    shortcut: &str,
) -> Result<Option<String>> {
    let body = sqlx::query_scalar!(
        "select body from canned_reply where tenant_id = $1 and shortcut = $2",
        tenant.client.uuid(),
        shortcut,
    )
    .fetch_optional(conn)
    .await?;
    Ok(body)
}

/// The one that has a shortcut.
pub(super) async fn named(
    conn: &mut PgConnection,
    tenant: Tenant,
    shortcut: &str,
) -> Result<Option<CannedReplyId>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: CannedReplyId" from canned_reply where tenant_id = $1 and shortcut = $2"#,
        tenant.client.uuid(),
        shortcut,
    )
    .fetch_optional(conn)
    .await?;
    Ok(id)
}

/// One canned reply.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: CannedReplyId,
) -> Result<Option<CannedReply>> {
    let found = sqlx::query_as!(
        CannedReply,
        r#"select id as "id: CannedReplyId", shortcut, body, revision, created_at, updated_at
           from canned_reply where tenant_id = $1 and id = $2"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// One canned reply, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: CannedReplyId,
) -> Result<Option<CannedReply>> {
    let found = sqlx::query_as!(
        CannedReply,
        r#"select id as "id: CannedReplyId", shortcut, body, revision, created_at, updated_at
           from canned_reply where tenant_id = $1 and id = $2 for no key update"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// A page, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<CannedReply>> {
    let rows = sqlx::query_as!(
        CannedReply,
        r#"select id as "id: CannedReplyId", shortcut, body, revision, created_at, updated_at
           from canned_reply where tenant_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3"#,
        tenant.client.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Writes one over the revision before, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: &CannedReply,
) -> Result<()> {
    sqlx::query_scalar!(
        "update canned_reply set shortcut = $3, body = $4, revision = $5::bigint, updated_at = $6
         where tenant_id = $1 and id = $2 and revision = $5::bigint - 1
         returning id",
        tenant.client.uuid(),
        after.id.uuid(),
        after.shortcut,
        after.body,
        after.revision,
        after.updated_at,
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Takes one away, and gives what it was.
pub(super) async fn delete(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: CannedReplyId,
) -> Result<Option<CannedReply>> {
    let gone = sqlx::query_as!(
        CannedReply,
        r#"delete from canned_reply where tenant_id = $1 and id = $2
           returning id as "id: CannedReplyId", shortcut, body, revision, created_at, updated_at"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(gone)
}
