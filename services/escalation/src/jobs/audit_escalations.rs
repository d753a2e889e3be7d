//! Has the auditor look, again and again.
//! Deliberately absent: looking ([`crate::escalation::audit`]).

use std::time::Duration;

use mainstay_jobs::{Priority, Recurring};

use crate::Escalating;
use crate::escalation::audit;

/// Runs the job.
pub struct AuditEscalations {
    pub(crate) escalating: Escalating,
    pub(crate) every: Duration,
}

#[tonic::async_trait]
impl Recurring for AuditEscalations {
    const KIND: &'static str = "audit_escalations";
    const PRIORITY: Priority = Priority::Normal;

    async fn turn(&self) -> Duration {
        match audit::run(&self.escalating).await {
            Ok(0) => {}
            Ok(found) => tracing::warn!(
                found,
                "escalations were found that nobody would have come back to"
            ),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "escalations cannot be audited"
            ),
        }
        self.every
    }
}
