//! Conversations (MSG-25): what was said with a lead on a channel through one of our senders, and who works on it. At most one
//! is open.
//! Deliberately absent: messages; a conversation only knows when something was said last. And an end of what was said: one that
//! is deleted is hidden, and its messages stay.

pub(crate) mod departed;
mod error;
pub(crate) mod rating;
mod rpc;
mod rules;
mod search;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{ConversationId, LeadId, MemberId, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;
pub(crate) use sql::{Talk, ensure, ensure_all, open_with, stands};

use crate::gate::Channel;
use crate::{Messaging, member};

/// What audit and events call it.
const NOUN: &str = "conversation";

/// What was said with a lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// With whom.
    pub lead: LeadId,
    /// What people call them.
    pub lead_name: Option<String>,
    /// How.
    pub channel: Channel,
    /// Ours.
    pub sender: String,
    /// Theirs.
    pub address: String,
    /// Whether what comes next belongs to it.
    pub open: bool,
    /// How many of theirs nobody has read.
    pub unread: i64,
    /// When something was said last.
    pub last_activity_at: DateTime<Utc>,
    /// Rises with each change by people; the etag says it, and events carry it.
    pub revision: i64,
    /// Who has taken it over; while somebody has, no automation answers in it.
    pub taken_over_by: Option<String>,
    /// Whose it is.
    pub assigned_to: Option<MemberId>,
    /// What it is about, in order.
    pub labels: Vec<String>,
    /// When they were asked how it was.
    pub rating_asked_at: Option<DateTime<Utc>>,
    /// What they said to that.
    pub rating: Option<i16>,
    /// When it was closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// Since when nobody sees it.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// What to change; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Whose it is from now on, or nobody's.
    pub assigned_to: Option<Option<MemberId>>,
    /// All its labels.
    pub labels: Option<Vec<String>>,
}

/// Where a page of conversations ends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Place {
    /// When something was said last.
    pub last_activity_at: DateTime<Utc>,
    /// The conversation.
    pub id: Uuid,
}

impl Place {
    fn of(conversation: &Conversation) -> Self {
        Place {
            last_activity_at: conversation.last_activity_at,
            id: conversation.id.uuid(),
        }
    }
}

/// Which conversations. Filters narrow each other.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this lead's.
    pub lead: Option<LeadId>,
    /// Only open ones, or only closed ones.
    pub open: Option<bool>,
    /// Only those with something unread.
    pub unread: bool,
    /// Only those of this member.
    pub assigned_to: Option<MemberId>,
    /// Only those of nobody.
    pub unassigned: bool,
    /// Only those with this label.
    pub label: Option<String>,
    /// Only what is found by these words, or by this part of an address.
    pub asked: Option<String>,
    /// Those that were deleted, and no others.
    pub deleted: bool,
}

/// One conversation.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    messaging: &Messaging,
    tenant: Tenant,
    id: ConversationId,
) -> Result<Conversation, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    shown(found)
}

/// A page of conversations, the one that something was said in last first. One query, however many.
///
/// # Errors
/// Only the database's.
pub async fn page(
    messaging: &Messaging,
    tenant: Tenant,
    filter: &Filter,
    page: PageRequest<Place>,
) -> Result<Page<Conversation>, Error> {
    if let Some(asked) = &filter.asked {
        return search::page(messaging, tenant, (filter, asked), page).await;
    }
    let mut tx = messaging.database.tenant(tenant).await?;
    let rows = sql::list(tx.conn(), tenant, filter, page.after(), page.limit()).await?;
    tx.commit().await?;
    Ok(page.page(rows, Place::of))
}

/// What people do with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// All of it was read.
    Read,
    /// Whoever does it answers in it, and no automation does.
    TakeOver,
    /// Automations answer in it again.
    HandBack,
    /// What comes next is another conversation.
    Close,
    /// Nobody sees it any more.
    Delete,
    /// It is seen again.
    Restore,
}

impl Act {
    /// Of the audit and of the event.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Act::Read => ("messaging.conversation.read", "messaging.conversation.read"),
            Act::TakeOver => (
                "messaging.conversation.take_over",
                "messaging.conversation.taken_over",
            ),
            Act::HandBack => (
                "messaging.conversation.hand_back",
                "messaging.conversation.handed_back",
            ),
            Act::Close => (
                "messaging.conversation.close",
                "messaging.conversation.closed",
            ),
            Act::Delete => (
                "messaging.conversation.delete",
                "messaging.conversation.deleted",
            ),
            Act::Restore => (
                "messaging.conversation.restore",
                "messaging.conversation.restored",
            ),
        }
    }
}

/// Closes a conversation, and asks how it was if that is wanted. One that is closed already asks nothing.
///
/// # Errors
/// [`Error::NotFound`]; with the question [`Error::NotTexted`] and [`Error::Question`], and then it is not closed.
pub async fn close(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    id: ConversationId,
    ask_rating: bool,
) -> Result<Conversation, Error> {
    match ask_rating {
        true => rating::close_and_ask(messaging, ctx, tenant, id).await,
        false => act(messaging, ctx, tenant, id, Act::Close).await,
    }
}

/// Reads, takes over, hands back, closes, deletes or restores a conversation. Doing it again changes nothing.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn act(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    id: ConversationId,
    act: Act,
) -> Result<Conversation, Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    let found = sql::lock(tx.conn(), tenant, id).await?;
    let before = match act {
        Act::Restore => found.ok_or(Error::NotFound)?,
        _ => shown(found)?,
    };
    let after = match rules::act(&before, act, &by.actor, by.now) {
        None => before,
        Some(after) => write(tx.conn(), tenant, &by, act.names(), &before, after).await?,
    };
    tx.commit().await?;
    Ok(after)
}

/// Assigns and labels a conversation.
///
/// # Errors
/// [`Error::NotFound`], [`Error::EtagMismatch`] when it is not the one that was read, [`Error::NotServing`].
pub async fn update(
    messaging: &Messaging,
    ctx: &Context,
    once: &Once,
    id: ConversationId,
    (edit, etag): (Edit, Option<&str>),
) -> Result<proto::Conversation, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    if let Some(Some(assigned_to)) = edit.assigned_to {
        let mut tx = messaging.database.tenant(tenant).await?;
        // A repeat is answered as it was, whatever became of the member since.
        let known = once.known(tx.conn()).await?;
        tx.commit().await?;
        if let Some(answer) = known {
            return Ok(answer);
        }
        let serves = member::serves(messaging, tenant, assigned_to).await;
        if !serves.map_err(Error::Directory)? {
            return Err(Error::NotServing);
        }
    }
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let before = shown(sql::lock(tx.conn(), tenant, id).await?)?;
    if !rules::is_current(&before, etag) {
        let current = rules::etag(before.revision);
        return Err(Error::EtagMismatch { current });
    }
    let names = (
        "messaging.conversation.update",
        "messaging.conversation.updated",
    );
    let after = match rules::edit(&before, edit) {
        None => before,
        Some(after) => {
            let relabeled = after.labels != before.labels;
            let after = write(tx.conn(), tenant, &by, names, &before, after).await?;
            if relabeled {
                sql::label(tx.conn(), tenant, id, &after.labels, by.now).await?;
            }
            after
        }
    };
    let answer = rpc::answer(tenant.client, &after);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// None that was deleted.
fn shown(found: Option<Conversation>) -> Result<Conversation, Error> {
    found
        .filter(|found| found.deleted_at.is_none())
        .ok_or(Error::NotFound)
}

/// Writes a conversation as it is after a change, under its lock, with its audit row and event; its labels apart.
async fn write(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    (action, event): (&'static str, &'static str),
    before: &Conversation,
    mut after: Conversation,
) -> mainstay_db::Result<Conversation> {
    after.revision = before.revision + 1;
    sql::apply(conn, tenant, &after, by.now).await?;
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: Some(tenant.client),
        sequence: after.revision,
        before: Some(told(before)),
        after: told(&after),
    };
    record::write(conn, by, change).await?;
    Ok(after)
}

/// What audit and events hold of one.
fn told(conversation: &Conversation) -> Value {
    json!({
        "lead_id": conversation.lead,
        "open": conversation.open,
        "unread": conversation.unread,
        "taken_over_by": conversation.taken_over_by,
        "assigned_to": conversation.assigned_to,
        "labels": conversation.labels,
        "rating_asked_at": conversation.rating_asked_at,
        "rating": conversation.rating,
        "deleted_at": conversation.deleted_at,
    })
}
