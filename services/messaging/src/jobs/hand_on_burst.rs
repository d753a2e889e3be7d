//! Hands the texts of a conversation on, when nothing more has come for a while.
//! Deliberately absent: a clock of its own. When it is due stands in the burst's row.

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob};
use mainstay_types::{ConversationId, Tenant};
use serde::{Deserialize, Serialize};

use crate::{Messaging, burst};

/// The job's kind.
pub const KIND: &str = "hand_on_burst";

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The conversation.
    pub conversation_id: ConversationId,
}

/// The job for a conversation.
pub fn job(tenant: Tenant, conversation: ConversationId, now: DateTime<Utc>) -> NewJob {
    let payload = Payload {
        conversation_id: conversation,
    };
    NewJob::new(KIND, &payload, now).for_tenant(tenant)
}

/// Runs the job.
#[derive(Clone)]
pub struct HandOnBurst(pub(crate) Messaging);

#[tonic::async_trait]
impl Handler for HandOnBurst {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let messaging = &self.0;
        let payload: Payload = job.payload()?;
        let tenant = job
            .tenant
            .ok_or_else(|| JobError::dead("the job is for no client"))?;
        let now = messaging.clock.now();
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        let wait = burst::hand_on(tx.conn(), tenant, payload.conversation_id, now).await?;
        if let Some(wait) = wait {
            return Err(JobError::Snooze(wait));
        }
        job.complete_in(tx.conn()).await?;
        tx.commit().await?;
        messaging.wake_jobs();
        Ok(())
    }
}
