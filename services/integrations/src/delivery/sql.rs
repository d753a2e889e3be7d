//! All queries of handing on. Leases live on the database's time, due times on the Clock's, as with jobs.
//! Deliberately absent: a statement that changes a webhook in hand without naming its fence.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_jobs::queue::{Claim, Job, OfKind};
use mainstay_types::{AgencyId, ClientId, JobId, Tenant, WebhookEventId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{KIND, Told};
use crate::webhook::{Next, Undelivered, Whose, rules};

/// Leases webhooks that are due: first those that came in, then those that are replayed in bulk, each by an index that is
/// walked in its order. Locked rows are passed over; two that saw one as free are told apart by the lease's primary key.
pub async fn claim(conn: &mut PgConnection, claim: Claim<'_>) -> Result<Vec<Job>> {
    let rows = sqlx::query!(
        r#"with due as (
             select ready.* from (values (false), (true)) as lane (bulk)
             cross join lateral (
               select e.id, e.tries, e.agency_id, e.tenant_id, e.traceparent, e.bulk, e.due_at
               from webhook_event e
               where e.bulk = lane.bulk and e.due_at <= $2
                 and not exists (select from webhook_lease l where l.webhook_event_id = e.id)
               order by e.due_at, e.id
               limit $1
               for update of e skip locked
             ) ready
             order by ready.bulk, ready.due_at, ready.id
             limit $1
           ),
           leased as (
             insert into webhook_lease (webhook_event_id, fence, runner, leased_until)
             select id, nextval('job_fence'), $3, clock_timestamp() + make_interval(secs => $4::float8 / 1000) from due
             on conflict (webhook_event_id) do nothing
             returning webhook_event_id, fence
           )
           select due.id as "id!", due.tries as "tries!", due.agency_id, due.tenant_id, due.traceparent,
                  leased.fence as "fence!"
           from leased join due on due.id = leased.webhook_event_id
           order by due.bulk, due.due_at, due.id"#,
        claim.limit,
        claim.now,
        claim.runner,
        claim.lease_ms,
    )
    .fetch_all(conn)
    .await?;
    let tenant = |agency: Option<Uuid>, client: Option<Uuid>| {
        Some(Tenant {
            agency: AgencyId::from_uuid(agency?),
            client: ClientId::from_uuid(client?),
        })
    };
    let job = |tries: i32| u32::try_from(tries).unwrap_or(0) + 1;
    Ok(rows
        .into_iter()
        .map(|row| Job {
            id: JobId::from_uuid(row.id),
            kind: KIND.to_owned(),
            payload: serde_json::Value::Null,
            attempt: job(row.tries),
            max_attempts: rules::MAX_ATTEMPTS,
            fence: row.fence,
            agency: row.agency_id.map(AgencyId::from_uuid),
            tenant: tenant(row.agency_id, row.tenant_id),
            traceparent: row.traceparent,
        })
        .collect())
}

/// Prolongs leases; gives those that are still ours.
pub async fn heartbeat(
    conn: &mut PgConnection,
    ids: &[Uuid],
    fences: &[i64],
    lease_ms: f64,
) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        "update webhook_lease l set leased_until = clock_timestamp() + make_interval(secs => $3::float8 / 1000)
         from unnest($1::uuid[], $2::bigint[]) as mine (webhook_event_id, fence)
         where l.webhook_event_id = mine.webhook_event_id and l.fence = mine.fence
         returning l.webhook_event_id",
        ids,
        fences,
        lease_ms,
    )
    .fetch_all(conn)
    .await?)
}

/// What handing on needs; none when the webhook had its effect, or its week is gone.
pub async fn find_undelivered(
    conn: &mut PgConnection,
    id: WebhookEventId,
) -> Result<Option<Undelivered>> {
    Ok(sqlx::query_as!(
        Undelivered,
        r#"select provider, account, event_key, type as "kind", content_type, body, received_at, given_up
           from webhook_event where id = $1 and slot = webhook_slot($1) and state <> 'processed'"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?)
}

/// What whoever alerts people is told of a webhook; none while nobody knows whose it is.
pub async fn find_told(conn: &mut PgConnection, id: WebhookEventId) -> Result<Option<Told>> {
    Ok(sqlx::query_as!(
        Told,
        r#"select agency_id as "agency!: AgencyId", provider, type as "kind", error from webhook_event
           where id = $1 and slot = webhook_slot($1) and agency_id is not null"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?)
}

/// Gives a lease up. False: it is no longer ours.
pub async fn release(conn: &mut PgConnection, id: WebhookEventId, fence: i64) -> Result<bool> {
    let done = sqlx::query!(
        "delete from webhook_lease where webhook_event_id = $1 and fence = $2",
        id.uuid(),
        fence,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives the lease up and writes what the try led to, in one: whoever lost the lease writes nothing. `retry_at` is when
/// one that failed is due again. False: it was not ours. For what is given up there is [`bury`].
pub async fn apply(
    conn: &mut PgConnection,
    id: WebhookEventId,
    fence: i64,
    next: &Next,
    whose: Option<Whose>,
    now: DateTime<Utc>,
    retry_at: DateTime<Utc>,
) -> Result<bool> {
    let (outcome, error) = match next {
        Next::Processed { outcome } => (Some(outcome), None),
        Next::Failed { error } | Next::Dead { error } => (None, Some(error)),
    };
    let done = sqlx::query!(
        "with released as (
           delete from webhook_lease where webhook_event_id = $1 and fence = $2 returning webhook_event_id
         )
         update webhook_event e
         set state = $3, attempts = e.attempts + 1, tries = e.tries + 1, outcome = $4, error = $5, processed_at = $6,
             due_at = $7, agency_id = coalesce($8, e.agency_id), given_up = e.given_up and $3 <> 'processed',
             tenant_id = case when $8::uuid is null then e.tenant_id else $9 end
         from released
         where e.id = released.webhook_event_id and e.id = $1 and e.slot = webhook_slot($1) and e.state <> 'processed'",
        id.uuid(),
        fence,
        next.state().as_str(),
        outcome,
        error,
        matches!(next, Next::Processed { .. }).then_some(now),
        matches!(next, Next::Failed { .. }).then_some(retry_at),
        whose.map(|whose| whose.agency.uuid()),
        whose.and_then(|whose| whose.client).map(ClientId::uuid),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives the lease up and the webhook as well: a dead row, and beside it a dead letter of its owner's, for whoever watches
/// those. False: it was not ours.
pub async fn bury(
    conn: &mut PgConnection,
    id: WebhookEventId,
    fence: i64,
    error: &str,
    whose: Option<Whose>,
) -> Result<bool> {
    let done = sqlx::query!(
        "with released as (
           delete from webhook_lease where webhook_event_id = $1 and fence = $2 returning webhook_event_id
         ),
         dead as (
           update webhook_event e
           set state = 'dead', attempts = e.attempts + 1, tries = e.tries + 1, outcome = null, error = $3, due_at = null,
               given_up = true, agency_id = coalesce($4, e.agency_id),
               tenant_id = case when $4::uuid is null then e.tenant_id else $5 end
           from released
           where e.id = released.webhook_event_id and e.id = $1 and e.slot = webhook_slot($1) and e.state <> 'processed'
           returning e.id, e.bulk, e.agency_id, e.tenant_id, e.tries, e.error, e.traceparent, e.created_at
         )
         insert into job_dead_letter (id, kind, priority, payload, agency_id, tenant_id, attempt, max_attempts, last_error,
                                      traceparent, enqueued_at)
         select id, $6, case when bulk then 2 else 1 end, jsonb_build_object('webhook_event_id', id), agency_id, tenant_id,
                tries, $7, error, traceparent, created_at
         from dead
         on conflict (id) do update
           set attempt = excluded.attempt, last_error = excluded.last_error, created_at = excluded.created_at,
               agency_id = excluded.agency_id, tenant_id = excluded.tenant_id",
        id.uuid(),
        fence,
        error,
        whose.map(|whose| whose.agency.uuid()),
        whose.and_then(|whose| whose.client).map(ClientId::uuid),
        KIND,
        MAX_TRIES,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// As the columns of the queue count.
const MAX_TRIES: i32 = rules::MAX_ATTEMPTS as i32;

/// Later, without counting a try. False: the lease is no longer ours.
pub async fn snooze(
    conn: &mut PgConnection,
    id: WebhookEventId,
    fence: i64,
    until: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "with released as (
           delete from webhook_lease where webhook_event_id = $1 and fence = $2 returning webhook_event_id
         )
         update webhook_event e set due_at = $3 from released
         where e.id = released.webhook_event_id and e.id = $1 and e.slot = webhook_slot($1) and e.due_at is not null",
        id.uuid(),
        fence,
        until,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Hands back everything a stopping runner still holds: at once claimable, no try counted.
pub async fn hand_back(conn: &mut PgConnection, runner: Uuid) -> Result<u64> {
    let done = sqlx::query!("delete from webhook_lease where runner = $1", runner)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Takes back leases that have run out, each at the price of a try. Gives how many were (rescued, buried).
pub async fn rescue(conn: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"with expired as (
             select webhook_event_id from webhook_lease where leased_until < clock_timestamp()
             limit $2 for update skip locked
           ),
           released as (
             delete from webhook_lease l using expired where l.webhook_event_id = expired.webhook_event_id
             returning l.webhook_event_id as id
           ),
           told as (
             update webhook_event e
             set state = case when e.tries + 1 < $3 then 'failed' else 'dead' end, attempts = e.attempts + 1,
                 tries = e.tries + 1, outcome = null, error = 'the runner was lost', given_up = e.given_up or e.tries + 1 >= $3,
                 due_at = case when e.tries + 1 < $3 then $1::timestamptz end
             from released
             where e.id = released.id and e.slot = webhook_slot(released.id) and e.due_at is not null
             returning e.id, e.state, e.bulk, e.agency_id, e.tenant_id, e.tries, e.error, e.traceparent, e.created_at
           ),
           buried as (
             insert into job_dead_letter (id, kind, priority, payload, agency_id, tenant_id, attempt, max_attempts,
                                          last_error, traceparent, enqueued_at)
             select id, $4, case when bulk then 2 else 1 end, jsonb_build_object('webhook_event_id', id), agency_id,
                    tenant_id, tries, $3, error, traceparent, created_at
             from told where state = 'dead'
             on conflict (id) do nothing
           )
           select count(*) filter (where state = 'failed') as "retried!", count(*) filter (where state = 'dead') as "buried!"
           from told"#,
        now,
        limit,
        MAX_TRIES,
        KIND,
    )
    .fetch_one(conn)
    .await?;
    Ok((row.retried, row.buried))
}

/// An agency's webhooks that wait or are in hand, in numbers.
pub async fn summarize(
    conn: &mut PgConnection,
    agency: AgencyId,
    now: DateTime<Utc>,
    most: i64,
) -> Result<OfKind> {
    Ok(sqlx::query_as!(
        OfKind,
        r#"select $4 as "kind!", count(*) filter (where not leased and due_at <= $2) as "ready!",
                  count(*) filter (where leased) as "running!",
                  count(*) filter (where not leased and due_at > $2) as "scheduled!",
                  count(*) filter (where tries > 0) as "retrying!", 0::bigint as "dead!",
                  min(due_at) filter (where not leased and due_at <= $2) as oldest_ready
           from (select e.due_at, e.tries, l.webhook_event_id is not null as leased
                 from webhook_event e
                 left join webhook_lease l on l.webhook_event_id = e.id and l.leased_until > clock_timestamp()
                 where e.agency_id = $1 and e.due_at is not null limit $3) waiting"#,
        agency.uuid(),
        now,
        most,
        KIND,
    )
    .fetch_one(conn)
    .await?)
}

/// Queues a webhook again that nobody has and that is not queued, with all its tries. False: there is nothing to hand on.
pub async fn queue_again(
    conn: &mut PgConnection,
    id: WebhookEventId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update webhook_event e
         set state = 'received', tries = 0, outcome = null, error = null, due_at = $2, bulk = false
         where e.id = $1 and e.slot = webhook_slot($1) and e.state <> 'processed' and e.due_at is null",
        id.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
