//! What is said of alerts. Pure.
//! Deliberately absent: amounts and names beyond the summary. A text on a locked screen is read by others.

use super::rules::Kind;
use crate::alert::{Alert, Severity};

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// Of mail.
    pub subject: String,
    /// Of mail and texts alike.
    pub body: String,
}

/// What somebody is told of an alert.
pub(super) fn of(kind: Kind, alert: &Alert) -> Text {
    let title = alert.kind.title();
    // Whatever the summary says, the way to the runbook and the alert stands below it.
    let summary: String = alert.summary.chars().take(1500).collect();
    match kind {
        Kind::Opened => {
            let severity = match alert.severity {
                Severity::Info => "For information",
                Severity::Warning => "Warning",
                Severity::Critical => "Critical",
            };
            Text {
                subject: format!("{severity}: {}", lower(title)),
                body: format!(
                    "{severity}: {summary}\nWhat to do: {}\nAlert: {}",
                    alert.kind.runbook(),
                    alert.id
                ),
            }
        }
        Kind::Resolved => Text {
            subject: format!("Over: {}", lower(title)),
            body: format!("Over: {summary}\nAlert: {}", alert.id),
        },
    }
}

/// Behind a colon; names keep their capitals.
fn lower(title: &str) -> String {
    let mut letters = title.chars();
    match letters.next() {
        Some(first) if !title.starts_with("Stripe") => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => title.to_owned(),
    }
}
