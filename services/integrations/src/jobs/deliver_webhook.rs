//! Queues a webhook in the inbox again: what a dead letter of one comes back as when it is replayed as such, and what the
//! release before the inbox was a queue has left waiting.
//! Deliberately absent: handing on ([`crate::delivery`]).

use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, Wake};
use mainstay_runtime::Clock;
use mainstay_types::WebhookEventId;
use uuid::Uuid;

use crate::delivery;

/// The job's kind: that of the dead letter it comes from.
pub const KIND: &str = delivery::KIND;

/// What the job is given.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Payload {
    /// The webhook.
    pub webhook_event_id: Uuid,
}

/// Runs the job.
#[derive(Clone)]
pub struct DeliverWebhook {
    worker: Worker,
    clock: Clock,
    wake: Wake,
}

impl DeliverWebhook {
    /// Through `worker`; `wake` tells who hands on what was queued.
    pub fn new(worker: Worker, clock: Clock, wake: Wake) -> Self {
        Self {
            worker,
            clock,
            wake,
        }
    }
}

#[tonic::async_trait]
impl Handler for DeliverWebhook {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let id = WebhookEventId::from_uuid(payload.webhook_event_id);
        let mut tx = self.worker.tx().await?;
        // Both or neither: a webhook that waits here no longer waits there.
        let queued = delivery::sql::queue_again(tx.conn(), id, self.clock.now()).await?;
        job.complete_in(tx.conn()).await?;
        tx.commit().await?;
        if queued {
            self.wake.wake();
        }
        Ok(())
    }
}
