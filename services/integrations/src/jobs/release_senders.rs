//! Frees the senders of a client that has left, once they have been quiet for long enough.
//! Deliberately absent: what quiet is ([`crate::sender::parked`]).

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority};
use mainstay_types::Tenant;

use crate::Integrations;
use crate::sender::parked;

/// The job's kind.
pub const KIND: &str = "release_senders";

/// The job that looks at a client's senders then.
pub fn job(tenant: Tenant, at: DateTime<Utc>) -> NewJob {
    NewJob::new(KIND, &serde_json::json!({}), at)
        .for_tenant(tenant)
        .unique(tenant.client.to_string())
        .priority(Priority::Idle)
}

/// Runs the job.
pub struct ReleaseSenders(pub(crate) Integrations);

#[tonic::async_trait]
impl Handler for ReleaseSenders {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let tenant = job.tenant.ok_or_else(|| JobError::dead("no tenant"))?;
        match parked::release(&self.0, tenant).await? {
            None => Ok(()),
            Some(at) => {
                let pause = (at - self.0.clock.now()).to_std().unwrap_or_default();
                Err(JobError::Snooze(pause))
            }
        }
    }
}
