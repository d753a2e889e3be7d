//! An agency's jobs that were given up, and its queue in numbers: the queries behind `JobQueueService`.
//! Deliberately absent: rows of no agency. Machinery's own dead letters are counted by health and told in the log.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, JobId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::OfKind;

/// A job that was given up, as its agency sees it.
#[derive(Debug, Clone)]
pub struct Buried {
    /// The job.
    pub id: JobId,
    /// What kind of work.
    pub kind: String,
    /// The client it was for.
    pub client: Option<ClientId>,
    /// How often it was tried.
    pub attempt: i32,
    /// Why it failed last.
    pub last_error: String,
    /// The trace its tries belong to.
    pub traceparent: Option<String>,
    /// When it was queued first.
    pub enqueued_at: DateTime<Utc>,
    /// When it was given up.
    pub created_at: DateTime<Utc>,
}

/// An agency's dead letters given up before `before`, the last first.
pub(super) async fn list(
    connection: &mut PgConnection,
    agency: AgencyId,
    before: (DateTime<Utc>, Uuid),
    kind: Option<&str>,
    limit: i64,
) -> Result<Vec<Buried>> {
    Ok(sqlx::query_as!(
        Buried,
        r#"select id as "id: JobId", kind, tenant_id as "client: ClientId", attempt, last_error, traceparent, enqueued_at,
                  created_at
           from job_dead_letter
           where agency_id = $1 and (created_at, id) < ($2, $3) and ($4::text is null or kind = $4)
           order by created_at desc, id desc limit $5"#,
        agency.uuid(),
        before.0,
        before.1,
        kind,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// What became of a dead letter that was to be queued again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Requeued {
    /// It is queued.
    Now(String),
    /// Its job was queued before and has not ended.
    Before(String),
    /// Another job holds its unique key.
    Superseded(String),
    /// There is none.
    Unknown,
}

/// Queues an agency's dead letter again with all its tries, and tells escalation. In one transaction with its audit row.
pub(super) async fn requeue(
    connection: &mut PgConnection,
    agency: AgencyId,
    id: JobId,
    now: DateTime<Utc>,
) -> Result<Requeued> {
    let row = sqlx::query!(
        r#"with letter as (
             select * from job_dead_letter where id = $1 and agency_id = $2 for update
           ),
           queued as (
             insert into job (id, kind, priority, run_at, payload, unique_key, agency_id, tenant_id, max_attempts,
                              last_error, traceparent)
             select id, kind, priority, $3, payload, unique_key, agency_id, tenant_id, max_attempts, last_error, traceparent
             from letter
             on conflict do nothing
             returning id
           ),
           gone as (delete from job_dead_letter using queued where job_dead_letter.id = queued.id),
           event as (
             insert into outbox_event (id, type, schema_version, agency_id, tenant_id, aggregate_type, aggregate_id, sequence,
                                       occurred_at, actor, traceparent, payload)
             select gen_random_uuid(), current_schema() || '.job.requeued', 1, agency_id, tenant_id, 'job', letter.id::text,
                    nextval('job_fence'), $3, 'service:' || current_schema(), traceparent, jsonb_build_object('kind', kind)
             from letter join queued using (id)
             returning *
           ),
           told as (
             insert into outbox_delivery (event_id, consumer, aggregate_type, aggregate_id, sequence, agency_id, tenant_id,
                                          next_attempt_at)
             select id, 'escalation', aggregate_type, aggregate_id, sequence, agency_id, tenant_id, occurred_at from event
           )
           select kind, exists (select from queued) as "queued!" from letter"#,
        id.uuid(),
        agency.uuid(),
        now,
    )
    .fetch_optional(&mut *connection)
    .await?;
    match row {
        Some(row) if row.queued => return Ok(Requeued::Now(row.kind)),
        Some(row) => return Ok(Requeued::Superseded(row.kind)),
        None => {}
    }
    // Somebody else may have been first; their commit is seen by a statement of its own.
    let kind = sqlx::query_scalar!(
        "select kind from job where id = $1 and agency_id = $2",
        id.uuid(),
        agency.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(kind.map_or(Requeued::Unknown, Requeued::Before))
}

/// An agency's jobs by kind. Leases are machinery's: the worker's connection, with the agency in the statement.
pub(super) async fn summarize(
    connection: &mut PgConnection,
    agency: AgencyId,
    now: DateTime<Utc>,
    most: i64,
) -> Result<Vec<OfKind>> {
    Ok(sqlx::query_as!(
        OfKind,
        r#"with waiting as (
             select j.kind, j.run_at, j.attempt, l.job_id is not null as leased
             from job j left join job_lease l on l.job_id = j.id and l.leased_until > clock_timestamp()
             where j.agency_id = $1 limit $3
           ),
           live as (
             select kind, count(*) filter (where not leased and run_at <= $2) as ready,
                    count(*) filter (where leased) as running,
                    count(*) filter (where not leased and run_at > $2) as scheduled,
                    count(*) filter (where attempt > 0) as retrying,
                    min(run_at) filter (where not leased and run_at <= $2) as oldest_ready
             from waiting group by kind
           ),
           buried as (
             select kind, count(*) as dead
             from (select kind from job_dead_letter where agency_id = $1 limit $3) d group by kind
           )
           select kind as "kind!", coalesce(live.ready, 0) as "ready!", coalesce(live.running, 0) as "running!",
                  coalesce(live.scheduled, 0) as "scheduled!", coalesce(live.retrying, 0) as "retrying!",
                  coalesce(buried.dead, 0) as "dead!", live.oldest_ready
           from live full join buried using (kind) order by kind"#,
        agency.uuid(),
        now,
        most,
    )
    .fetch_all(connection)
    .await?)
}
