//! Asks providers what became of messages of which they have told nothing more. One job for the whole schema, which puts
//! itself off each time.
//! Deliberately absent: asking ([`crate::provider_event::reconciliation`]).

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority, enqueue};

use crate::Messaging;
use crate::provider_event::reconciliation;

/// The job's kind.
pub const KIND: &str = "reconcile_deliveries";

/// How often, at least.
const EVERY: Duration = Duration::from_secs(60);

/// Runs the job.
#[derive(Clone)]
pub struct ReconcileDeliveries(pub(crate) Messaging);

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
impl Handler for ReconcileDeliveries {
    async fn run(&self, _: &Job) -> Result<(), JobError> {
        match reconciliation::run(&self.0).await {
            Ok(0) => {}
            Ok(learned) => tracing::info!(
                learned,
                "providers were asked what became of messages, and knew"
            ),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "what became of messages cannot be asked"
            ),
        }
        Err(JobError::Snooze(self.0.pace.ask_after.min(EVERY)))
    }
}
