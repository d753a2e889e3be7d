//! Has the services looked at, again and again.
//! Deliberately absent: looking ([`crate::health_watch`]).

use std::time::Duration;

use mainstay_jobs::{Priority, Recurring};
use mainstay_types::AgencyId;

use crate::{Escalating, health_watch};

/// Runs the job.
pub struct LookAtHealth {
    pub(crate) escalating: Escalating,
    pub(crate) operators: Option<AgencyId>,
    pub(crate) every: Duration,
}

#[tonic::async_trait]
impl Recurring for LookAtHealth {
    const KIND: &'static str = "look_at_health";
    const PRIORITY: Priority = Priority::Normal;

    async fn turn(&self) -> Duration {
        // Without an agency there is nobody to tell: health and the log have it.
        if let Some(operators) = self.operators
            && let Err(error) = health_watch::run(&self.escalating, operators).await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what was seen of the services cannot be taken in"
            );
        }
        self.every
    }
}
