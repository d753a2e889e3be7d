//! All queries on `job`, `job_lease` and `job_dead_letter`. Leases live on the database's time, due times on the Clock's.
//! Deliberately absent: a statement that changes a claimed job without naming its fence.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, JobId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::source::{Claim, Failed, Failure};
use super::{Enqueued, Job, NewJob};

fn tenant_of(agency: Option<Uuid>, tenant: Option<Uuid>) -> Option<Tenant> {
    Some(Tenant {
        agency: AgencyId::from_uuid(agency?),
        client: ClientId::from_uuid(tenant?),
    })
}

fn count(attempts: i32) -> u32 {
    u32::try_from(attempts).unwrap_or(0)
}

/// No `returning` and no named arbiter: the app role may insert here without being able to read.
pub(super) async fn insert(connection: &mut PgConnection, job: &NewJob) -> Result<Enqueued> {
    let id = JobId::generate();
    let inserted = sqlx::query!(
        "insert into job (id, kind, priority, run_at, payload, unique_key, agency_id, tenant_id, max_attempts, traceparent)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict do nothing",
        id.uuid(),
        job.kind,
        job.priority as i16,
        job.run_at,
        job.payload,
        job.unique_key,
        job.agency.map(|agency| agency.uuid()),
        job.tenant.map(|tenant| tenant.client.uuid()),
        job.max_attempts as i32,
        job.traceparent,
    )
    .execute(connection)
    .await?;
    Ok(if inserted.rows_affected() == 1 {
        Enqueued::New(id)
    } else {
        Enqueued::AlreadyQueued
    })
}

/// Claims up to `limit` due jobs of these kinds: one range scan a priority, locked rows passed over. Two runners that
/// saw the same job as free are told apart by the primary key of the lease.
pub(crate) async fn claim(connection: &mut PgConnection, claim: Claim<'_>) -> Result<Vec<Job>> {
    let rows = sqlx::query!(
        r#"with due as (
             select ready.* from generate_series(0, 3) as lane (priority)
             cross join lateral (
               select j.id, j.kind, j.payload, j.attempt, j.max_attempts, j.agency_id, j.tenant_id, j.traceparent,
                      j.priority, j.run_at
               from job j
               where j.priority = lane.priority and j.run_at <= $3 and j.kind = any ($1)
                 and not exists (select from job_lease l where l.job_id = j.id)
               order by j.run_at, j.id
               limit $2
               for update of j skip locked
             ) ready
             order by ready.priority, ready.run_at, ready.id
             limit $2
           ),
           leased as (
             insert into job_lease (job_id, fence, runner, leased_until)
             select id, nextval('job_fence'), $4, clock_timestamp() + make_interval(secs => $5::float8 / 1000) from due
             on conflict (job_id) do nothing
             returning job_id, fence
           )
           select due.id, due.kind, due.payload, due.attempt, due.max_attempts, due.agency_id, due.tenant_id,
                  due.traceparent, leased.fence
           from leased join due on due.id = leased.job_id
           order by due.priority, due.run_at, due.id"#,
        claim.kinds,
        claim.limit,
        claim.now,
        claim.runner,
        claim.lease_ms,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Job {
            id: JobId::from_uuid(row.id),
            kind: row.kind,
            payload: row.payload,
            attempt: count(row.attempt) + 1,
            max_attempts: count(row.max_attempts),
            fence: row.fence,
            agency: row.agency_id.map(AgencyId::from_uuid),
            tenant: tenant_of(row.agency_id, row.tenant_id),
            traceparent: row.traceparent,
        })
        .collect())
}

/// Prolongs the leases; gives those that are still ours.
pub(crate) async fn heartbeat(
    connection: &mut PgConnection,
    jobs: &[Uuid],
    fences: &[i64],
    lease_ms: f64,
) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        "update job_lease l set leased_until = clock_timestamp() + make_interval(secs => $3::float8 / 1000)
         from unnest($1::uuid[], $2::bigint[]) as mine (job_id, fence)
         where l.job_id = mine.job_id and l.fence = mine.fence
         returning l.job_id",
        jobs,
        fences,
        lease_ms,
    )
    .fetch_all(connection)
    .await?)
}

/// Done. False: the lease is no longer ours.
pub(crate) async fn complete(
    connection: &mut PgConnection,
    job: JobId,
    fence: i64,
) -> Result<bool> {
    let done = sqlx::query!(
        "with released as (delete from job_lease where job_id = $1 and fence = $2 returning job_id)
         delete from job using released where job.id = released.job_id",
        job.uuid(),
        fence,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Counts the attempt; queues the next one, or buries the job if it was the last or `dead`. One of an agency's that is buried is told
/// to escalation: an event of the job, whose sequence is a fence, named for the service by its schema.
pub(crate) async fn fail(
    connection: &mut PgConnection,
    job: JobId,
    fence: i64,
    failure: Failure<'_>,
) -> Result<Failed> {
    let row = sqlx::query!(
        r#"with released as (
             delete from job_lease where job_id = $1 and fence = $2 returning job_id
           ),
           retried as (
             update job set attempt = attempt + 1, last_error = $3, run_at = $4
             from released
             where job.id = released.job_id and not $5 and job.attempt + 1 < job.max_attempts
             returning job.id
           ),
           gone as (
             delete from job using released
             where job.id = released.job_id and ($5 or job.attempt + 1 >= job.max_attempts)
             returning job.*
           ),
           buried as (
             insert into job_dead_letter (id, kind, priority, payload, unique_key, agency_id, tenant_id, attempt,
                                          max_attempts, last_error, traceparent, enqueued_at)
             select id, kind, priority, payload, unique_key, agency_id, tenant_id, attempt + 1, max_attempts, $3,
                    traceparent, created_at
             from gone
             returning *
           ),
           event as (
             insert into outbox_event (id, type, schema_version, agency_id, tenant_id, aggregate_type, aggregate_id, sequence,
                                       occurred_at, actor, traceparent, payload)
             select gen_random_uuid(), current_schema() || '.job.buried', 1, agency_id, tenant_id, 'job', id::text, $2, $6,
                    'service:' || current_schema(), traceparent, jsonb_build_object('kind', kind, 'error', last_error)
             from buried where agency_id is not null
             returning *
           ),
           told as (
             insert into outbox_delivery (event_id, consumer, aggregate_type, aggregate_id, sequence, agency_id, tenant_id,
                                          next_attempt_at)
             select id, 'escalation', aggregate_type, aggregate_id, sequence, agency_id, tenant_id, occurred_at from event
           )
           select (select count(*) from retried) as "retried!", (select count(*) from buried) as "buried!""#,
        job.uuid(),
        fence,
        failure.error,
        failure.retry_at,
        failure.dead,
        failure.now,
    )
    .fetch_one(connection)
    .await?;
    Ok(match (row.retried, row.buried) {
        (1, _) => Failed::Retried,
        (_, 1) => Failed::Buried,
        _ => Failed::NotOurs,
    })
}

/// Later, without counting an attempt. False: the lease is no longer ours.
pub(crate) async fn snooze(
    connection: &mut PgConnection,
    job: JobId,
    fence: i64,
    until: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "with released as (delete from job_lease where job_id = $1 and fence = $2 returning job_id)
         update job set run_at = $3 from released where job.id = released.job_id",
        job.uuid(),
        fence,
        until,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Hands back everything a stopping runner still holds: at once claimable, no attempt counted.
pub(crate) async fn hand_back(connection: &mut PgConnection, runner: Uuid) -> Result<u64> {
    let done = sqlx::query!("delete from job_lease where runner = $1", runner)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Takes back leases that have run out: their runner died or hangs. It counts as an attempt, so that a job which kills
/// its runner ends among the dead letters. Gives how many were (rescued, buried).
pub(crate) async fn rescue(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"with expired as (
             select job_id from job_lease where leased_until < clock_timestamp() limit $2 for update skip locked
           ),
           released as (
             delete from job_lease l using expired where l.job_id = expired.job_id returning l.job_id
           ),
           retried as (
             update job set attempt = attempt + 1, last_error = 'the runner was lost', run_at = $1
             from released where job.id = released.job_id and job.attempt + 1 < job.max_attempts
             returning job.id
           ),
           gone as (
             delete from job using released
             where job.id = released.job_id and job.attempt + 1 >= job.max_attempts
             returning job.*
           ),
           buried as (
             insert into job_dead_letter (id, kind, priority, payload, unique_key, agency_id, tenant_id, attempt,
                                          max_attempts, last_error, traceparent, enqueued_at)
             select id, kind, priority, payload, unique_key, agency_id, tenant_id, attempt + 1, max_attempts,
                    'the runner was lost at the last attempt', traceparent, created_at
             from gone
             returning *
           ),
           event as (
             insert into outbox_event (id, type, schema_version, agency_id, tenant_id, aggregate_type, aggregate_id, sequence,
                                       occurred_at, actor, traceparent, payload)
             select gen_random_uuid(), current_schema() || '.job.buried', 1, agency_id, tenant_id, 'job', id::text,
                    nextval('job_fence'), $1, 'service:' || current_schema(), traceparent,
                    jsonb_build_object('kind', kind, 'error', last_error)
             from buried where agency_id is not null
             returning *
           ),
           told as (
             insert into outbox_delivery (event_id, consumer, aggregate_type, aggregate_id, sequence, agency_id, tenant_id,
                                          next_attempt_at)
             select id, 'escalation', aggregate_type, aggregate_id, sequence, agency_id, tenant_id, occurred_at from event
           )
           select (select count(*) from retried) as "retried!", (select count(*) from buried) as "buried!""#,
        now,
        limit,
    )
    .fetch_one(connection)
    .await?;
    Ok((row.retried, row.buried))
}

/// A job that was given up.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The job's id.
    pub id: JobId,
    /// What kind of work.
    pub kind: String,
    /// How often it was tried.
    pub attempt: u32,
    /// Why it failed last.
    pub last_error: String,
    /// When it was given up.
    pub created_at: DateTime<Utc>,
    /// The agency it is for.
    pub agency: Option<AgencyId>,
    /// The client it is for.
    pub tenant: Option<Tenant>,
}

/// One dead letter, as far as the transaction may see it.
///
/// # Errors
/// Whatever the database says.
pub async fn find_dead_letter(
    connection: &mut PgConnection,
    id: JobId,
) -> Result<Option<DeadLetter>> {
    let row = sqlx::query!(
        "select id, kind, attempt, last_error, created_at, agency_id, tenant_id from job_dead_letter where id = $1",
        id.uuid()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| DeadLetter {
        id: JobId::from_uuid(row.id),
        kind: row.kind,
        attempt: count(row.attempt),
        last_error: row.last_error,
        created_at: row.created_at,
        agency: row.agency_id.map(AgencyId::from_uuid),
        tenant: tenant_of(row.agency_id, row.tenant_id),
    }))
}

/// Queues a dead letter again with all its attempts. False: there is none of that id, or its unique key is taken by a
/// newer job (the dead letter stays then). A worker's transaction: the caller has checked who may.
///
/// # Errors
/// Whatever the database says.
pub async fn replay_dead_letter(
    connection: &mut PgConnection,
    id: JobId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "with letter as (
           select * from job_dead_letter where id = $1 for update
         ),
         queued as (
           insert into job (id, kind, priority, run_at, payload, unique_key, agency_id, tenant_id, max_attempts,
                            last_error, traceparent)
           select id, kind, priority, $2, payload, unique_key, agency_id, tenant_id, max_attempts, last_error, traceparent
           from letter
           on conflict do nothing
           returning id
         )
         delete from job_dead_letter using queued where job_dead_letter.id = queued.id",
        id.uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
