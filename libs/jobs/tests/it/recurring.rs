//! Jobs that are never done: there is always one, whoever starts and whatever becomes of it.

use std::time::Duration;

use chrono::TimeDelta;
use mainstay_jobs::runner::RunnerSettings;
use mainstay_jobs::{Priority, Recurring};
use tokio::sync::mpsc;

use crate::support::{Bench, Working};

/// Reports its turns, and does in them what it is told to.
struct Sweeping<F>(mpsc::UnboundedSender<()>, F);

#[tonic::async_trait]
impl<F: Fn() + Send + Sync + 'static> Recurring for Sweeping<F> {
    const KIND: &'static str = "sweep";
    const PRIORITY: Priority = Priority::Bulk;
    const FIRST_AFTER: Duration = Duration::from_secs(60);

    async fn turn(&self) -> Duration {
        let _ = self.0.send(());
        (self.1)();
        Duration::from_secs(600)
    }
}

fn settings() -> RunnerSettings {
    RunnerSettings {
        purge_interval: Duration::from_millis(10),
        ..Bench::settings()
    }
}

/// How many wait for their turn, for so many seconds from now.
async fn waits(bench: &Bench, seconds: i64) -> i64 {
    let then = bench.clock.now() + TimeDelta::seconds(seconds);
    let sql = format!(
        "select count(*) from billing.job where kind = 'sweep' and priority = 2 and run_at = '{}'",
        then.to_rfc3339()
    );
    bench.test.count(&sql).await
}

#[tokio::test]
async fn it_is_queued_once_by_whoever_starts_and_is_put_off_after_each_turn() {
    let bench = Bench::new().await;
    let (turns, mut turned) = mpsc::unbounded_channel();
    let runner = || {
        let job = Sweeping(turns.clone(), || {});
        bench.runner(settings()).recurs(job)
    };
    let working = [Working::start(runner()), Working::start(runner())];
    while waits(&bench, 60).await == 0 {}
    assert!(turned.try_recv().is_err(), "it is not due");
    for pause in [61, 601] {
        bench.hand.advance(TimeDelta::seconds(pause));
        turned.recv().await.expect("a turn");
        while waits(&bench, 600).await == 0 {}
    }
    // Somebody takes it away.
    bench.test.execute("delete from billing.job").await;
    while waits(&bench, 60).await == 0 {}
    for working in working {
        working.stop().await;
    }
    assert_eq!((bench.jobs().await, bench.leases().await), (1, 0));
    assert!(
        turned.try_recv().is_err(),
        "a turn for each time it was due"
    );
}

#[tokio::test]
async fn what_is_given_up_because_it_panics_is_told_and_comes_again() {
    let bench = Bench::new().await;
    let (turns, mut turned) = mpsc::unbounded_channel();
    let job = Sweeping(turns, || panic!("index out of bounds"));
    let working = Working::start(bench.runner(settings()).recurs(job));
    while waits(&bench, 60).await == 0 {}
    let tries = "update billing.job set max_attempts = 1";
    bench.test.execute(tries).await;
    bench.hand.advance(TimeDelta::seconds(61));
    turned.recv().await.expect("a turn");
    while bench.dead_letters().await == 0 {}
    while waits(&bench, 60).await == 0 {}
    bench.hand.advance(TimeDelta::seconds(61));
    turned.recv().await.expect("another turn");
    working.stop().await;
    assert_eq!((bench.jobs().await, bench.dead_letters().await), (1, 1));
}
