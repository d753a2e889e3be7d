//! Tells what is written and waits, for one escalation.
//! Deliberately absent: telling ([`crate::notice`]).

use mainstay_jobs::{Handler, Job, JobError};
use mainstay_types::EscalationId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Escalating, notice};

/// The job's kind.
pub const KIND: &str = "tell_notices";

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The escalation.
    pub escalation: Uuid,
}

/// Runs the job.
pub struct TellNotices(pub(crate) Escalating);

#[tonic::async_trait]
impl Handler for TellNotices {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let tenant = job.tenant.ok_or_else(|| JobError::dead("no tenant"))?;
        let id = EscalationId::from_uuid(payload.escalation);
        notice::run(&self.0, job, tenant, id).await
    }
}
