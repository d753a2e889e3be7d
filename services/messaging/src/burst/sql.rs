//! All queries about bursts.
//! Deliberately absent: a second burst of a conversation. The key refuses it.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{ConversationId, LeadId, MessageId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Burst;

/// Begins a burst, or lets the one that waits wait on, until `due` but not beyond the latest that it began with. Whether it
/// began.
pub(super) async fn go_on(
    conn: &mut PgConnection,
    tenant: Tenant,
    (conversation, message): (ConversationId, MessageId),
    (due, latest): (DateTime<Utc>, DateTime<Utc>),
    now: DateTime<Utc>,
) -> Result<bool> {
    let id = Uuid::now_v7();
    let burst = sqlx::query_scalar!(
        "insert into inbound_burst as b (agency_id, tenant_id, conversation_id, id, last_message_id, due_at, latest_at, created_at,
           updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
         on conflict (tenant_id, conversation_id) do update
           set last_message_id = excluded.last_message_id, due_at = least(excluded.due_at, b.latest_at),
               updated_at = excluded.updated_at
         returning id",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        conversation.uuid(),
        id,
        message.uuid(),
        due,
        latest,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(burst == id)
}

/// The burst that waits, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
) -> Result<Option<Burst>> {
    let burst = sqlx::query_as!(
        Burst,
        r#"select b.id, b.last_message_id as "last: MessageId", b.due_at, c.lead_id as "lead: LeadId", c.sender
           from inbound_burst b join conversation c on c.tenant_id = b.tenant_id and c.id = b.conversation_id
           where b.tenant_id = $1 and b.conversation_id = $2
           for update of b"#,
        tenant.client.uuid(),
        conversation.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(burst)
}

/// It is handed on.
pub(super) async fn delete(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
) -> Result<()> {
    sqlx::query!(
        "delete from inbound_burst where tenant_id = $1 and conversation_id = $2",
        tenant.client.uuid(),
        conversation.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
