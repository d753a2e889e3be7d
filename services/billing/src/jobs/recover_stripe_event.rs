//! Gives one of Stripe's events its effect whose webhook never came and which could not have it when it was found.
//! Deliberately absent: giving up quietly. When its tries are used up it is a dead letter.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority};
use serde::{Deserialize, Serialize};

use crate::stripe_events::{Intake, Outcome, recover};

/// The job's kind.
pub const KIND: &str = "recover_stripe_event";

/// The webhook itself may be on its way.
const FIRST: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    stripe_event_id: String,
}

/// The job for an event, once however often it is found.
pub(crate) fn job(stripe_event_id: &str, now: DateTime<Utc>) -> NewJob {
    let payload = Payload {
        stripe_event_id: stripe_event_id.to_owned(),
    };
    NewJob::new(KIND, &payload, now)
        .unique(stripe_event_id)
        .at(now + FIRST)
        .priority(Priority::Bulk)
}

/// Runs the job.
#[derive(Debug, Clone)]
pub struct RecoverStripeEvent {
    intake: Intake,
}

impl RecoverStripeEvent {
    /// With these.
    pub fn new(intake: Intake) -> Self {
        Self { intake }
    }
}

#[tonic::async_trait]
impl Handler for RecoverStripeEvent {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let handled = recover::again(&self.intake, &payload.stripe_event_id).await;
        let handled = handled.map_err(JobError::retry)?;
        match handled.outcome {
            Outcome::Retry => Err(JobError::retry(handled.detail)),
            Outcome::Applied | Outcome::Duplicate | Outcome::Ignored => Ok(()),
        }
    }
}
