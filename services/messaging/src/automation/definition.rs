//! What an automation is, as data (MSG-37): stored as it stands here, one row a version.
//! Deliberately absent: doing it; see [`super::advance`]. What cannot be said here, no automation does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::gate::{Channel, Purpose};
use crate::lead::{Source, Status};

/// What sets an automation off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Somebody rang and was not answered.
    CallMissed,
    /// Somebody wrote.
    MessageReceived,
    /// Somebody sent a form.
    FormSubmitted,
    /// An appointment was booked, or moved.
    AppointmentBooked,
    /// Nothing was said for long.
    LeadInactive,
}

impl Trigger {
    /// All.
    pub const ALL: [Trigger; 5] = [
        Trigger::CallMissed,
        Trigger::MessageReceived,
        Trigger::FormSubmitted,
        Trigger::AppointmentBooked,
        Trigger::LeadInactive,
    ];

    /// As the database spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Trigger::CallMissed => "call_missed",
            Trigger::MessageReceived => "message_received",
            Trigger::FormSubmitted => "form_submitted",
            Trigger::AppointmentBooked => "appointment_booked",
            Trigger::LeadInactive => "lead_inactive",
        }
    }
}

/// What an automation does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// What sets it off.
    pub trigger: Trigger,
    /// For whom.
    #[serde(default)]
    pub conditions: Conditions,
    /// What is done, in order; at least one.
    pub steps: Vec<Step>,
    /// At most once in this time for one lead.
    #[serde(default)]
    pub cooldown_seconds: i64,
    /// Whether it ends when they write.
    pub stop_on_reply: bool,
    /// For how long nothing was said, where that sets it off.
    #[serde(default)]
    pub inactive_days: Option<i32>,
    /// What its texts call by name.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

/// For whom. Each narrows; what is empty does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Only leads in one of these.
    pub statuses: Vec<Status>,
    /// Only leads from one of these.
    pub sources: Vec<Source>,
    /// Only leads with one of these.
    pub tags_any: Vec<String>,
    /// Only leads with none of these.
    pub tags_none: Vec<String>,
}

/// When a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// So many seconds after the one before it.
    After(i64),
    /// So many seconds before the appointment.
    BeforeAppointment(i64),
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub when: When,
    /// What.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Sends a message.
    Send(Send),
    /// Has a model answer.
    Answer(Answer),
    /// Calls for a person.
    HandOver {
        /// Why.
        reason: String,
    },
}

/// A message to be sent; its texts are templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// How.
    pub channel: Channel,
    /// What for.
    pub purpose: Purpose,
    /// A mail's subject.
    pub subject: Option<String>,
    /// The text.
    pub body: String,
}

/// An answer to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What the model is told.
    pub instructions: String,
    /// What they get when it gives no answer.
    pub fallback: Option<String>,
}
