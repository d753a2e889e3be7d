//! All queries about notes.
//! Deliberately absent: an update.

use mainstay_db::Result;
use mainstay_types::{ConversationId, NoteId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Note;

/// A new one; false when there is no such conversation, or it was deleted.
pub(super) async fn insert(conn: &mut PgConnection, tenant: Tenant, note: &Note) -> Result<bool> {
    let done = sqlx::query!(
        "insert into conversation_note (agency_id, tenant_id, id, conversation_id, author, body, created_at, updated_at)
         select agency_id, tenant_id, $3, id, $4, $5, $6, $6
         from conversation where tenant_id = $1 and id = $2 and deleted_at is null",
        tenant.client.uuid(),
        note.conversation.uuid(),
        note.id.uuid(),
        note.author,
        note.body,
        note.created_at,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Those of a conversation, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Note>> {
    let notes = sqlx::query_as!(
        Note,
        r#"select id as "id: NoteId", conversation_id as "conversation: ConversationId", author, body, created_at
           from conversation_note
           where tenant_id = $1 and conversation_id = $2 and ($3::uuid is null or id < $3)
           order by id desc limit $4"#,
        tenant.client.uuid(),
        conversation.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(notes)
}

/// Takes one away, and gives what it was.
pub(super) async fn delete(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
    id: NoteId,
) -> Result<Option<Note>> {
    let note = sqlx::query_as!(
        Note,
        r#"delete from conversation_note where tenant_id = $1 and conversation_id = $2 and id = $3
           returning id as "id: NoteId", conversation_id as "conversation: ConversationId", author, body, created_at"#,
        tenant.client.uuid(),
        conversation.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(note)
}
