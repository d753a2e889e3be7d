//! The webhook inbox (INT-01, INT-04): stored once, answered, then handed to the owner of its meaning until that has
//! given it its effect. Types, the public operations, and where transactions begin and end.
//! Deliberately absent: signatures (the gateway has verified them over the raw bytes) and what an event means.

mod error;
pub mod events;
mod pressure;
mod probe;
pub mod rpc;
pub mod rules;
pub mod sql;

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use mainstay_db::{Database, PageRequest, Worker, retrying};
use mainstay_types::{AgencyId, AgencyScope, ClientId, WebhookEventId};
use uuid::Uuid;

pub use error::WebhookError;
pub use pressure::Pressure;
pub use probe::WebhookProbe;

/// What repetitions of a webhook share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `stripe`.
    pub provider: String,
    /// The account or endpoint it came for.
    pub account: String,
    /// The sender's id of it, or what stands for one (INT-04).
    pub event_key: String,
}

/// A webhook that the gateway has verified.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// What it is deduplicated by.
    pub key: Key,
    /// `invoice.paid`.
    pub kind: String,
    /// Its content type.
    pub content_type: String,
    /// The bytes that were signed.
    pub body: Bytes,
    /// When the gateway had it.
    pub received_at: DateTime<Utc>,
    /// The trace it came in with.
    pub traceparent: Option<String>,
}

/// What became of a webhook that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its id; for a repetition that of the first.
    pub id: WebhookEventId,
    /// Whether it was known before.
    pub duplicate: bool,
}

/// Where a webhook stands.
///
/// ```text
/// received ──► processed ◄──┐
///  ▲ │                      │ a later try
///  │ ├──► failed ──► … ─────┤
///  │ └──► dead ─────────────┘   tries used up, or refused for good: a dead letter
///  └── a replay, from any of them
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Stored, not yet handed on.
    Received,
    /// It had its effect.
    Processed,
    /// The last try failed; there will be another.
    Failed,
    /// There will be no other try unless a person asks for it.
    Dead,
}

impl State {
    /// As the database spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Received => "received",
            State::Processed => "processed",
            State::Failed => "failed",
            State::Dead => "dead",
        }
    }
}

impl TryFrom<&str> for State {
    type Error = UnknownState;
    fn try_from(text: &str) -> Result<Self, UnknownState> {
        [
            State::Received,
            State::Processed,
            State::Failed,
            State::Dead,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// The database holds a state that this binary does not know.
#[derive(Debug, thiserror::Error)]
#[error("no webhook state is called `{0}`")]
pub struct UnknownState(String);

/// A webhook as an operator sees it.
#[derive(Debug, Clone)]
pub struct WebhookEvent {
    /// Its id.
    pub id: WebhookEventId,
    /// The client it is about.
    pub client: Option<ClientId>,
    /// `stripe`.
    pub provider: String,
    /// The sender's id of it.
    pub event_key: String,
    /// `invoice.paid`.
    pub kind: String,
    /// Where it stands, as the database spells it.
    pub state: String,
    /// How often handing it on was tried.
    pub attempts: i32,
    /// What was done with it.
    pub outcome: Option<String>,
    /// What went wrong last.
    pub error: Option<String>,
    /// The trace it came in with.
    pub traceparent: Option<String>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// When it had its effect.
    pub processed_at: Option<DateTime<Utc>>,
    /// How often it was replayed.
    pub replays: i32,
    /// When it was replayed last.
    pub replayed_at: Option<DateTime<Utc>>,
}

/// What handing on needs of a webhook.
#[derive(Debug)]
pub struct Undelivered {
    /// `stripe`.
    pub provider: String,
    /// The account it came for: `pac_…`, or `default` for the platform's own.
    pub account: String,
    /// The sender's id of it.
    pub event_key: String,
    /// `invoice.paid`.
    pub kind: String,
    /// How to read the body.
    pub content_type: String,
    /// The bytes that were signed.
    pub body: Vec<u8>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// It was given up, and is tried again.
    pub given_up: bool,
}

/// Whose object a webhook is about, as the owner of its meaning says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// The agency.
    pub agency: AgencyId,
    /// The client, where it is about one.
    pub client: Option<ClientId>,
}

/// What the owner of its meaning answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It had its effect, now or before, or has none: in words.
    Done(String),
    /// It cannot have its effect yet: why.
    NotYet(String),
    /// The call failed; whether it had an effect is not known, and a repetition is harmless.
    Failed(String),
    /// It can never have an effect: why.
    Refused(String),
}

/// Where a try takes a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It had its effect.
    Processed {
        /// In words.
        outcome: String,
    },
    /// It is tried again.
    Failed {
        /// Why it failed.
        error: String,
    },
    /// A person must look.
    Dead {
        /// Why it failed.
        error: String,
    },
}

impl Next {
    /// The state it leads to.
    pub const fn state(&self) -> State {
        match self {
            Next::Processed { .. } => State::Processed,
            Next::Failed { .. } => State::Failed,
            Next::Dead { .. } => State::Dead,
        }
    }
}

/// Stores a batch. When this returns all of it is durable, and due to be handed on.
///
/// # Errors
/// [`WebhookError::Database`]: none of it is stored, or but what was new among repetitions; storing the same batch again is
/// harmless.
pub async fn store(
    worker: &Worker,
    webhooks: Vec<NewWebhook>,
    now: DateTime<Utc>,
) -> Result<Vec<Stored>, WebhookError> {
    let firsts = rules::firsts(webhooks.iter().map(|webhook| &webhook.key));
    let ids: Vec<Uuid> = webhooks
        .iter()
        .map(|_| WebhookEventId::generate().uuid())
        .collect();
    let mut batch = sql::Batch::default();
    for (place, webhook) in webhooks.into_iter().enumerate() {
        if firsts[place] == place {
            batch.push(ids[place], webhook);
        }
    }
    let mut stored = HashMap::new();
    // A second round only where a key was forgotten between the two statements of the first.
    for _ in 0..ROUNDS {
        let new = retrying(|| async {
            let mut connection = worker.connection().await?;
            let new = sql::insert(connection.conn(), &batch, now).await?;
            connection.give_back();
            Ok::<_, WebhookError>(new)
        });
        let new = new.await?.into_iter();
        stored.extend(new.map(|id| (id, WebhookEventId::from_uuid(id))));
        batch.without(&stored);
        if batch.is_empty() {
            break;
        }
        let known = retrying(|| async {
            let mut connection = worker.connection().await?;
            Ok::<_, WebhookError>(sql::remember_again(connection.conn(), &batch).await?)
        });
        stored.extend(known.await?);
        batch.without(&stored);
        if batch.is_empty() {
            break;
        }
    }
    let result = |(place, first): (usize, &usize)| {
        let id = stored
            .get(&ids[*first])
            .copied()
            .ok_or(WebhookError::NotStored)?;
        let duplicate = place != *first || id.uuid() != ids[place];
        Ok(Stored { id, duplicate })
    };
    firsts.iter().enumerate().map(result).collect()
}

/// How often storing a batch is begun anew.
const ROUNDS: u32 = 3;

/// What a list may be narrowed to.
#[derive(Debug, Default)]
pub struct Filter {
    /// Only this provider's.
    pub provider: Option<String>,
    /// Only those in this state.
    pub state: Option<State>,
    /// Only this type.
    pub kind: Option<String>,
}

/// A page of an agency's webhooks, newest first.
///
/// # Errors
/// [`WebhookError::Database`].
pub async fn list(
    database: &Database,
    scope: &AgencyScope,
    filter: &Filter,
    page: &PageRequest<Uuid>,
) -> Result<Vec<WebhookEvent>, WebhookError> {
    let before = page.after().copied().unwrap_or(Uuid::max());
    let mut tx = database.agency(scope).await?;
    let rows = sql::list(tx.conn(), scope.agency, filter, before, page.limit()).await?;
    Ok(rows)
}

/// One webhook of an agency.
///
/// # Errors
/// [`WebhookError::NotFound`] also for another agency's, and for one that is matched to nobody yet.
pub async fn get(
    database: &Database,
    scope: &AgencyScope,
    id: WebhookEventId,
) -> Result<WebhookEvent, WebhookError> {
    let mut tx = database.agency(scope).await?;
    let row = sql::find(tx.conn(), scope.agency, id).await?;
    row.ok_or(WebhookError::NotFound)
}

/// Empties the partitions that are past retention; answers how many partitions, and how many rows of partitions that
/// are in use again (only after the job had not run for weeks).
///
/// # Errors
/// [`WebhookError::Database`], also when a partition was in use for a second on end; what was emptied stays so.
pub async fn empty_old_weeks(
    worker: &Worker,
    newest: WebhookEventId,
) -> Result<Emptied, WebhookError> {
    let oldest_kept = rules::oldest_kept(newest);
    let outdated = {
        let mut connection = worker.connection().await?;
        sql::list_outdated_slots(connection.conn(), oldest_kept).await?
    };
    let mut emptied = Emptied::default();
    for slot in outdated {
        let mut tx = worker.tx().await?;
        // Looked at before the lock, so that a partition in use is not shut in vain, and after it, because only then
        // nobody adds to it.
        let in_use = sql::slot_holds_recent(tx.conn(), slot, oldest_kept).await?;
        if !in_use {
            sql::lock_slot(tx.conn(), slot).await?;
        }
        if in_use || sql::slot_holds_recent(tx.conn(), slot, oldest_kept).await? {
            emptied.rows +=
                sql::delete_outdated(tx.conn(), slot, oldest_kept, DELETED_AT_ONCE).await?;
        } else {
            sql::truncate_slot(tx.conn(), slot).await?;
            emptied.weeks += 1;
        }
        tx.commit().await?;
    }
    Ok(emptied)
}

/// Rows deleted in one transaction.
const DELETED_AT_ONCE: i64 = 1000;

/// What retention took away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Emptied {
    /// Whole partitions.
    pub weeks: u32,
    /// Single rows.
    pub rows: u64,
}
