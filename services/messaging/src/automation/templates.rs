//! Automations that are ready to be taken (MSG-30): what most clients begin with. A client's own copy is what runs.
//! Deliberately absent: a text without the business's name, which carriers and the law want in the first message.

use std::collections::BTreeMap;

use super::definition::{Action, Answer, Conditions, Definition, Send, Step, Trigger, When};
use crate::gate::{Channel, Purpose};
use crate::lead::Status;

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// What it does, without its variables.
    pub definition: Definition,
    /// The variables that have to be given.
    pub variables: &'static [&'static str],
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn step(when: When, action: Action) -> Step {
    Step { when, action }
}

fn text(purpose: Purpose, body: &str) -> Action {
    Action::Send(Send {
        channel: Channel::Sms,
        purpose,
        subject: None,
        body: body.to_owned(),
    })
}

fn on(trigger: Trigger, steps: Vec<Step>) -> Definition {
    Definition {
        trigger,
        conditions: Conditions::default(),
        steps,
        cooldown_seconds: 0,
        stop_on_reply: true,
        inactive_days: None,
        variables: BTreeMap::new(),
    }
}

/// All, in the order in which they are shown.
pub fn all() -> Vec<Template> {
    vec![
        Template {
            name: "missed_call_text_back",
            description: "Texts whoever rang and was not answered, once an hour at most.",
            definition: Definition {
                cooldown_seconds: HOUR,
                ..on(
                    Trigger::CallMissed,
                    vec![step(
                        When::After(0),
                        text(
                            Purpose::Conversational,
                            "Hi{% if lead.first_name is defined %} {{ lead.first_name }}{% endif %}, this is {{ business_name }}. \
                             Sorry we missed your call. How can we help? Reply STOP to end messages.",
                        ),
                    )],
                )
            },
            variables: &["business_name"],
        },
        Template {
            name: "form_response",
            description: "Answers a form at once, and once more a day later if they have not written.",
            definition: on(
                Trigger::FormSubmitted,
                vec![
                    step(
                        When::After(0),
                        text(
                            Purpose::Conversational,
                            "Hi{% if lead.first_name is defined %} {{ lead.first_name }}{% endif %}, this is {{ business_name }}. \
                             Thanks for your request. When is a good time to talk? Reply STOP to end messages.",
                        ),
                    ),
                    step(
                        When::After(DAY),
                        text(
                            Purpose::Conversational,
                            "{{ business_name }} again: is there anything that we can do for you? Just reply here.",
                        ),
                    ),
                ],
            ),
            variables: &["business_name"],
        },
        Template {
            name: "appointment_reminder",
            description: "Reminds of an appointment a day and two hours before it.",
            definition: Definition {
                stop_on_reply: false,
                ..on(
                    Trigger::AppointmentBooked,
                    vec![
                        step(
                            When::BeforeAppointment(DAY),
                            text(
                                Purpose::Transactional,
                                "Reminder from {{ business_name }}: {{ appointment.title }} on {{ appointment.starts_at }}\
                                 {% if appointment.location is defined %}, {{ appointment.location }}{% endif %}.",
                            ),
                        ),
                        step(
                            When::BeforeAppointment(2 * HOUR),
                            text(
                                Purpose::Transactional,
                                "{{ business_name }}: see you at {{ appointment.starts_at }} for {{ appointment.title }}.",
                            ),
                        ),
                    ],
                )
            },
            variables: &["business_name"],
        },
        Template {
            name: "win_back",
            description: "Writes to leads with whom nothing was said for ninety days, once a half-year.",
            definition: Definition {
                conditions: Conditions {
                    statuses: vec![
                        Status::New,
                        Status::Contacted,
                        Status::Engaged,
                        Status::Qualified,
                    ],
                    ..Conditions::default()
                },
                cooldown_seconds: 180 * DAY,
                inactive_days: Some(90),
                ..on(
                    Trigger::LeadInactive,
                    vec![step(
                        When::After(0),
                        text(
                            Purpose::Marketing,
                            "Hi{% if lead.first_name is defined %} {{ lead.first_name }}{% endif %}, it's {{ business_name }}. \
                             We have not heard from you for a while: {{ offer }} Reply STOP to end messages.",
                        ),
                    )],
                )
            },
            variables: &["business_name", "offer"],
        },
        Template {
            name: "ai_reply",
            description: "Has a model answer what they write, and calls for a person where it cannot.",
            definition: Definition {
                stop_on_reply: false,
                ..on(
                    Trigger::MessageReceived,
                    vec![step(
                        When::After(0),
                        Action::Answer(Answer {
                            instructions: "You answer texts for a local business. Be friendly and short, and lead to an appointment. \
                                           Never promise a price, a date or anything that you were not told."
                                .to_owned(),
                            fallback: Some(
                                "Thanks for your message. Somebody will get back to you shortly."
                                    .to_owned(),
                            ),
                        }),
                    )],
                )
            },
            variables: &[],
        },
    ]
}

/// The one of this name.
pub fn named(name: &str) -> Option<Template> {
    all().into_iter().find(|template| template.name == name)
}

#[cfg(test)]
mod tests {
    use mainstay_rpc::Violations;
    use serde_json::json;

    use super::super::{render, rules};
    use super::*;

    #[test]
    fn each_is_sound_and_says_who_writes() {
        for template in all() {
            let mut faults = Violations::new();
            rules::check(&template.definition, &mut faults);
            faults.finish().expect(template.name);
            let known = json!({
                "business_name": "Acme", "offer": "ten off.", "lead": {},
                "appointment": {"title": "Inspection", "starts_at": "Tue, Jun 2 at 10:00 AM"},
            });
            for step in &template.definition.steps {
                if let Action::Send(send) = &step.action {
                    let said = render::render(&send.body, &known).expect(template.name);
                    assert!(said.contains("Acme"), "{said}");
                    assert!(said.chars().count() <= 320, "two texts at most: {said}");
                }
            }
        }
    }
}
