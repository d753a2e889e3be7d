//! All queries about the audit log.
//! Deliberately absent: an update and a delete; the database refuses both.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, AuditEventId, ClientId};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuditEvent, Filter};

/// A row to be written, with its images apart.
#[derive(Debug)]
pub(super) struct NewEvent<'a> {
    pub(super) agency: AgencyId,
    pub(super) id: AuditEventId,
    pub(super) client: Option<ClientId>,
    pub(super) service: &'a str,
    pub(super) actor: &'a str,
    pub(super) action: &'a str,
    pub(super) target_type: &'a str,
    pub(super) target_id: &'a str,
    pub(super) request_id: Option<&'a str>,
    pub(super) trace_id: Option<&'a str>,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) salt: &'a [u8],
    pub(super) image_digest: &'a [u8],
    pub(super) before: Option<&'a Value>,
    pub(super) after: Option<&'a Value>,
}

pub(super) async fn insert(conn: &mut PgConnection, new: NewEvent<'_>) -> Result<()> {
    sqlx::query!(
        "insert into audit_event (agency_id, id, tenant_id, service, actor, action, target_type, target_id, request_id,
           trace_id, occurred_at, salt, image_digest)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        new.agency.uuid(),
        new.id.uuid(),
        new.client.map(ClientId::uuid),
        new.service,
        new.actor,
        new.action,
        new.target_type,
        new.target_id,
        new.request_id,
        new.trace_id,
        new.occurred_at,
        new.salt,
        new.image_digest,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into audit_image (agency_id, event_id, before, after) values ($1, $2, $3, $4)",
        new.agency.uuid(),
        new.id.uuid(),
        new.before,
        new.after,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<AuditEvent>> {
    let events = sqlx::query_as!(
        AuditEvent,
        r#"select id as "id: AuditEventId", tenant_id as "client_id: ClientId", service, actor, action, target_id,
             request_id, trace_id, occurred_at
           from audit_event
           where agency_id = $1 and ($2::text is null or action = $2) and ($3::uuid is null or tenant_id = $3)
             and ($4::uuid is null or id < $4)
           order by id desc limit $5"#,
        agency.uuid(),
        filter.action,
        filter.client.map(ClientId::uuid),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(events)
}
