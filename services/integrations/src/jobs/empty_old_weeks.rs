//! Lets go of webhooks past their retention. One job for the whole schema, which puts itself off by an hour each time.
//! Deliberately absent: the keys in `webhook_dedup`. They expire one by one, through the purge that every schema has.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority, enqueue};
use mainstay_types::WebhookEventId;

use crate::webhook;

/// The job's kind.
pub const KIND: &str = "empty_old_weeks";

/// How often.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon again while there are single rows to delete.
const SOON: Duration = Duration::from_secs(1);

/// Runs the job.
#[derive(Debug, Clone)]
pub struct EmptyOldWeeks {
    worker: Worker,
}

impl EmptyOldWeeks {
    /// Through `worker`.
    pub fn new(worker: Worker) -> Self {
        Self { worker }
    }
}

/// Sees to it that the job is queued; it is never done.
///
/// # Errors
/// Whatever the database says.
pub async fn ensure(worker: &Worker, now: DateTime<Utc>) -> mainstay_db::Result<()> {
    let mut connection = worker.connection().await?;
    let job = NewJob::new(KIND, &serde_json::json!({}), now)
        .unique("all")
        .priority(Priority::Idle);
    enqueue(connection.conn(), job).await?;
    Ok(())
}

#[tonic::async_trait]
impl Handler for EmptyOldWeeks {
    async fn run(&self, _: &Job) -> Result<(), JobError> {
        // A failure is over in an hour, and there are weeks of slack in the ring: never given up, never a dead letter.
        let pause = match webhook::empty_old_weeks(&self.worker, WebhookEventId::generate()).await {
            Ok(emptied) if emptied.rows > 0 => SOON,
            Ok(emptied) => {
                if emptied.weeks > 0 {
                    tracing::info!(
                        weeks = emptied.weeks,
                        "webhooks past their retention were let go"
                    );
                }
                EVERY
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "webhooks past their retention cannot be let go"
                );
                EVERY
            }
        };
        Err(JobError::Snooze(pause))
    }
}
