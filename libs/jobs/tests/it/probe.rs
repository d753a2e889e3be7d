//! What health tells of the database and of what waits in it.

use chrono::TimeDelta;
use mainstay_jobs::{DatabaseProbe, NewJob, QueueProbe};
use mainstay_runtime::health::{Finding, Probe, Queue, Status, alerts_of};

use crate::support::{Bench, noon};

async fn queues(bench: &Bench) -> Vec<Queue> {
    let probe = QueueProbe::new(&bench.database, &bench.clock);
    let found = probe
        .probe()
        .await
        .into_iter()
        .map(|finding| match finding {
            Finding::Queue(queue) => queue,
            other => panic!("{other:?}"),
        });
    found.collect()
}

#[tokio::test]
async fn the_queue_is_counted_by_what_is_due_in_hand_and_given_up() {
    let bench = Bench::new().await;
    let empty = queues(&bench).await;
    let names: Vec<&str> = empty.iter().map(|queue| queue.name).collect();
    assert_eq!(names, ["jobs", "events", "audit"]);
    assert!(empty.iter().all(|queue| {
        (queue.ready, queue.oldest_ready, queue.running, queue.dead) == (0, None, 0, 0)
    }));

    bench.enqueue_new("first").await;
    let claimed = bench.enqueue_new("claimed").await;
    bench
        .enqueue(NewJob::new("later", &(), noon() + TimeDelta::hours(1)))
        .await;
    bench
        .test
        .execute(&format!(
            "insert into billing.job_lease (job_id, fence, runner, leased_until)
             values ('{}', 1, gen_random_uuid(), now() + interval '1 minute')",
            claimed.uuid()
        ))
        .await;
    bench
        .test
        .execute(
            "insert into billing.job_dead_letter
               (id, kind, priority, payload, attempt, max_attempts, last_error, enqueued_at)
             values (gen_random_uuid(), 'hopeless', 1, '{}', 9, 9, 'no such account', now())",
        )
        .await;
    bench.hand.advance(TimeDelta::minutes(3));
    let jobs = queues(&bench).await.remove(0);
    assert_eq!((jobs.ready, jobs.running, jobs.dead), (1, 1, 1));
    assert_eq!(jobs.oldest_ready.map(|age| age.as_secs()), Some(180));
    let codes: Vec<String> = alerts_of(&Finding::Queue(jobs))
        .into_iter()
        .map(|alert| alert.code)
        .collect();
    assert_eq!(codes, ["jobs_dead", "jobs_late"]);

    // Whoever held it is gone: it is due again.
    bench.expire_leases().await;
    let jobs = queues(&bench).await.remove(0);
    assert_eq!((jobs.ready, jobs.running), (2, 0));
}

#[tokio::test]
async fn a_database_that_answers_is_healthy_and_tells_how_full_its_pools_are() {
    let bench = Bench::new().await;
    let found = DatabaseProbe::new(&bench.database).probe().await;
    let [Finding::Database(database)] = found.as_slice() else {
        panic!("{found:?}");
    };
    // How fast it was is the machine's affair.
    assert_ne!(database.status, Status::Unhealthy);
    let roles: Vec<&str> = database.pools.iter().map(|pool| pool.role).collect();
    assert_eq!(roles, ["app", "worker"]);
    assert!(database.pools.iter().all(|pool| pool.open <= pool.limit));
}

#[tokio::test]
async fn a_database_that_is_gone_is_told_and_not_waited_for() {
    let bench = Bench::new().await;
    bench.database.close().await;
    let found = DatabaseProbe::new(&bench.database).probe().await;
    assert!(
        matches!(&found[..], [Finding::Database(database)] if database.status == Status::Unhealthy),
        "{found:?}"
    );
    let found = QueueProbe::new(&bench.database, &bench.clock).probe().await;
    assert!(
        matches!(&found[..], [Finding::Alert(alert)] if alert.code == "probe_failed"),
        "{found:?}"
    );
}
