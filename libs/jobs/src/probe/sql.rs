//! What waits in `job`, `outbox_delivery` and `audit_outbox`, in one round trip.
//! Deliberately absent: whole tables. Each part reads an index and stops at the most that is shown.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_runtime::health::{Queue, Severity};
use sqlx::PgConnection;

use super::{LATE, MOST, age, counted};

pub(super) async fn queues(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<Vec<Queue>> {
    // Leases and what is due in the outbox live on the database's time, jobs on the Clock's.
    let row = sqlx::query!(
        r#"select jobs.ready as "jobs_ready!", jobs.oldest as jobs_oldest,
                  (select count(*) from (select from job_lease where leased_until > clock_timestamp() limit $2) l)
                    as "jobs_running!",
                  (select count(*) from (select from job_dead_letter limit $2) d) as "jobs_dead!",
                  events.ready as "events_ready!", events.running as "events_running!", events.oldest as events_oldest,
                  (select count(*) from (select from outbox_delivery where state = 'parked' limit $2) p)
                    as "events_dead!",
                  audit.ready as "audit_ready!", audit.running as "audit_running!", audit.oldest as audit_oldest,
                  now() as "database_now!"
           from (select count(*) as ready, min(due.run_at) as oldest
                 from (values (0::smallint), (1::smallint), (2::smallint), (3::smallint)) p (priority)
                 cross join lateral (
                   select j.run_at from job j
                   where j.priority = p.priority and j.run_at <= $1
                     and not exists (select from job_lease l
                                     where l.job_id = j.id and l.leased_until > clock_timestamp())
                   order by j.run_at, j.id limit $2) due) jobs,
                (select count(*) filter (where free) as ready, count(*) filter (where not free) as running,
                        min(created_at) filter (where free) as oldest
                 from (select coalesce(leased_until <= clock_timestamp(), true) as free, created_at
                       from outbox_delivery where state = 'pending' limit $2) d) events,
                (select count(*) filter (where free) as ready, count(*) filter (where not free) as running,
                        min(created_at) filter (where free) as oldest
                 from (select coalesce(leased_until <= clock_timestamp(), true) as free, created_at
                       from audit_outbox order by id limit $2) a) audit"#,
        now,
        MOST,
    )
    .fetch_one(connection)
    .await?;
    let queue = |name, ready, oldest_ready, running, dead| Queue {
        name,
        ready: counted(ready),
        oldest_ready,
        running: counted(running),
        dead: counted(dead),
        late_after: LATE,
        dead_is: Severity::Warning,
    };
    let on_database_time = |due| age(row.database_now, due);
    Ok(vec![
        queue(
            "jobs",
            row.jobs_ready,
            age(now, row.jobs_oldest),
            row.jobs_running,
            row.jobs_dead,
        ),
        queue(
            "events",
            row.events_ready,
            on_database_time(row.events_oldest),
            row.events_running,
            row.events_dead,
        ),
        queue(
            "audit",
            row.audit_ready,
            on_database_time(row.audit_oldest),
            row.audit_running,
            0,
        ),
    ])
}
