//! Has the services looked at, again and again. One job for the whole schema, which puts itself off each time.
//! Deliberately absent: looking ([`crate::health_watch`]).

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, NewJob, enqueue};
use mainstay_types::AgencyId;

use crate::{Escalating, health_watch};

/// The job's kind.
pub const KIND: &str = "look_at_health";

/// Runs the job.
pub struct LookAtHealth {
    pub(crate) escalating: Escalating,
    pub(crate) operators: Option<AgencyId>,
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
impl Handler for LookAtHealth {
    async fn run(&self, _: &Job) -> Result<(), JobError> {
        // Without an agency there is nobody to tell: health and the log have it.
        if let Some(operators) = self.operators
            && let Err(error) = health_watch::run(&self.escalating, operators).await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what was seen of the services cannot be taken in"
            );
        }
        Err(JobError::Snooze(self.every))
    }
}
