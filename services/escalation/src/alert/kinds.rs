//! The closed lists of words that alerts are described with, and what each kind is called by people.
//! Deliberately absent: a severity that a kind has for ever. Whoever raises says how bad it is.

use mainstay_proto::escalation::v1 as proto;
use serde::{Deserialize, Serialize};

use crate::escalation::kinds::closed;

closed! {
    /// What an alert is about.
    Kind is AlertKind {
        /// A saga cannot go on by itself.
        SagaParked "saga_parked",
        /// A payment is disputed.
        DisputeOpened "dispute_opened",
        /// An invoice could not be collected.
        PaymentFailed "payment_failed",
        /// Webhooks were given up.
        WebhookDead "webhook_dead",
        /// Jobs were given up.
        JobDead "job_dead",
        /// A provider refuses messages for a reason that is ours to mend.
        ProviderRefusesUs "provider_refuses_us",
        /// Nobody will know whether a message was taken.
        MessageAmbiguous "message_ambiguous",
        /// Nobody took an escalation.
        EscalationUnanswered "escalation_unanswered",
        /// A model gave no answer.
        ModelUnavailable "model_unavailable",
        /// An automation has paused itself.
        AutomationFails "automation_fails",
        /// A service does not answer, or is not ready.
        ServiceDown "service_down",
        /// A service answers slowly.
        ServiceSlow "service_slow",
        /// Too many of a service's requests fail by our fault.
        CallsFailing "calls_failing",
        /// A database does not answer, is slow, or has no connection left.
        Database "database",
        /// A queue is late.
        QueueLate "queue_late",
        /// Something in a queue was given up.
        QueueDead "queue_dead",
        /// A provider is left alone, or a tenth of the calls to it fail.
        ProviderDown "provider_down",
        /// Stripe and our rows differ.
        Discrepancies "discrepancies",
        /// How something stands is not known.
        HealthUnknown "health_unknown",
    }
}

closed! {
    /// How bad.
    Severity is AlertSeverity {
        /// Good to know.
        Info "info",
        /// Somebody should look today.
        Warning "warning",
        /// Somebody should look now.
        Critical "critical",
    }
}

closed! {
    /// How an alert stands.
    ///
    /// ```text
    /// open ──acknowledge──▶ acknowledged ──resolve──▶ resolved
    ///   └──────resolve, by a person or by the opposite fact──▲
    /// ```
    State is AlertState {
        /// It lasts, and nobody looks.
        Open "open",
        /// It lasts, and somebody looks.
        Acknowledged "acknowledged",
        /// It is over.
        Resolved "resolved",
    }
}

impl Kind {
    /// What people call it, at the beginning of a sentence.
    pub const fn title(self) -> &'static str {
        match self {
            Kind::SagaParked => "A saga is parked",
            Kind::DisputeOpened => "A payment is disputed",
            Kind::PaymentFailed => "A payment failed",
            Kind::WebhookDead => "Webhooks were given up",
            Kind::JobDead => "Jobs were given up",
            Kind::ProviderRefusesUs => "A provider refuses our messages",
            Kind::MessageAmbiguous => "Messages may or may not have left",
            Kind::EscalationUnanswered => "Nobody took an escalation",
            Kind::ModelUnavailable => "A model gives no answer",
            Kind::AutomationFails => "An automation has paused itself",
            Kind::ServiceDown => "A service is down",
            Kind::ServiceSlow => "A service is slow",
            Kind::CallsFailing => "Requests to a service fail",
            Kind::Database => "A database is in trouble",
            Kind::QueueLate => "A queue is late",
            Kind::QueueDead => "Work in a queue was given up",
            Kind::ProviderDown => "A provider is down",
            Kind::Discrepancies => "Stripe and our rows differ",
            Kind::HealthUnknown => "How a service stands is not known",
        }
    }

    /// Where it is written what to do: each kind has its heading on one page.
    pub fn runbook(self) -> String {
        format!("docs/runbooks/alerts.md#{}", self.as_str())
    }
}

impl Severity {
    /// Higher is worse.
    pub const fn rank(self) -> u8 {
        match self {
            Severity::Info => 1,
            Severity::Warning => 2,
            Severity::Critical => 3,
        }
    }

    /// Whether it is at least so bad.
    pub const fn reaches(self, least: Severity) -> bool {
        self.rank() >= least.rank()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_heading_in_the_runbook() {
        let page = include_str!("../../../../docs/runbooks/alerts.md");
        for number in 1.. {
            let Some(kind) = Kind::given(Some(number)) else {
                assert!(number > 19, "{number} is on no list");
                break;
            };
            let heading = format!("\n## {}\n", kind.as_str());
            assert!(page.contains(&heading), "{}", kind.as_str());
        }
    }

    #[test]
    fn a_worse_severity_reaches_a_lesser_one() {
        assert!(Severity::Critical.reaches(Severity::Warning));
        assert!(Severity::Warning.reaches(Severity::Warning));
        assert!(!Severity::Info.reaches(Severity::Warning));
    }
}
