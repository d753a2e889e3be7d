//! Looks for Stripe's events whose webhooks never came.
//! Deliberately absent: the walk, which is `stripe_events::recover`.

use std::time::Duration;

use mainstay_jobs::Recurring;

use crate::stripe_events::{Intake, recover};

/// How often.
const EVERY: Duration = Duration::from_secs(300);
/// How soon again while a walk is in hand.
const SOON: Duration = Duration::from_secs(1);

/// Runs the job.
#[derive(Debug, Clone)]
pub struct RecoverStripeEvents {
    intake: Intake,
}

impl RecoverStripeEvents {
    /// With these.
    pub fn new(intake: Intake) -> Self {
        Self { intake }
    }
}

#[tonic::async_trait]
impl Recurring for RecoverStripeEvents {
    const KIND: &'static str = "recover_stripe_events";
    /// What was sent a moment ago is on its way, and not lost.
    const FIRST_AFTER: Duration = EVERY;

    async fn turn(&self) -> Duration {
        match recover::walk(&self.intake).await {
            Ok(walked) => {
                if walked.recovered > 0 || !walked.waiting.is_empty() {
                    tracing::warn!(
                        recovered = walked.recovered,
                        waiting = walked.waiting.len(),
                        looked_at = walked.looked_at,
                        "webhooks of Stripe had not come"
                    );
                }
                if walked.ended { EVERY } else { SOON }
            }
            // Stripe is away, or the database: over by the next time, and nothing was passed by.
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Stripe's events cannot be walked now"
                );
                EVERY
            }
        }
    }
}
