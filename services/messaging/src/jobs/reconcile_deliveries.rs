//! Asks providers what became of messages of which they have told nothing more.
//! Deliberately absent: asking ([`crate::provider_event::reconciliation`]).

use std::time::Duration;

use mainstay_jobs::Recurring;

use crate::Messaging;
use crate::provider_event::reconciliation;

/// How often, at least.
const EVERY: Duration = Duration::from_secs(60);

/// Runs the job.
#[derive(Clone)]
pub struct ReconcileDeliveries(pub(crate) Messaging);

#[tonic::async_trait]
impl Recurring for ReconcileDeliveries {
    const KIND: &'static str = "reconcile_deliveries";

    async fn turn(&self) -> Duration {
        match reconciliation::run(&self.0).await {
            Ok(0) => {}
            Ok(learned) => tracing::info!(
                learned,
                "providers were asked what became of messages, and knew"
            ),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "what became of messages cannot be asked"
            ),
        }
        self.0.pace.ask_after.min(EVERY)
    }
}
