//! Tidies up behind a client that has left.
//! Deliberately absent: closing it. That is one write, which others wait for ([`crate::closing`]).

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob};
use mainstay_types::Tenant;

use crate::{Messaging, closing};

/// The job's kind.
pub const KIND: &str = "close_client";

/// The job for a client.
pub fn job(tenant: Tenant, now: DateTime<Utc>) -> NewJob {
    NewJob::new(KIND, &serde_json::json!({}), now)
        .for_tenant(tenant)
        .unique(tenant.client.to_string())
}

/// Runs the job.
#[derive(Clone)]
pub struct CloseClient(pub(crate) Messaging);

#[tonic::async_trait]
impl Handler for CloseClient {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let tenant = job
            .tenant
            .ok_or_else(|| JobError::dead("the job is for no client"))?;
        closing::tidy(&self.0, job, tenant).await
    }
}
