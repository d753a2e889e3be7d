//! Lets go of webhooks past their retention, every hour.
//! Deliberately absent: the keys in `webhook_dedup`. They expire one by one, through the purge that every schema has.

use std::time::Duration;

use mainstay_db::Worker;
use mainstay_jobs::Recurring;
use mainstay_types::WebhookEventId;

use crate::webhook;

/// How often.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon again while there are single rows to delete.
const SOON: Duration = Duration::from_secs(1);

/// Runs the job.
#[derive(Debug, Clone)]
pub struct EmptyOldWeeks {
    worker: Worker,
}

impl EmptyOldWeeks {
    /// Through `worker`.
    pub fn new(worker: Worker) -> Self {
        Self { worker }
    }
}

#[tonic::async_trait]
impl Recurring for EmptyOldWeeks {
    const KIND: &'static str = "empty_old_weeks";

    async fn turn(&self) -> Duration {
        // A failure is over in an hour, and there are weeks of slack in the ring.
        match webhook::empty_old_weeks(&self.worker, WebhookEventId::generate()).await {
            Ok(emptied) if emptied.rows > 0 => SOON,
            Ok(emptied) => {
                if emptied.weeks > 0 {
                    tracing::info!(
                        weeks = emptied.weeks,
                        "webhooks past their retention were let go"
                    );
                }
                EVERY
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "webhooks past their retention cannot be let go"
                );
                EVERY
            }
        }
    }
}
