//! Claims due jobs of a service and works them: bounded, with leases that are kept alive, taken back when their runner
//! died and handed back when it stops. Polling is the truth; [`Wake`] only shortens the wait.
//! Deliberately absent: what any job does.

mod work;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use mainstay_db::{Error, Worker};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_types::{JobId, ServiceName};
use tokio::{
    sync::{Notify, Semaphore},
    task::AbortHandle,
};
use uuid::Uuid;

use crate::{
    backoff::Backoff,
    queue::{Claim, Job, JobError, Jobs, Queue},
    recurring::{Recurring, Standing, Turns, queue_missing},
    retention,
};

/// Does one kind of job. It may run more than once: make its effect idempotent, or complete it in the transaction of its
/// effect ([`Job::complete_in`]).
#[tonic::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Works the job. Dropped at any await when the lease is lost or the deadline passes.
    async fn run(&self, job: &Job) -> Result<(), JobError>;
}

/// Tells the runner that a job may be due. Call it after the commit; not calling it costs at most the poll interval.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    pub(crate) fn of(notify: Arc<Notify>) -> Self {
        Self(notify)
    }

    /// There may be work.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Limits of a runner.
#[derive(Debug, Clone, Copy)]
pub struct RunnerSettings {
    /// Jobs at a time.
    pub concurrency: usize,
    /// How often it looks when nothing wakes it.
    pub poll_interval: Duration,
    /// How long a claim holds without a heartbeat: how late the jobs of a killed runner are taken up.
    pub lease: Duration,
    /// The longest a job may run.
    pub deadline: Duration,
    /// How long a stop waits for running jobs before it hands them back.
    pub grace: Duration,
    /// How often what has expired is deleted, and what is never done is looked for.
    pub purge_interval: Duration,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            concurrency: 8,
            poll_interval: Duration::from_millis(500),
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(600),
            grace: Duration::from_secs(20),
            purge_interval: Duration::from_secs(60),
        }
    }
}

/// Works one queue of one schema: `job`, if not told otherwise.
pub struct Runner {
    shared: Arc<Shared>,
    handlers: HashMap<String, Arc<dyn Handler>>,
    standing: Vec<Standing>,
}

/// What the loop, the jobs and the heartbeat share.
struct Shared {
    id: Uuid,
    service: ServiceName,
    queue: Arc<dyn Queue>,
    /// Whether it deletes what has expired: one runner of a schema is enough.
    purges: bool,
    worker: Worker,
    clock: Clock,
    settings: RunnerSettings,
    backoff: Backoff,
    wake: Arc<Notify>,
    slots: Arc<Semaphore>,
    running: Mutex<HashMap<JobId, Running>>,
}

struct Running {
    fence: i64,
    abort: AbortHandle,
}

impl Runner {
    /// A runner without handlers.
    pub fn new(
        service: ServiceName,
        worker: Worker,
        clock: Clock,
        settings: RunnerSettings,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                id: Uuid::now_v7(),
                service,
                queue: Arc::new(Jobs),
                purges: true,
                worker,
                clock,
                backoff: Backoff::JOBS,
                wake: Arc::new(Notify::new()),
                slots: Arc::new(Semaphore::new(settings.concurrency)),
                running: Mutex::default(),
                settings,
            }),
            handlers: HashMap::new(),
            standing: Vec::new(),
        }
    }

    /// Takes on a kind of job. Kinds without a handler are left for runners that know them.
    pub fn register(mut self, kind: &str, handler: impl Handler) -> Self {
        self.handlers.insert(kind.to_owned(), Arc::new(handler));
        self
    }

    /// Takes on a job that is never done, and sees to it that it is queued.
    pub fn recurs<R: Recurring>(mut self, job: R) -> Self {
        self.standing.push(Standing::of::<R>());
        self.register(R::KIND, Turns(job))
    }

    /// Works this queue instead of `job`, and leaves what has expired to the runner of that.
    ///
    /// # Panics
    /// When the runner already runs: a mistake of the program.
    pub fn of(mut self, queue: Arc<dyn Queue>) -> Self {
        let shared = Arc::get_mut(&mut self.shared).expect("a runner is set up before it runs");
        (shared.queue, shared.purges) = (queue, false);
        self
    }

    /// Other pauses between attempts.
    ///
    /// # Panics
    /// When the runner already runs: a mistake of the program.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        Arc::get_mut(&mut self.shared)
            .expect("a runner is set up before it runs")
            .backoff = backoff;
        self
    }

    /// For those who enqueue.
    pub fn wake(&self) -> Wake {
        Wake(Arc::clone(&self.shared.wake))
    }

    /// Works until the stop, then waits for what runs, and hands back what is left.
    pub async fn run(self, shutdown: Shutdown) {
        let shared = Arc::clone(&self.shared);
        let heartbeat = tokio::spawn(heartbeats(Arc::clone(&shared)));
        let maintenance = tokio::spawn(maintain(Arc::clone(&shared), self.standing.clone()));
        self.claim_until(&shutdown).await;
        maintenance.abort();
        shared.drain().await;
        heartbeat.abort();
        shared.hand_back().await;
    }

    async fn claim_until(&self, shutdown: &Shutdown) {
        let shared = &self.shared;
        let kinds: Vec<String> = self.handlers.keys().cloned().collect();
        let mut failures = 0;
        while !shutdown.is_triggered() {
            // A slot must be free before anything is claimed: no job waits here under a lease.
            let slot = tokio::select! {
                () = shutdown.triggered() => return,
                slot = Arc::clone(&shared.slots).acquire_owned() => slot,
            };
            drop(slot);
            let free = shared.slots.available_permits().max(1);
            match shared.claim(&kinds, free).await {
                Ok(jobs) => {
                    failures = 0;
                    let full = jobs.len() >= free;
                    for job in jobs {
                        if let Some(handler) = self.handlers.get(&job.kind) {
                            Shared::start(shared, Arc::clone(handler), job).await;
                        }
                    }
                    if full {
                        continue;
                    }
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(service = %shared.service, error = &error as &dyn std::error::Error, failures, "jobs cannot be claimed");
                }
            }
            let pause = if failures == 0 {
                shared.settings.poll_interval
            } else {
                Backoff::EVENTS.jittered(failures)
            };
            tokio::select! {
                () = shutdown.triggered() => {}
                () = shared.wake.notified(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Shared {
    async fn claim(&self, kinds: &[String], limit: usize) -> Result<Vec<Job>, Error> {
        let mut tx = self.worker.claim().await?;
        let claim = Claim {
            kinds,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            now: self.clock.now(),
            runner: self.id,
            lease_ms: millis(self.settings.lease),
        };
        let jobs = self.queue.claim(tx.conn(), claim).await?;
        tx.commit().await?;
        Ok(jobs)
    }

    /// Waits for running jobs, at most the grace.
    async fn drain(&self) {
        let all = u32::try_from(self.settings.concurrency).unwrap_or(u32::MAX);
        let idle = self.slots.acquire_many(all);
        if tokio::time::timeout(self.settings.grace, idle)
            .await
            .is_err()
        {
            let running = self.running.lock().map(|r| r.len()).unwrap_or_default();
            tracing::warn!(service = %self.service, running, "stopping before these jobs are done: they are handed back");
        }
    }

    async fn hand_back(&self) {
        if let Ok(mut running) = self.running.lock() {
            for (_, job) in running.drain() {
                job.abort.abort();
            }
        }
        let handed_back = async {
            let mut connection = self.worker.connection().await?;
            self.queue.hand_back(connection.conn(), self.id).await
        };
        match handed_back.await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(service = %self.service, jobs, "handed back"),
            // They are taken back when their leases run out.
            Err(error) => {
                tracing::warn!(service = %self.service, error = &error as &dyn std::error::Error, "jobs cannot be handed back");
            }
        }
    }
}

/// Keeps the leases of running jobs alive, and stops those whose lease is gone.
async fn heartbeats(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(shared.settings.lease / 3);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let (jobs, fences): (Vec<Uuid>, Vec<i64>) = match shared.running.lock() {
            Ok(running) => running
                .iter()
                .map(|(id, job)| (id.uuid(), job.fence))
                .unzip(),
            Err(_) => return,
        };
        if jobs.is_empty() {
            continue;
        }
        let kept = async {
            let mut connection = shared.worker.connection().await?;
            let lease = millis(shared.settings.lease);
            let queue = &shared.queue;
            queue
                .heartbeat(connection.conn(), &jobs, &fences, lease)
                .await
        };
        match kept.await {
            Ok(kept) => {
                for (id, fence) in jobs
                    .iter()
                    .zip(&fences)
                    .filter(|(id, _)| !kept.contains(id))
                {
                    shared.stop_lost(JobId::from_uuid(*id), *fence);
                }
            }
            // The next beat comes well before the lease ends.
            Err(error) => {
                tracing::warn!(service = %shared.service, error = &error as &dyn std::error::Error, "leases cannot be prolonged");
            }
        }
    }
}

impl Shared {
    /// The lease is gone although the job still runs here: either it has just ended, or another has it.
    fn stop_lost(&self, id: JobId, fence: i64) {
        let Ok(mut running) = self.running.lock() else {
            return;
        };
        if running.get(&id).is_some_and(|job| job.fence == fence)
            && let Some(job) = running.remove(&id)
        {
            job.abort.abort();
        }
    }
}

/// Takes back expired leases, deletes what has expired, and queues what is never done. Every runner does; the rows decide who
/// does what.
async fn maintain(shared: Arc<Shared>, standing: Vec<Standing>) {
    let mut rescue = tokio::time::interval(shared.settings.lease / 3);
    rescue.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut purge = tokio::time::interval(shared.settings.purge_interval);
    purge.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stands = tokio::time::interval(shared.settings.purge_interval);
    stands.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let done: Result<(), Error> = tokio::select! {
            _ = rescue.tick() => shared.rescue().await,
            _ = stands.tick(), if !standing.is_empty() => {
                let queued = shared.queue_missing(&standing).await;
                if queued.is_err() {
                    stands.reset_after(shared.settings.lease / 3);
                }
                queued
            }
            _ = purge.tick(), if shared.purges => retention::purge(&shared.worker).await.map(|rows| {
                if rows > 0 {
                    tracing::debug!(service = %shared.service, rows, "deleted what had expired");
                }
            }),
        };
        if let Err(error) = done {
            tracing::warn!(service = %shared.service, error = &error as &dyn std::error::Error, "maintenance of the queue failed");
        }
    }
}

impl Shared {
    async fn queue_missing(&self, standing: &[Standing]) -> Result<(), Error> {
        if queue_missing(&self.worker, standing, self.clock.now()).await? {
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn rescue(&self) -> Result<(), Error> {
        let mut connection = self.worker.connection().await?;
        let now = self.clock.now();
        let (retried, buried) = self.queue.rescue(connection.conn(), now, 100).await?;
        if retried > 0 {
            tracing::warn!(service = %self.service, retried, "took back jobs of a runner that was lost");
            self.wake.notify_one();
        }
        if buried > 0 {
            tracing::error!(service = %self.service, buried, "jobs lost their runner at every attempt: see the dead letters");
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
