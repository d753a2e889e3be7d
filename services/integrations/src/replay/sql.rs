//! All queries of replays. A webhook waits by a time in its own row, so that however many replay it, it waits once.
//! Deliberately absent: a statement without the agency; row security lets a
//! worker see all of machinery's rows.

use chrono::{DateTime, Utc};
use mainstay_jobs::record::By;
use mainstay_types::{AgencyId, WebhookReplayId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Range, Replay};
use crate::webhook::State;

fn texts(states: &[State]) -> Vec<String> {
    states
        .iter()
        .map(|state| state.as_str().to_owned())
        .collect()
}

/// How many webhooks up to `newest` are in the range, counted to `most`.
pub async fn count(
    conn: &mut PgConnection,
    agency: AgencyId,
    range: &Range,
    newest: Uuid,
    most: i64,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from (
             select from webhook_event
             where agency_id = $1 and id <= $2 and state = any ($3) and ($4::text is null or provider = $4)
               and ($5::text is null or type = $5) and ($6::timestamptz is null or received_at >= $6)
               and ($7::timestamptz is null or received_at < $7)
             limit $8) matching"#,
        agency.uuid(),
        newest,
        &texts(&range.states),
        range.provider.as_deref(),
        range.kind.as_deref(),
        range.from,
        range.to,
        most,
    )
    .fetch_one(conn)
    .await
}

/// Notes a replay. False: the agency has one that runs.
pub async fn insert(
    conn: &mut PgConnection,
    by: &By,
    id: WebhookReplayId,
    range: &Range,
    newest: Uuid,
    matched: i64,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "insert into webhook_replay (id, agency_id, provider, type, event_states, received_from, received_to, walked_to,
                                     last_id, matched, requested_by, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
         on conflict (agency_id) where state = 'running' do nothing",
        id.uuid(),
        by.agency.uuid(),
        range.provider.as_deref(),
        range.kind.as_deref(),
        &texts(&range.states),
        range.from,
        range.to,
        Uuid::nil(),
        newest,
        matched,
        by.actor,
        by.now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

struct Row {
    id: WebhookReplayId,
    state: String,
    provider: Option<String>,
    kind: Option<String>,
    event_states: Vec<String>,
    received_from: Option<DateTime<Utc>>,
    received_to: Option<DateTime<Utc>>,
    matched: i64,
    replayed: i64,
    passed_over: i64,
    requested_by: String,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl Row {
    fn read(self) -> sqlx::Result<Replay> {
        Ok(Replay {
            id: self.id,
            running: self.state == "running",
            matched: self.matched,
            replayed: self.replayed,
            passed_over: self.passed_over,
            requested_by: self.requested_by,
            created_at: self.created_at,
            ended_at: self.ended_at,
            range: Range {
                provider: self.provider,
                kind: self.kind,
                states: states(&self.event_states)?,
                from: self.received_from,
                to: self.received_to,
            },
        })
    }
}

fn states(texts: &[String]) -> sqlx::Result<Vec<State>> {
    let read = |text: &String| {
        State::try_from(text.as_str()).map_err(|unknown| sqlx::Error::Decode(unknown.into()))
    };
    texts.iter().map(read).collect()
}

/// One replay of an agency.
pub async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: WebhookReplayId,
) -> sqlx::Result<Option<Replay>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: WebhookReplayId", state, provider, type as "kind", event_states, received_from, received_to,
                  matched, replayed, passed_over, requested_by, created_at, ended_at
           from webhook_replay where agency_id = $1 and id = $2"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::read).transpose()
}

/// The replay of an agency that runs.
pub async fn find_running(
    conn: &mut PgConnection,
    agency: AgencyId,
) -> sqlx::Result<Option<Replay>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: WebhookReplayId", state, provider, type as "kind", event_states, received_from, received_to,
                  matched, replayed, passed_over, requested_by, created_at, ended_at
           from webhook_replay where agency_id = $1 and state = 'running'"#,
        agency.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::read).transpose()
}

/// A replay between two pages.
#[derive(Debug)]
pub struct Walk {
    /// What it replays.
    pub range: Range,
    /// Done up to here.
    pub walked_to: Uuid,
    /// It ends here.
    pub last_id: Uuid,
}

/// Locks a replay that runs; none when it has ended.
pub async fn lock(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: WebhookReplayId,
) -> sqlx::Result<Option<Walk>> {
    let row = sqlx::query!(
        r#"select provider, type as "kind", event_states, received_from, received_to, walked_to, last_id
           from webhook_replay where agency_id = $1 and id = $2 and state = 'running' for update"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(Walk {
        range: Range {
            provider: row.provider,
            kind: row.kind,
            states: states(&row.event_states)?,
            from: row.received_from,
            to: row.received_to,
        },
        walked_to: row.walked_to,
        last_id: row.last_id,
    }))
}

/// How many webhooks of an agency wait or are in hand, counted to `most`.
pub async fn count_waiting(
    conn: &mut PgConnection,
    agency: AgencyId,
    most: i64,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!"
           from (select from webhook_event where agency_id = $1 and due_at is not null limit $2) waiting"#,
        agency.uuid(),
        most,
    )
    .fetch_one(conn)
    .await
}

/// The next webhooks of a range, oldest first.
pub async fn list_page(
    conn: &mut PgConnection,
    agency: AgencyId,
    range: &Range,
    after: Uuid,
    last: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from webhook_event
         where agency_id = $1 and id > $2 and id <= $3 and state = any ($4) and ($5::text is null or provider = $5)
           and ($6::text is null or type = $6) and ($7::timestamptz is null or received_at >= $7)
           and ($8::timestamptz is null or received_at < $8)
         order by id limit $9",
        agency.uuid(),
        after,
        last,
        &texts(&range.states),
        range.provider.as_deref(),
        range.kind.as_deref(),
        range.from,
        range.to,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Locks webhooks of an agency, always in the same order: from now on nobody claims them, and no try of them ends.
pub async fn lock_events(
    conn: &mut PgConnection,
    agency: AgencyId,
    ids: &[Uuid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "select id from webhook_event where agency_id = $1 and id = any ($2) order by id for update",
        agency.uuid(),
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// Queues locked webhooks with all their tries, or makes those due that wait for their next one; one that somebody has in
/// hand is left alone. A dead letter of the same work is over.
pub async fn requeue(
    conn: &mut PgConnection,
    agency: AgencyId,
    ids: &[Uuid],
    bulk: bool,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Uuid>> {
    // One that waits already keeps the better of its two places.
    sqlx::query_scalar!(
        r#"with queued as (
             update webhook_event e
             set state = 'received', replays = e.replays + 1, replayed_at = $4, outcome = null, error = null,
                 processed_at = null, due_at = $4, tries = 0, bulk = $3 and (e.bulk or e.due_at is null)
             where e.agency_id = $1 and e.id = any ($2)
               and not exists (select from webhook_lease l where l.webhook_event_id = e.id)
             returning e.id
           ),
           buried as (delete from job_dead_letter d using queued where d.id = queued.id)
           select id as "id!" from queued"#,
        agency.uuid(),
        ids,
        bulk,
        now,
    )
    .fetch_all(conn)
    .await
}

/// Notes how far a replay has come, and when that was its end.
pub async fn advance(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: WebhookReplayId,
    walked_to: Uuid,
    replayed: i64,
    passed_over: i64,
    ended_at: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_replay
         set walked_to = $3, replayed = replayed + $4, passed_over = passed_over + $5, ended_at = $6,
             state = case when $6::timestamptz is null then 'running' else 'completed' end
         where agency_id = $1 and id = $2",
        agency.uuid(),
        id.uuid(),
        walked_to,
        replayed,
        passed_over,
        ended_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}
