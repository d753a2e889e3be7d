//! What automations go by, decided from what is known. Pure.
//! Deliberately absent: whether a message may leave. That is the gate's, at the moment it leaves.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_rpc::Violations;

use super::definition::{Action, Conditions, Definition, Send, Trigger, When};
use super::render;
use crate::gate::{Channel, Purpose};
use crate::lead::{Source, Status};

/// How many automations may stand between one and what a person did. None: what an automation sends sets none off.
pub const MOST_DEPTH: i32 = 0;

/// Of so many whose outcome is known, one in ten may fail.
const LEAST_OUTCOMES: i64 = 10;

/// What is known of a lead for conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// How far it has come.
    pub status: Status,
    /// Where it came from.
    pub source: Source,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Conditions {
    /// Whether a lead is meant.
    pub fn hold(&self, lead: &Known) -> bool {
        let any = |wanted: &[String]| wanted.iter().any(|tag| lead.tags.contains(tag));
        (self.statuses.is_empty() || self.statuses.contains(&lead.status))
            && (self.sources.is_empty() || self.sources.contains(&lead.source))
            && (self.tags_any.is_empty() || any(&self.tags_any))
            && !any(&self.tags_none)
    }
}

/// The step to be taken next, from `step` on, and when; none when all are behind. What belongs before an appointment and is
/// too late for it is left out.
pub fn next_step(
    definition: &Definition,
    step: usize,
    starts_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<(usize, DateTime<Utc>)> {
    let rest = definition.steps.iter().enumerate().skip(step);
    rest.map(|(place, step)| (place, step.when))
        .find_map(|(place, when)| match when {
            When::After(seconds) => Some((place, now + TimeDelta::seconds(seconds))),
            When::BeforeAppointment(seconds) => {
                let at = starts_at? - TimeDelta::seconds(seconds);
                (at > now).then_some((place, at))
            }
        })
}

/// Whether more than one in ten of those whose outcome is known have failed.
pub const fn fails_too_often(failed: i64, ended: i64) -> bool {
    ended >= LEAST_OUTCOMES && failed * 10 > ended
}

/// Everything that is wrong with a definition, named by its field.
pub fn check(definition: &Definition, faults: &mut Violations) {
    let inactive = definition.trigger == Trigger::LeadInactive;
    match definition.inactive_days {
        None if inactive => faults.add(
            "definition.inactive_days",
            "is needed with the trigger `lead_inactive`",
        ),
        Some(_) if !inactive => faults.add(
            "definition.inactive_days",
            "belongs to the trigger `lead_inactive` alone",
        ),
        Some(_) | None => {}
    }
    for (place, step) in definition.steps.iter().enumerate() {
        let field = format!("definition.steps[{place}]");
        if matches!(step.when, When::BeforeAppointment(_))
            && definition.trigger != Trigger::AppointmentBooked
        {
            faults.add(
                format!("{field}.before_appointment_seconds"),
                "belongs to the trigger `appointment_booked` alone",
            );
        }
        match &step.action {
            Action::Send(send) => check_send(send, &field, faults),
            Action::Answer(_) if definition.trigger != Trigger::MessageReceived => faults.add(
                format!("{field}.answer"),
                "belongs to the trigger `message_received` alone: there is nothing to answer",
            ),
            Action::Answer(answer) => {
                if let Some(fallback) = &answer.fallback {
                    text(fallback, &format!("{field}.answer.fallback"), faults);
                }
            }
            Action::HandOver { .. } => {}
        }
    }
}

fn check_send(send: &Send, field: &str, faults: &mut Violations) {
    let field = format!("{field}.send");
    if !matches!(send.channel, Channel::Sms | Channel::Email) {
        faults.add(format!("{field}.channel"), "must be `sms` or `email`");
    }
    if matches!(
        send.purpose,
        Purpose::SecurityCode | Purpose::StaffNotice | Purpose::KeywordReply
    ) {
        faults.add(
            format!("{field}.purpose"),
            "must be `conversational`, `transactional` or `marketing`",
        );
    }
    match (&send.subject, send.channel) {
        (None, Channel::Email) => faults.add(format!("{field}.subject"), "is needed for mail"),
        (Some(_), Channel::Sms | Channel::Whatsapp | Channel::Voice) => {
            faults.add(format!("{field}.subject"), "belongs to mail alone");
        }
        (Some(subject), Channel::Email) => text(subject, &format!("{field}.subject"), faults),
        (None, Channel::Sms | Channel::Whatsapp | Channel::Voice) => {}
    }
    text(&send.body, &format!("{field}.body"), faults);
}

fn text(template: &str, field: &str, faults: &mut Violations) {
    if let Err(wrong) = render::check(template) {
        faults.add(field, format!("is no template: {wrong}"));
    }
}

/// The day that a sweep is for. One a day, by UTC: a client's own midnight would make a day twice when its zone changes.
pub fn period(now: DateTime<Utc>) -> String {
    now.format("%Y-%m-%d").to_string()
}

/// When the next day's sweep is due.
pub fn next_sweep(now: DateTime<Utc>) -> DateTime<Utc> {
    let tomorrow = now.date_naive().succ_opt().unwrap_or(now.date_naive());
    tomorrow.and_time(chrono::NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::super::definition::Step;
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn reminders(before: &[i64]) -> Definition {
        let step = |seconds: &i64| Step {
            when: When::BeforeAppointment(*seconds),
            action: Action::HandOver {
                reason: "somebody comes".to_owned(),
            },
        };
        Definition {
            trigger: Trigger::AppointmentBooked,
            conditions: Conditions::default(),
            steps: before.iter().map(step).collect(),
            cooldown_seconds: 0,
            stop_on_reply: false,
            inactive_days: None,
            variables: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn a_reminder_that_is_too_late_is_left_out() {
        let day_and_hour = reminders(&[86_400, 3600]);
        let starts = Some(at("2026-06-02T15:00:00Z"));
        let next = |now| next_step(&day_and_hour, 0, starts, at(now));
        assert_eq!(
            next("2026-06-01T10:00:00Z"),
            Some((0, at("2026-06-01T15:00:00Z")))
        );
        assert_eq!(
            next("2026-06-02T10:00:00Z"),
            Some((1, at("2026-06-02T14:00:00Z")))
        );
        assert_eq!(next("2026-06-02T14:30:00Z"), None);
        assert_eq!(
            next_step(&day_and_hour, 0, None, at("2026-06-01T10:00:00Z")),
            None
        );
    }

    #[test]
    fn one_in_ten_may_fail_and_few_say_nothing() {
        assert!(!fails_too_often(9, 9));
        assert!(!fails_too_often(1, 10));
        assert!(fails_too_often(2, 10));
        assert!(!fails_too_often(10, 100));
        assert!(fails_too_often(11, 100));
    }

    #[test]
    fn each_condition_narrows() {
        let lead = Known {
            status: Status::Engaged,
            source: Source::Form,
            tags: vec!["roof".to_owned()],
        };
        let all = Conditions::default();
        let tag = || vec!["roof".to_owned()];
        let table = [
            (all.clone(), true),
            (
                Conditions {
                    statuses: vec![Status::New],
                    ..all.clone()
                },
                false,
            ),
            (
                Conditions {
                    statuses: vec![Status::New, Status::Engaged],
                    sources: vec![Source::Form],
                    ..all.clone()
                },
                true,
            ),
            (
                Conditions {
                    tags_any: tag(),
                    ..all.clone()
                },
                true,
            ),
            (
                Conditions {
                    tags_none: tag(),
                    ..all
                },
                false,
            ),
        ];
        for (conditions, holds) in table {
            assert_eq!(conditions.hold(&lead), holds, "{conditions:?}");
        }
    }
}
