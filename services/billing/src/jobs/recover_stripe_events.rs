//! Looks for Stripe's events whose webhooks never came. One job for the whole schema, which puts itself off each time.
//! Deliberately absent: the walk, which is `stripe_events::recover`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority, enqueue};

use super::recover_stripe_event;
use crate::stripe_events::{Intake, recover};

/// The job's kind.
pub const KIND: &str = "recover_stripe_events";

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

/// Sees to it that the job is queued; it is never done.
///
/// # Errors
/// Whatever the database says.
pub async fn ensure(worker: &Worker, now: DateTime<Utc>) -> mainstay_db::Result<()> {
    let mut connection = worker.connection().await?;
    // The first time in a while: what was sent a moment ago is on its way, and not lost.
    let job = NewJob::new(KIND, &serde_json::json!({}), now + EVERY)
        .unique("all")
        .priority(Priority::Idle);
    enqueue(connection.conn(), job).await?;
    Ok(())
}

#[tonic::async_trait]
impl Handler for RecoverStripeEvents {
    async fn run(&self, _: &Job) -> Result<(), JobError> {
        let walked = match recover::walk(&self.intake).await {
            Ok(walked) => walked,
            // Stripe is away, or the database: over by the next time, and nothing was passed by. Never a dead letter.
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Stripe's events cannot be walked now"
                );
                return Err(JobError::Snooze(EVERY));
            }
        };
        if walked.recovered > 0 || !walked.waiting.is_empty() {
            tracing::warn!(
                recovered = walked.recovered,
                waiting = walked.waiting.len(),
                looked_at = walked.looked_at,
                "webhooks of Stripe had not come"
            );
        }
        // Each on its own from here on: tried for days, then a dead letter that a person sees.
        let now = self.intake.clock.now();
        let mut connection = self.intake.database.worker().connection().await?;
        for id in &walked.waiting {
            enqueue(connection.conn(), recover_stripe_event::job(id, now)).await?;
        }
        Err(JobError::Snooze(if walked.ended { EVERY } else { SOON }))
    }
}
