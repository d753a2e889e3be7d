//! Notes about conversations (MSG-25): what people of ours write to each other. Never sent to anybody.
//! Deliberately absent: an edit. What was written is deleted, and the audit log keeps it.

mod error;
mod rpc;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{ConversationId, NoteId, Tenant};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

pub use error::Error;

use crate::{Messaging, conversation};

/// What audit and events call it.
const NOUN: &str = "conversation_note";

/// A note about a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Its id.
    pub id: NoteId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Who wrote it.
    pub author: String,
    /// The text.
    pub body: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// Writes a note.
///
/// # Errors
/// [`Error::NoConversation`], [`Error::Once`].
pub async fn create(
    messaging: &Messaging,
    ctx: &Context,
    (conversation, body): (ConversationId, String),
    once: &Once,
    answer: impl FnOnce(&Note) -> proto::ConversationNote,
) -> Result<proto::ConversationNote, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let note = Note {
        id: NoteId::generate(),
        conversation,
        author: by.actor.clone(),
        body,
        created_at: by.now,
    };
    if !sql::insert(tx.conn(), tenant, &note).await? {
        return Err(Error::NoConversation);
    }
    let change = Change {
        action: "messaging.conversation_note.create",
        event: "messaging.conversation_note.created",
        noun: NOUN,
        target: note.id.to_string(),
        client: Some(tenant.client),
        sequence: 1,
        before: None,
        after: record::image(&note),
    };
    record::write(tx.conn(), &by, change).await?;
    let answer = answer(&note);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// The notes about a conversation, newest first.
///
/// # Errors
/// [`Error::NoConversation`].
pub async fn page(
    messaging: &Messaging,
    tenant: Tenant,
    conversation: ConversationId,
    page: PageRequest<Uuid>,
) -> Result<Page<Note>, Error> {
    let (after, limit) = (page.after().copied(), page.limit());
    let mut tx = messaging.database.tenant(tenant).await?;
    if !conversation::stands(tx.conn(), tenant, conversation).await? {
        return Err(Error::NoConversation);
    }
    let rows = sql::list(tx.conn(), tenant, conversation, after, limit).await?;
    tx.commit().await?;
    Ok(page.page(rows, |note| note.id.uuid()))
}

/// Deletes a note; the audit log keeps what it said.
///
/// # Errors
/// [`Error::NoConversation`], [`Error::NotFound`].
pub async fn delete(
    messaging: &Messaging,
    ctx: &Context,
    (conversation, id): (ConversationId, NoteId),
) -> Result<(), Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    if !conversation::stands(tx.conn(), tenant, conversation).await? {
        return Err(Error::NoConversation);
    }
    let note = sql::delete(tx.conn(), tenant, conversation, id).await?;
    let note = note.ok_or(Error::NotFound)?;
    let change = Change {
        action: "messaging.conversation_note.delete",
        event: "messaging.conversation_note.deleted",
        noun: NOUN,
        target: id.to_string(),
        client: Some(tenant.client),
        sequence: 2,
        before: Some(record::image(&note)),
        after: json!({"conversation": note.conversation, "deleted": true}),
    };
    record::write(tx.conn(), &by, change).await?;
    tx.commit().await?;
    Ok(())
}
