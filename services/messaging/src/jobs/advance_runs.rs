//! Takes the steps of a client's automation runs that are due.
//! Deliberately absent: which runs. Whatever is due is taken, whoever asked for it.

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob};
use mainstay_types::Tenant;

use crate::Messaging;
use crate::automation::advance;

/// The job's kind.
pub const KIND: &str = "advance_runs";

/// The job for a client.
pub fn job(tenant: Tenant, now: DateTime<Utc>) -> NewJob {
    NewJob::new(KIND, &serde_json::json!({}), now).for_tenant(tenant)
}

/// Runs the job.
#[derive(Clone)]
pub struct AdvanceRuns(pub(crate) Messaging);

#[tonic::async_trait]
impl Handler for AdvanceRuns {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let tenant = job
            .tenant
            .ok_or_else(|| JobError::dead("the job is for no client"))?;
        advance::all(&self.0, tenant, job).await
    }
}
