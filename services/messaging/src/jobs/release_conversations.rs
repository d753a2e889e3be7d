//! Lets go of what a member had who has left, with one client.
//! Deliberately absent: finding that they have left ([`crate::events`]).

use mainstay_jobs::{Handler, Job, JobError};
use mainstay_types::MemberId;
use serde::{Deserialize, Serialize};

use crate::{Messaging, conversation};

/// The job's kind.
pub const KIND: &str = "release_conversations";

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// Who has left.
    pub member: MemberId,
}

/// Runs the job.
#[derive(Clone)]
pub struct ReleaseConversations(pub(crate) Messaging);

#[tonic::async_trait]
impl Handler for ReleaseConversations {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let tenant = job
            .tenant
            .ok_or_else(|| JobError::dead("the job is for no client"))?;
        conversation::departed::release(&self.0, job, tenant, payload.member).await
    }
}
