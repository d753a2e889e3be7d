//! What notices say. Pure.
//! Deliberately absent: what a lead wrote beyond the summary. A text on a locked screen is read by others.

use super::Kind;
use crate::escalation::{Escalation, Priority};

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// Of mail.
    pub subject: String,
    /// Of mail and texts alike.
    pub body: String,
}

/// What somebody is told of an escalation; `link` takes it.
pub(super) fn of(kind: Kind, escalation: &Escalation, link: &str) -> Text {
    let summary = one_line(&escalation.summary);
    let urgent = match escalation.priority {
        Priority::Urgent => "Urgent: ",
        Priority::Low | Priority::Normal | Priority::High => "",
    };
    let owner = escalation
        .claim
        .as_ref()
        .map_or("Somebody", |claim| &claim.name);
    match kind {
        Kind::Call => Text {
            subject: format!("{urgent}somebody is needed"),
            body: format!("{urgent}{summary}\nTake it: {link}"),
        },
        Kind::Yours => Text {
            subject: "You have it".to_owned(),
            body: format!("You have it: {summary}"),
        },
        Kind::Taken => Text {
            subject: format!("{} has it", one_line(owner)),
            body: format!("{owner} has it: {summary}"),
        },
        Kind::Expired => Text {
            subject: "Nobody took it".to_owned(),
            body: format!("Nobody took it in time: {summary}"),
        },
    }
}

/// A subject has one line, and so has what stands before a link.
fn one_line(text: &str) -> String {
    text.split(char::is_control)
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
