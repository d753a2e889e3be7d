//! Lets go of an escalation whose owner has left (ESC-08).
//! Deliberately absent: finding it. Whoever hears that a member has left queues one job for each.

use mainstay_jobs::{Handler, Job, JobError};
use mainstay_types::{EscalationId, MemberId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Escalating;
use crate::escalation::act;

/// The job's kind.
pub const KIND: &str = "release_departed";

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The escalation.
    pub escalation: Uuid,
    /// Who has left.
    pub member: Uuid,
}

/// Runs the job.
pub struct ReleaseDeparted(pub(crate) Escalating);

#[tonic::async_trait]
impl Handler for ReleaseDeparted {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let tenant = job.tenant.ok_or_else(|| JobError::dead("no tenant"))?;
        let id = EscalationId::from_uuid(payload.escalation);
        let member = MemberId::from_uuid(payload.member);
        act::release_of(&self.0, tenant, id, member).await?;
        Ok(())
    }
}
