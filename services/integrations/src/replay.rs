//! Replays (INT-05): a person has webhooks handed on again, one or a range. The effect is still once, since the owner of a
//! webhook's meaning knows what has had its effect; here is only seen to it that each is queued once and none is lost.
//! Deliberately absent: webhooks that are matched to no agency. Nobody's operator may touch what could be another's; they
//! are tried again by themselves, and are counted by health while they are not through.

mod error;
pub mod rules;
pub mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::{Database, Worker, retrying};
use mainstay_jobs::audit::{self, AuditRecord};
use mainstay_jobs::record::By;
use mainstay_jobs::{NewJob, Priority, enqueue};
use mainstay_types::{AgencyId, AgencyScope, Visible, WebhookEventId, WebhookReplayId};
use serde_json::json;
use uuid::Uuid;

pub use error::ReplayError;

use crate::jobs::replay_webhooks;
use crate::webhook::{self, State, WebhookEvent};

/// Which webhooks a range holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Only this provider's.
    pub provider: Option<String>,
    /// Only this type.
    pub kind: Option<String>,
    /// Those in any of these states.
    pub states: Vec<State>,
    /// Received at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Received before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A range that is or was being replayed.
///
/// ```text
/// running ──page by page──► completed
/// ```
#[derive(Debug, Clone)]
pub struct Replay {
    /// Its id.
    pub id: WebhookReplayId,
    /// Whether webhooks are still being queued.
    pub running: bool,
    /// How many matched when it was asked for.
    pub matched: i64,
    /// How many have been queued again.
    pub replayed: i64,
    /// How many were being handed on at that moment.
    pub passed_over: i64,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When the last was queued.
    pub ended_at: Option<DateTime<Utc>>,
    /// What it replays.
    pub range: Range,
}

/// Queues one webhook of an agency again, ahead of everything that is replayed in bulk. One that is being handed on at
/// this moment is left to that.
///
/// # Errors
/// [`ReplayError::NotFound`] also for another agency's, and for one that is matched to nobody.
pub async fn one(
    database: &Database,
    by: &By,
    id: WebhookEventId,
) -> Result<WebhookEvent, ReplayError> {
    let scope = whole(by.agency);
    retrying(|| async {
        let before = webhook::get(database, &scope, id).await?;
        let mut tx = database.worker().agency(&scope).await?;
        let queued = requeue(tx.conn(), by.agency, &[id.uuid()], false, by.now).await?;
        if !queued.is_empty() {
            let record = AuditRecord {
                agency: by.agency,
                client: before.client,
                actor: &by.actor,
                action: "integrations.webhook_event.replay",
                target_type: "webhook_event",
                target_id: &id.to_string(),
                before: Some(json!({
                    "state": before.state,
                    "outcome": before.outcome,
                    "error": before.error,
                    "processed_at": before.processed_at,
                })),
                after: Some(
                    json!({"state": State::Received.as_str(), "replays": before.replays + 1}),
                ),
                request_id: by.request_id.as_deref(),
                occurred_at: by.now,
            };
            audit::record(tx.conn(), &record).await?;
        }
        tx.commit().await?;
        Ok(webhook::get(database, &scope, id).await?)
    })
    .await
}

/// How many webhooks of an agency a range holds now.
///
/// # Errors
/// [`ReplayError::TooLarge`] past [`rules::MOST_IN_RANGE`].
pub async fn count(
    database: &Database,
    agency: AgencyId,
    range: &Range,
) -> Result<i64, ReplayError> {
    let mut tx = database.agency(&whole(agency)).await?;
    let newest = WebhookEventId::generate().uuid();
    rules::bounded(sql::count(tx.conn(), agency, range, newest, rules::MOST_IN_RANGE + 1).await?)
}

/// Begins to replay a range: everything that is in it now, in the background.
///
/// # Errors
/// [`ReplayError::Running`] while another range of the agency is replayed; asking for the same one gives that one.
/// [`ReplayError::TooLarge`].
pub async fn begin(database: &Database, by: &By, range: &Range) -> Result<Replay, ReplayError> {
    retrying(|| async {
        let mut tx = database.agency(&whole(by.agency)).await?;
        let newest = WebhookEventId::generate().uuid();
        let limit = rules::MOST_IN_RANGE + 1;
        let matched =
            rules::bounded(sql::count(tx.conn(), by.agency, range, newest, limit).await?)?;
        let id = WebhookReplayId::generate();
        if !sql::insert(tx.conn(), by, id, range, newest, matched).await? {
            // The one that runs may end before it is read; whoever asks again then begins their own.
            let running = sql::find_running(tx.conn(), by.agency).await?;
            return match running.ok_or(ReplayError::Moved)? {
                same if same.range == *range => Ok(same),
                other => Err(ReplayError::Running(other.id)),
            };
        }
        let payload = replay_webhooks::Payload {
            webhook_replay_id: id.uuid(),
        };
        let job = NewJob::new(replay_webhooks::KIND, &payload, by.now)
            .for_agency(by.agency)
            .priority(Priority::Bulk)
            .max_attempts(rules::PAGE_TRIES);
        enqueue(tx.conn(), job).await?;
        let record = AuditRecord {
            agency: by.agency,
            client: None,
            actor: &by.actor,
            action: "integrations.webhook_replay.create",
            target_type: "webhook_replay",
            target_id: &id.to_string(),
            before: None,
            after: Some(json!({
                "provider": range.provider,
                "type": range.kind,
                "states": range.states.iter().map(|state| state.as_str()).collect::<Vec<_>>(),
                "received_from_at": range.from,
                "received_to_at": range.to,
                "matched": matched,
            })),
            request_id: by.request_id.as_deref(),
            occurred_at: by.now,
        };
        audit::record(tx.conn(), &record).await?;
        let begun = sql::find(tx.conn(), by.agency, id).await?;
        tx.commit().await?;
        begun.ok_or(ReplayError::NotFound)
    })
    .await
}

/// How far a replay of an agency has come.
///
/// # Errors
/// [`ReplayError::NotFound`].
pub async fn get(
    database: &Database,
    agency: AgencyId,
    id: WebhookReplayId,
) -> Result<Replay, ReplayError> {
    let mut tx = database.agency(&whole(agency)).await?;
    let found = sql::find(tx.conn(), agency, id).await?;
    found.ok_or(ReplayError::NotFound)
}

/// What a page of a replay led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paged {
    /// There may be more.
    More,
    /// So much of the agency's waits already that more would only wait as well.
    Full,
    /// Everything is queued.
    Done,
}

/// Queues the next page of a replay. What is queued and how far the replay has come are one transaction: a crash
/// repeats nothing and leaves nothing out.
///
/// # Errors
/// [`ReplayError::Database`].
pub async fn next_page(
    worker: &Worker,
    agency: AgencyId,
    id: WebhookReplayId,
    now: DateTime<Utc>,
) -> Result<Paged, ReplayError> {
    let mut tx = worker.agency(&whole(agency)).await?;
    let Some(walk) = sql::lock(tx.conn(), agency, id).await? else {
        return Ok(Paged::Done);
    };
    if sql::count_waiting(tx.conn(), agency, rules::MOST_WAITING).await? >= rules::MOST_WAITING {
        return Ok(Paged::Full);
    }
    let range = &walk.range;
    let (from, to) = (walk.walked_to, walk.last_id);
    let page = sql::list_page(tx.conn(), agency, range, from, to, rules::PAGE).await?;
    let queued = requeue(tx.conn(), agency, &page, true, now).await?;
    let done = page.len() < rules::PAGE as usize;
    let walked_to = page.last().copied().unwrap_or(walk.last_id);
    let passed_over = page.len() - queued.len();
    sql::advance(
        tx.conn(),
        agency,
        id,
        walked_to,
        queued.len() as i64,
        passed_over as i64,
        done.then_some(now),
    )
    .await?;
    tx.commit().await?;
    Ok(if done { Paged::Done } else { Paged::More })
}

/// Queues these webhooks of an agency again, but for those that are being handed on. Gives those it queued.
///
/// First the rows are locked, then a statement of its own looks at the leases: a webhook that nobody had claimed by then
/// cannot be claimed before the commit, and one that somebody has is left to that runner, whose answer would otherwise be
/// taken for one of the try that has just been queued.
async fn requeue(
    conn: &mut sqlx::PgConnection,
    agency: AgencyId,
    ids: &[Uuid],
    bulk: bool,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Uuid>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sql::lock_events(&mut *conn, agency, ids).await?;
    sql::requeue(conn, agency, ids, bulk, now).await
}

/// Webhooks are the whole agency's to replay: the permission is asked for in that scope.
fn whole(agency: AgencyId) -> AgencyScope {
    AgencyScope {
        agency,
        visible: Visible::All,
    }
}
