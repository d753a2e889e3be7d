//! Seals agencies' keys anew under the first master key, whenever that is another one than theirs. One job for the whole
//! schema, which puts itself off each time.
//! Deliberately absent: credentials. They stay as they are, since the key that opens them does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority, enqueue};
use mainstay_runtime::Clock;

use crate::vault::Vault;

/// The job's kind.
pub const KIND: &str = "rewrap_data_keys";

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);

/// Runs the job.
#[derive(Debug, Clone)]
pub struct RewrapDataKeys {
    worker: Worker,
    vault: Vault,
    clock: Clock,
}

impl RewrapDataKeys {
    /// Through `worker`.
    pub fn new(worker: Worker, vault: Vault, clock: Clock) -> Self {
        Self {
            worker,
            vault,
            clock,
        }
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
impl Handler for RewrapDataKeys {
    async fn run(&self, _: &Job) -> Result<(), JobError> {
        match self.vault.rewrap(&self.worker, self.clock.now()).await {
            Ok(0) => {}
            Ok(agencies) => tracing::info!(
                agencies,
                "agencies' keys were sealed anew under the first master key"
            ),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                alert = "data_keys_not_rewrapped",
                "agencies' keys cannot be sealed anew"
            ),
        }
        Err(JobError::Snooze(EVERY))
    }
}
