//! Replays a range of webhooks, page by page, from where the last page that was committed ended.
//! Deliberately absent: handing them on. Each is queued as a delivery of its own and stands for itself from then on.

use std::time::Duration;

use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, Wake};
use mainstay_runtime::Clock;
use mainstay_types::WebhookReplayId;
use uuid::Uuid;

use crate::replay::{self, Paged};

/// The job's kind.
pub const KIND: &str = "replay_webhooks";

/// Pages in one run: a stop waits for no more than these, and other jobs get their turn.
const PAGES: u32 = 20;
/// How soon the next run, where there is more.
const NEXT: Duration = Duration::from_millis(10);
/// How soon again, where enough waits already.
const LATER: Duration = Duration::from_secs(1);

/// What the job is given.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Payload {
    /// The replay.
    pub webhook_replay_id: Uuid,
}

/// Runs the job.
#[derive(Debug, Clone)]
pub struct ReplayWebhooks {
    worker: Worker,
    clock: Clock,
    wake: Wake,
}

impl ReplayWebhooks {
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
impl Handler for ReplayWebhooks {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let agency = job
            .agency
            .ok_or_else(|| JobError::dead("the job names no agency"))?;
        let id = WebhookReplayId::from_uuid(payload.webhook_replay_id);
        for _ in 0..PAGES {
            let paged = mainstay_db::retrying(|| {
                replay::next_page(&self.worker, agency, id, self.clock.now())
            });
            match paged.await.map_err(JobError::retry)? {
                Paged::More => self.wake.wake(),
                Paged::Full => return Err(JobError::Snooze(LATER)),
                Paged::Done => {
                    self.wake.wake();
                    return Ok(());
                }
            }
        }
        Err(JobError::Snooze(NEXT))
    }
}
