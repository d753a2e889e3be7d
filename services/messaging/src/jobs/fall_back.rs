//! Sends a message that has failed for certain on its other channel.
//! Deliberately absent: deciding that it has failed; see [`crate::sending`].

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob};
use mainstay_types::{MessageId, Tenant};
use serde::{Deserialize, Serialize};

use crate::{Messaging, fallback};

/// The job's kind.
pub const KIND: &str = "fall_back";

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The message.
    pub message_id: MessageId,
}

/// The job for a message.
pub fn job(tenant: Tenant, message: MessageId, now: DateTime<Utc>) -> NewJob {
    let payload = Payload {
        message_id: message,
    };
    NewJob::new(KIND, &payload, now).for_tenant(tenant)
}

/// Runs the job.
#[derive(Clone)]
pub struct FallBack(pub(crate) Messaging);

#[tonic::async_trait]
impl Handler for FallBack {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let tenant = job
            .tenant
            .ok_or_else(|| JobError::dead("the job is for no client"))?;
        fallback::take(&self.0, tenant, payload.message_id, job).await
    }
}
