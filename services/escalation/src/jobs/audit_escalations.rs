//! Has the auditor look, again and again. One job for the whole schema, which puts itself off each time.
//! Deliberately absent: looking ([`crate::escalation::audit`]).

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, NewJob, enqueue};

use crate::Escalating;
use crate::escalation::audit;

/// The job's kind.
pub const KIND: &str = "audit_escalations";

/// Runs the job.
pub struct AuditEscalations {
    pub(crate) escalating: Escalating,
    pub(crate) every: Duration,
}

/// Sees to it that the job is queued; it is never done.
///
/// # Errors
/// Whatever the database says.
pub async fn ensure(worker: &Worker, now: DateTime<Utc>) -> mainstay_db::Result<()> {
    let mut connection = worker.connection().await?;
    let job = NewJob::new(KIND, &serde_json::json!({}), now).unique("all");
    enqueue(connection.conn(), job).await?;
    Ok(())
}

#[tonic::async_trait]
impl Handler for AuditEscalations {
    async fn run(&self, _: &Job) -> Result<(), JobError> {
        match audit::run(&self.escalating).await {
            Ok(0) => {}
            Ok(found) => tracing::warn!(
                found,
                "escalations were found that nobody would have come back to"
            ),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "escalations cannot be audited"
            ),
        }
        Err(JobError::Snooze(self.every))
    }
}
