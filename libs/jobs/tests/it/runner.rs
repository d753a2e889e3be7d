//! No loss and no double completion: crashes, races, stale leases, failures, panics, stops.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use chrono::TimeDelta;
use mainstay_jobs::{
    Handler, Job, JobError, NewJob, backoff::Backoff, enqueue, runner::RunnerSettings,
};
use mainstay_testkit::in_time;
use mainstay_types::Tenant;
use tokio::sync::mpsc;

use crate::support::{Bench, Hanging, Reporting, Tally, Working, noon, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn two_runners_racing_for_two_thousand_jobs_run_each_once() {
    let bench = Bench::new().await;
    let mut tx = bench.worker().tx().await.unwrap();
    for n in 0..2000 {
        enqueue(tx.conn(), NewJob::new("count", &n, noon()))
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let tally = Tally::default();
    let racers: Vec<Working> = (0..2)
        .map(|_| {
            Working::start(
                bench
                    .runner(Bench::settings())
                    .register("count", tally.clone()),
            )
        })
        .collect();
    while tally.1.load(Ordering::Relaxed) < 2000 {
        tokio::task::yield_now().await;
    }
    for racer in racers {
        racer.stop().await;
    }
    let runs: HashMap<_, _> = tally.0.lock().unwrap().clone();
    assert_eq!(runs.len(), 2000);
    assert!(runs.values().all(|times| *times == 1));
    assert_eq!(
        (
            bench.jobs().await,
            bench.leases().await,
            bench.dead_letters().await
        ),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_job_whose_runner_was_killed_is_run_by_another() {
    let bench = Bench::new().await;
    let id = bench.enqueue_new("work").await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let killed = Working::start(
        bench
            .runner(Bench::settings())
            .register("work", Hanging(started)),
    );
    starts.recv().await.unwrap();
    killed.kill().await;
    assert_eq!(
        (bench.jobs().await, bench.leases().await),
        (1, 1),
        "claimed, and nobody works it"
    );

    let (handler, mut runs) = Reporting::new(|_| Ok(()));
    bench.expire_leases().await;
    // Rescues every 100 ms.
    let settings = RunnerSettings {
        lease: Duration::from_millis(300),
        ..Bench::settings()
    };
    let working = Working::start(bench.runner(settings).register("work", handler));
    let job = runs.recv().await.unwrap();
    working.stop().await;
    assert_eq!(
        (job.id, job.attempt),
        (id, 2),
        "a lost runner counts as an attempt"
    );
    assert_eq!((bench.jobs().await, bench.leases().await), (0, 0));
}

#[tokio::test]
async fn a_job_that_kills_its_runner_each_time_ends_among_the_dead_letters() {
    let bench = Bench::new().await;
    bench
        .enqueue(NewJob::new("poison", &(), noon()).max_attempts(1))
        .await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let killed = Working::start(
        bench
            .runner(Bench::settings())
            .register("poison", Hanging(started)),
    );
    starts.recv().await.unwrap();
    killed.kill().await;
    bench.expire_leases().await;
    let (handler, mut runs) = Reporting::new(|_| Ok(()));
    let settings = RunnerSettings {
        lease: Duration::from_millis(300),
        ..Bench::settings()
    };
    let working = Working::start(bench.runner(settings).register("probe", handler));
    while bench.dead_letters().await == 0 {
        bench.enqueue_new("probe").await;
        runs.recv().await.unwrap();
    }
    working.stop().await;
    let why = "select count(*) from billing.job_dead_letter where last_error like '%runner was lost%' and attempt = 1";
    assert_eq!(bench.test.count(why).await, 1);
}

/// Waits for a go, then completes in a transaction of its own, and reports how that went.
struct CompletesLate {
    started: mpsc::UnboundedSender<Job>,
    go: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    outcome: mpsc::UnboundedSender<Result<(), JobError>>,
    worker: mainstay_db::Worker,
    tenant: Tenant,
}

#[tonic::async_trait]
impl Handler for CompletesLate {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let _ = self.started.send(job.clone());
        let _ = self.go.lock().await.recv().await;
        let mut tx = self.worker.tenant(self.tenant).await?;
        let completed = job.complete_in(tx.conn()).await;
        if completed.is_ok() {
            tx.commit().await?;
        }
        let _ = self.outcome.send(completed);
        Ok(())
    }
}

#[tokio::test]
async fn a_runner_that_was_thought_dead_cannot_complete() {
    let bench = Bench::new().await;
    let t = tenant();
    bench
        .enqueue(NewJob::new("work", &(), noon()).for_tenant(t))
        .await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let (go, going) = mpsc::unbounded_channel();
    let (outcome, mut outcomes) = mpsc::unbounded_channel();
    let slow = CompletesLate {
        started,
        go: going.into(),
        outcome,
        worker: bench.worker(),
        tenant: t,
    };
    // One slot: while it is at this job it cannot claim it a second time.
    let one_slot = RunnerSettings {
        concurrency: 1,
        ..Bench::settings()
    };
    let first = Working::start(bench.runner(one_slot).register("work", slow));
    let stale = starts.recv().await.unwrap();

    // Its lease runs out (it was stopped for long), another takes the job and is still at it.
    bench.expire_leases().await;
    let (hanging, mut second_starts) = mpsc::unbounded_channel();
    let settings = RunnerSettings {
        lease: Duration::from_secs(3),
        grace: Duration::ZERO,
        ..Bench::settings()
    };
    let second = Working::start(bench.runner(settings).register("work", Hanging(hanging)));
    second_starts.recv().await.unwrap();
    let fence = "select max(fence) from billing.job_lease";
    assert!(bench.test.count(fence).await > stale.fence, "fences rise");

    go.send(()).unwrap();
    let refused = outcomes.recv().await.unwrap();
    assert!(matches!(refused, Err(JobError::LeaseLost)), "{refused:?}");
    first.stop().await;
    assert_eq!(
        (bench.jobs().await, bench.leases().await),
        (1, 1),
        "the second still has it"
    );
    second.stop().await;
    assert_eq!(
        (bench.jobs().await, bench.leases().await),
        (1, 0),
        "and hands it back"
    );
}

#[tokio::test]
async fn a_handler_may_complete_its_job_with_its_effect() {
    let bench = Bench::new().await;
    let t = tenant();
    bench
        .enqueue(NewJob::new("work", &(), noon()).for_tenant(t))
        .await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let (go, going) = mpsc::unbounded_channel();
    let (outcome, mut outcomes) = mpsc::unbounded_channel();
    let handler = CompletesLate {
        started,
        go: going.into(),
        outcome,
        worker: bench.worker(),
        tenant: t,
    };
    let working = Working::start(bench.runner(Bench::settings()).register("work", handler));
    assert_eq!(starts.recv().await.unwrap().tenant, Some(t));
    go.send(()).unwrap();
    outcomes.recv().await.unwrap().unwrap();
    working.stop().await;
    assert_eq!(
        (
            bench.jobs().await,
            bench.leases().await,
            bench.dead_letters().await
        ),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_runner_whose_lease_was_taken_stops_working() {
    let bench = Bench::new().await;
    bench.enqueue_new("work").await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let settings = RunnerSettings {
        lease: Duration::from_millis(300),
        grace: Duration::ZERO,
        ..Bench::settings()
    };
    let working = Working::start(bench.runner(settings).register("work", Hanging(started)));
    let run = starts.recv().await.unwrap();
    bench
        .test
        .execute("update billing.job_lease set fence = fence + 1000")
        .await;
    // The next heartbeat finds out; the handler is dropped.
    assert!(in_time("it is dropped", run.0).await.is_err());
    working.stop().await;
}

#[tokio::test]
async fn a_runner_that_claims_a_job_again_stops_what_it_had_begun() {
    let bench = Bench::new().await;
    bench.enqueue_new("work").await;
    let (started, mut starts) = mpsc::unbounded_channel();
    // Its heartbeat comes too late to see that the lease is gone.
    let runner = bench.runner(Bench::settings());
    let working = Working::start(runner.register("work", Hanging(started)));
    let first = starts.recv().await.unwrap();
    bench.expire_leases().await;
    let settings = RunnerSettings {
        lease: Duration::from_millis(300),
        ..Bench::settings()
    };
    let rescuer = Working::start(bench.runner(settings));
    starts.recv().await.unwrap();
    rescuer.stop().await;
    assert!(in_time("the first is dropped", first.0).await.is_err());
    working.kill().await;
}

#[tokio::test]
async fn a_failing_job_is_tried_again_later_and_buried_after_its_last_attempt() {
    let bench = Bench::new().await;
    let id = match bench
        .enqueue(NewJob::new("flaky", &(), noon()).max_attempts(3))
        .await
    {
        mainstay_jobs::Enqueued::New(id) => id,
        mainstay_jobs::Enqueued::AlreadyQueued => panic!("queued"),
    };
    let (handler, mut runs) = Reporting::new(|_| Err(JobError::retry("connection refused")));
    let pause = Backoff {
        base: Duration::from_secs(60),
        cap: Duration::from_secs(600),
    };
    let runner = bench
        .runner(Bench::settings())
        .register("flaky", handler)
        .backoff(pause);
    let working = Working::start(runner);
    for attempt in 1..=3 {
        let job = runs.recv().await.unwrap();
        assert_eq!((job.id, job.attempt), (id, attempt));
        assert_eq!(job.is_last_attempt(), attempt == 3);
        // The outcome is written when the lease is gone.
        while bench.leases().await > 0 {}
        if attempt < 3 {
            let waits = format!(
                "select count(*) from billing.job where run_at > '{}' and last_error = 'connection refused'",
                (bench.clock.now() + TimeDelta::seconds(29)).to_rfc3339()
            );
            assert_eq!(
                bench.test.count(&waits).await,
                1,
                "at least half of the pause"
            );
            bench.hand.advance(TimeDelta::seconds(601));
        }
    }
    working.stop().await;
    assert_eq!((bench.jobs().await, bench.dead_letters().await), (0, 1));
    assert!(runs.recv().await.is_none());
}

#[tokio::test]
async fn a_panic_is_a_failure_like_any_other() {
    let bench = Bench::new().await;
    bench
        .enqueue(NewJob::new("panics", &(), noon()).max_attempts(1))
        .await;
    let (handler, mut runs) = Reporting::new(|job| match job.kind.as_str() {
        "panics" => panic!("index out of bounds"),
        _ => Ok(()),
    });
    let (other, mut other_runs) = Reporting::new(|_| Ok(()));
    let runner = bench
        .runner(Bench::settings())
        .register("panics", handler)
        .register("fine", other);
    let working = Working::start(runner);
    while bench.dead_letters().await == 0 {}
    bench.enqueue_new("fine").await;
    other_runs.recv().await.unwrap();
    working.stop().await;
    assert!(runs.recv().await.is_none());
    assert_eq!((bench.jobs().await, bench.leases().await), (0, 0));
}

#[tokio::test]
async fn a_job_that_is_not_yet_due_comes_again_without_losing_an_attempt() {
    let bench = Bench::new().await;
    bench.enqueue_new("early").await;
    let (handler, mut runs) = Reporting::new(|job| {
        if job.fence > 1 {
            Ok(())
        } else {
            Err(JobError::Snooze(Duration::from_secs(60)))
        }
    });
    let working = Working::start(bench.runner(Bench::settings()).register("early", handler));
    assert_eq!(runs.recv().await.unwrap().attempt, 1);
    while bench.leases().await > 0 {}
    bench.hand.advance(TimeDelta::seconds(61));
    assert_eq!(runs.recv().await.unwrap().attempt, 1);
    working.stop().await;
    assert_eq!(bench.jobs().await, 0);
}

#[tokio::test]
async fn a_stop_finishes_what_it_can_and_hands_back_the_rest() {
    let bench = Bench::new().await;
    bench.enqueue_new("stuck").await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let settings = RunnerSettings {
        grace: Duration::from_millis(50),
        ..Bench::settings()
    };
    let working = Working::start(bench.runner(settings).register("stuck", Hanging(started)));
    let run = starts.recv().await.unwrap();
    working.stop().await;
    assert!(run.0.await.is_err(), "the handler is dropped");
    let waiting = "select count(*) from billing.job where attempt = 0";
    assert_eq!(
        (bench.test.count(waiting).await, bench.leases().await),
        (1, 0)
    );
}

#[tokio::test]
async fn kinds_without_a_handler_are_left_for_a_runner_that_knows_them() {
    let bench = Bench::new().await;
    bench.enqueue_new("new_in_next_release").await;
    let id = bench.enqueue_new("known").await;
    let (handler, mut runs) = Reporting::new(|_| Ok(()));
    let working = Working::start(bench.runner(Bench::settings()).register("known", handler));
    assert_eq!(runs.recv().await.unwrap().id, id);
    working.stop().await;
    assert_eq!(
        bench
            .test
            .count("select count(*) from billing.job where kind = 'new_in_next_release'")
            .await,
        1
    );
}

#[tokio::test]
async fn a_server_that_was_away_for_a_moment_stops_no_runner() {
    let bench = Bench::new().await;
    let (handler, mut runs) = Reporting::new(|_| Ok(()));
    let working = Working::start(bench.runner(Bench::settings()).register("work", handler));
    bench.enqueue_new("work").await;
    runs.recv().await.unwrap();
    bench.test.cut_connections().await;
    // Through the superuser: the pool of this test was cut as well.
    bench
        .test
        .execute("insert into billing.job (id, kind, run_at, payload, max_attempts) values (gen_random_uuid(), 'work', '2026-01-01', 'null', 3)")
        .await;
    runs.recv().await.unwrap();
    working.stop().await;
}
