//! Has what providers have read again, every minute at least.
//! Deliberately absent: reading it ([`crate::recovery`]).

use std::time::Duration;

use mainstay_jobs::Recurring;

use crate::recovery::Recovery;

/// How often it is looked which accounts are due, at least.
const EVERY: Duration = Duration::from_secs(60);
/// How soon again while some are.
const SOON: Duration = Duration::from_secs(1);

/// Runs the job.
pub struct RecoverWebhooks {
    pub(crate) recovery: Recovery,
    pub(crate) after: Duration,
}

#[tonic::async_trait]
impl Recurring for RecoverWebhooks {
    const KIND: &'static str = "recover_webhooks";

    async fn turn(&self) -> Duration {
        match self.recovery.run().await {
            Ok(true) => self.after.min(EVERY),
            Ok(false) => SOON,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "webhooks that never came cannot be looked for"
                );
                self.after.min(EVERY)
            }
        }
    }
}
