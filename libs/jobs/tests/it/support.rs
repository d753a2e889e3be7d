//! Handlers that report what they do, and ways to look at the rows. Deliberately absent: assertions.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use mainstay_db::{Database, Worker};
use mainstay_jobs::{
    Enqueued, Handler, Job, JobError, NewJob, Runner, enqueue, runner::RunnerSettings,
};
use mainstay_runtime::{Clock, ClockHand, Shutdown};
use mainstay_testkit::TestDatabase;
use mainstay_types::{AgencyId, ClientId, JobId, ServiceName, Tenant};
use tokio::{sync::mpsc, task::JoinHandle};

pub(crate) fn noon() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

pub(crate) fn tenant() -> Tenant {
    Tenant {
        agency: AgencyId::generate(),
        client: ClientId::generate(),
    }
}

/// One test's schema with a clock that it holds.
pub(crate) struct Bench {
    pub(crate) test: TestDatabase,
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    pub(crate) hand: ClockHand,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let test = TestDatabase::new().await;
        let database = test.database("billing").await;
        let (clock, hand) = Clock::fixed(noon());
        Self {
            test,
            database,
            clock,
            hand,
        }
    }

    pub(crate) fn worker(&self) -> Worker {
        self.database.worker()
    }

    pub(crate) async fn enqueue(&self, job: NewJob) -> Enqueued {
        let mut tx = self.worker().tx().await.unwrap();
        let enqueued = enqueue(tx.conn(), job).await.unwrap();
        tx.commit().await.unwrap();
        enqueued
    }

    pub(crate) async fn enqueue_new(&self, kind: &str) -> JobId {
        match self.enqueue(NewJob::new(kind, &(), noon())).await {
            Enqueued::New(id) => id,
            Enqueued::AlreadyQueued => panic!("already queued"),
        }
    }

    pub(crate) async fn jobs(&self) -> i64 {
        self.test.count("select count(*) from billing.job").await
    }

    pub(crate) async fn leases(&self) -> i64 {
        self.test
            .count("select count(*) from billing.job_lease")
            .await
    }

    pub(crate) async fn dead_letters(&self) -> i64 {
        self.test
            .count("select count(*) from billing.job_dead_letter")
            .await
    }

    /// As if the leases had been taken long ago and never prolonged.
    pub(crate) async fn expire_leases(&self) {
        self.test
            .execute("update billing.job_lease set leased_until = now() - interval '1 second'")
            .await;
    }

    pub(crate) fn runner(&self, settings: RunnerSettings) -> Runner {
        Runner::new(
            ServiceName::Billing,
            self.worker(),
            self.clock.clone(),
            settings,
        )
    }

    /// Quick to look, patient with leases: expiry is made by the tests.
    pub(crate) fn settings() -> RunnerSettings {
        RunnerSettings {
            poll_interval: Duration::from_millis(10),
            lease: Duration::from_secs(300),
            ..RunnerSettings::default()
        }
    }
}

/// A runner at work, until [`Working::stop`].
pub(crate) struct Working {
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Working {
    pub(crate) fn start(runner: Runner) -> Self {
        let shutdown = Shutdown::new();
        let task = tokio::spawn(runner.run(shutdown.clone()));
        Self { shutdown, task }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }

    /// As kill -9 would: no hand-back, nothing written.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// What the handler was given and what it does about it.
type Script = dyn Fn(&Job) -> Result<(), JobError> + Send + Sync;

/// Reports each run, then does what the script says.
pub(crate) struct Reporting {
    reports: mpsc::UnboundedSender<Job>,
    script: Arc<Script>,
}

impl Reporting {
    pub(crate) fn new(
        script: impl Fn(&Job) -> Result<(), JobError> + Send + Sync + 'static,
    ) -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (reports, runs) = mpsc::unbounded_channel();
        (
            Self {
                reports,
                script: Arc::new(script),
            },
            runs,
        )
    }
}

#[tonic::async_trait]
impl Handler for Reporting {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let outcome = (self.script)(job);
        let _ = self.reports.send(job.clone());
        outcome
    }
}

/// Reports that it has started, and then never ends.
pub(crate) struct Hanging(pub(crate) mpsc::UnboundedSender<Dropped>);

/// Sends when the handler that holds it is dropped.
pub(crate) struct Dropped(pub(crate) tokio::sync::oneshot::Receiver<()>);

#[tonic::async_trait]
impl Handler for Hanging {
    async fn run(&self, _job: &Job) -> Result<(), JobError> {
        let (held, dropped) = tokio::sync::oneshot::channel();
        let _ = self.0.send(Dropped(dropped));
        std::future::pending::<()>().await;
        drop(held);
        Ok(())
    }
}

/// Counts runs by key.
#[derive(Clone, Default)]
pub(crate) struct Tally(
    pub(crate) Arc<Mutex<std::collections::HashMap<JobId, usize>>>,
    pub(crate) Arc<AtomicUsize>,
);

#[tonic::async_trait]
impl Handler for Tally {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        *self.0.lock().unwrap().entry(job.id).or_default() += 1;
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
