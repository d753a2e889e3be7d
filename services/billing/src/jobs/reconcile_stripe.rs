//! Walks runs of reconciliation, one page a job: the job that did a page ends in the transaction that says where the next
//! one starts, and queues it. A killed runner loses the page it was at, and whoever takes over does that page again.
//! Deliberately absent: what a page does; see `reconciliation::walk`.

use std::error::Error as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority, Recurring, enqueue, runner::Wake};
use mainstay_types::ReconciliationId;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::reconciliation::sql::{self, Left};
use crate::reconciliation::{Run, RunState, Tally, WalkError, Walker, start_for_all, walk};

/// The kind of the job that does a page.
pub const PAGE: &str = "reconcile_stripe_page";

/// How often all agencies are compared.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// When that could not be started.
const SOON: Duration = Duration::from_secs(600);
/// Tries of a page; with their pauses about a quarter of an hour.
const TRIES: u32 = 10;

#[derive(Serialize, Deserialize)]
struct Page {
    run: ReconciliationId,
}

/// Queues the page at which the run stands.
pub(crate) async fn enqueue_page(
    conn: &mut PgConnection,
    run: &Run,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let job = NewJob::new(PAGE, &Page { run: run.id }, now)
        .priority(Priority::Bulk)
        .max_attempts(TRIES);
    let job = match run.agency {
        Some(agency) => job.for_agency(agency),
        None => job,
    };
    enqueue(conn, job).await?;
    Ok(())
}

/// Does pages.
#[derive(Debug, Clone)]
pub struct ReconcilePage {
    walker: Walker,
    worker: Worker,
    wake: Wake,
}

impl ReconcilePage {
    /// With this walker; the runner is woken for the next page.
    pub fn new(walker: Walker, worker: Worker, wake: Wake) -> Self {
        Self {
            walker,
            worker,
            wake,
        }
    }

    /// Writes how the page leaves its run, in the transaction that ends its job.
    async fn leave(
        &self,
        job: &Job,
        run: &Run,
        tally: Tally,
        next: Result<Option<walk::Position>, String>,
    ) -> Result<(), JobError> {
        let now = self.walker.now();
        let position = next
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .map(walk::Position::to_json);
        let left = match (&next, &position) {
            (_, Some(position)) => Left::At(position),
            (Ok(_), None) => Left::Completed,
            (Err(error), None) => Left::Failed(error),
        };
        let mut tx = self.worker.tx().await?;
        job.complete_in(tx.conn()).await?;
        sql::advance(tx.conn(), run.id, tally, &left, now).await?;
        if position.is_some() {
            enqueue_page(tx.conn(), run, now).await?;
        }
        tx.commit().await?;
        self.wake.wake();
        Ok(())
    }
}

#[tonic::async_trait]
impl Handler for ReconcilePage {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let Page { run } = job.payload()?;
        let mut worker = self.worker.connection().await?;
        let run = sql::find(worker.conn(), run).await?;
        drop(worker);
        // Given up meanwhile, or past its retention.
        let Some(run) = run.filter(|run| run.state == RunState::Running) else {
            return Ok(());
        };
        match walk::step(&self.walker, &run).await {
            Ok((tally, next)) => {
                if next.is_none() {
                    tracing::info!(
                        reconciliation = %run.id,
                        dry_run = run.dry_run,
                        objects = run.objects_count + tally.objects,
                        foreign = run.foreign_count + tally.foreign,
                        "Stripe and our rows were compared"
                    );
                }
                self.leave(job, &run, tally, Ok(next)).await
            }
            Err(error) if job.is_last_attempt() => {
                tracing::error!(
                    reconciliation = %run.id,
                    error = &error as &dyn std::error::Error,
                    "a reconciliation failed: Stripe and our rows were not compared to the end"
                );
                self.leave(job, &run, Tally::default(), Err(words(&error)))
                    .await
            }
            Err(error) => Err(JobError::retry(error)),
        }
    }
}

/// For the operator who reads the run: what failed, and Stripe's words where there are some.
fn words(error: &WalkError) -> String {
    match (error, error.source()) {
        (WalkError::Stripe(_), Some(cause)) => format!("{error}: {cause}"),
        _ => error.to_string(),
    }
}

/// Starts a run of all agencies every day.
#[derive(Debug, Clone)]
pub struct ReconcileDaily {
    walker: Walker,
    worker: Worker,
    wake: Wake,
}

impl ReconcileDaily {
    /// With these.
    pub fn new(walker: Walker, worker: Worker, wake: Wake) -> Self {
        Self {
            walker,
            worker,
            wake,
        }
    }
}

#[tonic::async_trait]
impl Recurring for ReconcileDaily {
    const KIND: &'static str = "reconcile_stripe_daily";
    const PRIORITY: Priority = Priority::Bulk;
    const FIRST_AFTER: Duration = EVERY;

    async fn turn(&self) -> Duration {
        match start_for_all(&self.worker, self.walker.now()).await {
            Ok(Some(run)) => {
                tracing::info!(reconciliation = %run, "comparing Stripe and the rows of all agencies");
                self.wake.wake();
                EVERY
            }
            Ok(None) => {
                tracing::warn!("yesterday's reconciliation of all agencies is still under way");
                EVERY
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the reconciliation of all agencies cannot be started"
                );
                SOON
            }
        }
    }
}
