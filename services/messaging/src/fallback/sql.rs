//! All queries about fall-backs.
//! Deliberately absent: a second one of a message. The key refuses it.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{LeadId, MessageId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Fallback;
use crate::address::Address;
use crate::gate::{Channel, Purpose};

/// Where a new message goes when its own channel fails.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    message: MessageId,
    wanted: &Fallback,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into message_fallback (agency_id, tenant_id, message_id, channel, subject, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $6)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        message.uuid(),
        wanted.channel.as_str(),
        wanted.subject,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A message's fall-back, if it has one.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    message: MessageId,
) -> Result<Option<Fallback>> {
    let row = sqlx::query!(
        r#"select channel, subject, instead_id as "instead: MessageId", reason from message_fallback
           where tenant_id = $1 and message_id = $2"#,
        tenant.client.uuid(),
        message.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| {
        Some(Fallback {
            channel: Channel::named(&row.channel)?,
            subject: row.subject,
            instead: row.instead,
            reason: row.reason,
        })
    }))
}

/// Which of these wait for their other channel.
pub(super) async fn waiting(
    conn: &mut PgConnection,
    tenant: Tenant,
    failed: &[MessageId],
) -> Result<Vec<MessageId>> {
    let ids: Vec<Uuid> = failed.iter().map(|id| id.uuid()).collect();
    let waiting = sqlx::query_scalar!(
        r#"select message_id as "id: MessageId" from message_fallback
           where tenant_id = $1 and message_id = any ($2) and state = 'waiting'"#,
        tenant.client.uuid(),
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(waiting)
}

/// A message that has failed for certain, and that nothing went instead of.
pub(super) struct Lost {
    pub(super) lead: LeadId,
    pub(super) channel: Channel,
    pub(super) purpose: Purpose,
    pub(super) caused_by: String,
    pub(super) subject: Option<String>,
    pub(super) body: String,
    pub(super) expires_at: DateTime<Utc>,
}

/// The message, if it still waits for its other channel, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    failed: MessageId,
) -> Result<Option<Lost>> {
    let row = sqlx::query!(
        r#"select m.lead_id as "lead: LeadId", f.channel, m.purpose as "purpose!", m.caused_by, f.subject, m.body,
             m.expires_at as "expires_at!"
           from message_fallback f join message m on m.tenant_id = f.tenant_id and m.id = f.message_id
           where f.tenant_id = $1 and f.message_id = $2 and f.state = 'waiting' and m.status in ('failed', 'undelivered')
           for update of f"#,
        tenant.client.uuid(),
        failed.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| {
        Some(Lost {
            lead: row.lead,
            channel: Channel::named(&row.channel)?,
            purpose: Purpose::named(&row.purpose)?,
            caused_by: row.caused_by,
            subject: row.subject,
            body: row.body,
            expires_at: row.expires_at,
        })
    }))
}

/// What went instead, or why nothing did.
pub(super) async fn end(
    conn: &mut PgConnection,
    tenant: Tenant,
    failed: MessageId,
    outcome: std::result::Result<MessageId, &'static str>,
    now: DateTime<Utc>,
) -> Result<()> {
    let (instead, reason) = match outcome {
        Ok(instead) => (Some(instead.uuid()), None),
        Err(reason) => (None, Some(reason)),
    };
    sqlx::query!(
        "update message_fallback set state = 'ended', instead_id = $3, reason = $4, updated_at = $5
         where tenant_id = $1 and message_id = $2",
        tenant.client.uuid(),
        failed.uuid(),
        instead,
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends what waits for messages to an address.
pub(super) async fn stop_for(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update message_fallback f set state = 'ended', reason = $3, updated_at = $4
         from message m
         where f.tenant_id = $1 and f.state = 'waiting' and m.tenant_id = $1 and m.id = f.message_id and m.address = $2",
        tenant.client.uuid(),
        address.as_str(),
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
