//! Has a model answer the burst that a run waits with.
//! Deliberately absent: the answer; see [`crate::answer`].

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority};
use mainstay_types::{AutomationRunId, Tenant};
use serde::{Deserialize, Serialize};

use crate::{Messaging, answer};

/// The job's kind.
pub const KIND: &str = "answer_run";

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The run.
    pub run_id: AutomationRunId,
}

/// The job for a run.
pub fn job(tenant: Tenant, run: AutomationRunId, now: DateTime<Utc>) -> NewJob {
    NewJob::new(KIND, &Payload { run_id: run }, now)
        .for_tenant(tenant)
        // Somebody waits for it.
        .priority(Priority::Urgent)
}

/// Runs the job.
#[derive(Clone)]
pub struct AnswerRun(pub(crate) Messaging);

#[tonic::async_trait]
impl Handler for AnswerRun {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let tenant = job
            .tenant
            .ok_or_else(|| JobError::dead("the job is for no client"))?;
        answer::run(&self.0, tenant, payload.run_id, job).await
    }
}
