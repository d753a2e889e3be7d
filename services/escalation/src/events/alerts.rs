//! Which facts of other services are alerts, and which say that one is over. Pure.
//! Deliberately absent: order. Whichever fact comes in first, the later one holds ([`crate::alert`]).

use mainstay_jobs::Event;
use mainstay_types::{ClientId, Money};
use serde_json::Value;

use crate::alert::{Kind, New, Severity, Thing};

/// What a fact says of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    /// It happened.
    Happened(New),
    /// It is over.
    Over(Thing),
}

/// What an event says; none: nothing of an alert.
pub(super) fn read(event: &Event) -> Option<Says> {
    let of = Of(event);
    match event.event_type.as_str() {
        "billing.saga.parked" => Some(of.happened(
            Kind::SagaParked,
            of.one(),
            Severity::Critical,
            format!(
                "The saga {} ({}) stopped at {}: {}. Retry it, say what came of the step, or abandon it.",
                event.aggregate_id, of.text("definition"), of.text("step"), of.text("error")
            ),
        )),
        "billing.saga.decided" => Some(of.over(Kind::SagaParked, of.one())),
        "billing.dispute.opened" if !of.is_closed() => Some(of.happened(
            Kind::DisputeOpened,
            of.one(),
            Severity::Critical,
            format!(
                "A payment{} is disputed ({}). Answer it at Stripe with evidence{}.",
                of.money("amount"), of.text("reason"), of.until("evidence_due_at")
            ),
        )),
        "billing.dispute.closed" => Some(of.over(Kind::DisputeOpened, of.one())),
        "billing.invoice.payment_failed" => {
            let invoice = of.text("invoice_id");
            Some(of.happened(
                Kind::PaymentFailed,
                (invoice.clone(), invoice.clone()),
                Severity::Critical,
                format!(
                    "Collecting the invoice {invoice}{} failed (try {}). The client needs another way to pay.",
                    of.money("amount_due"), of.text("attempt_count")
                ),
            ))
        }
        "billing.invoice.updated" if matches!(of.text("status").as_str(), "paid" | "void") => {
            Some(of.over(Kind::PaymentFailed, of.one()))
        }
        "integrations.webhook.dead" => {
            let provider = of.text("provider");
            Some(of.happened(
                Kind::WebhookDead,
                of.among(&provider),
                Severity::Critical,
                format!(
                    "Webhooks of {provider} were given up, the last a {}: {}. Mend the cause, then replay them.",
                    of.text("type"), of.text("error")
                ),
            ))
        }
        "integrations.webhook.recovered" => {
            Some(of.over(Kind::WebhookDead, of.among(&of.text("provider"))))
        }
        "messaging.provider.refused_us" => {
            let provider = of.text("provider");
            Some(of.lasting(
                Kind::ProviderRefusesUs,
                of.group(&provider),
                Severity::Critical,
                format!(
                    "{provider} refuses messages: {} {}. Look at the account, the number and its registration.",
                    of.text("code"), of.text("text")
                ),
            ))
        }
        "messaging.message.left_in_doubt" => Some(of.lasting(
            Kind::MessageAmbiguous,
            of.group(&of.text("provider")),
            Severity::Warning,
            format!(
                "Nobody will know whether {} took the message {}. Ask whoever it was for before it is sent again.",
                of.text("provider"), of.text("message_id")
            ),
        )),
        "messaging.model.unavailable" => Some(of.lasting(
            Kind::ModelUnavailable,
            of.group("model"),
            Severity::Warning,
            format!(
                "The model gave no answer: {}. People are called instead, until it answers again.",
                of.text("cause")
            ),
        )),
        "messaging.automation.failed" => Some(of.happened(
            Kind::AutomationFails,
            of.one(),
            Severity::Warning,
            format!(
                "The automation {} has paused itself: {}. Mend the cause, then activate it.",
                event.aggregate_id, of.text("paused_because")
            ),
        )),
        "messaging.automation.activated" | "messaging.automation.ended" => {
            Some(of.over(Kind::AutomationFails, of.one()))
        }
        other => of.job(other),
    }
}

/// An event, as alerts read it.
struct Of<'a>(&'a Event);

impl Of<'_> {
    /// Jobs, of whichever service.
    fn job(&self, event_type: &str) -> Option<Says> {
        let (service, what) = event_type.split_once('.')?;
        let kind = self.text("kind");
        let thing = self.among(&format!("{service}/{kind}"));
        match what {
            "job.buried" => Some(self.happened(
                Kind::JobDead,
                thing,
                Severity::Critical,
                format!(
                    "Jobs {kind} of {service} were given up, the last because: {}. Mend the cause, then replay the dead letters.",
                    self.text("error")
                ),
            )),
            "job.requeued" => Some(self.over(Kind::JobDead, thing)),
            _ => None,
        }
    }

    fn happened(
        &self,
        kind: Kind,
        (subject, item): (String, String),
        severity: Severity,
        summary: String,
    ) -> Says {
        let thing = self.thing(kind, subject, Some(item));
        Says::Happened(New {
            thing,
            severity,
            summary,
        })
    }

    /// What no fact ends.
    fn lasting(&self, kind: Kind, subject: String, severity: Severity, summary: String) -> Says {
        let thing = self.thing(kind, subject, None);
        Says::Happened(New {
            thing,
            severity,
            summary,
        })
    }

    fn over(&self, kind: Kind, (subject, item): (String, String)) -> Says {
        Says::Over(self.thing(kind, subject, Some(item)))
    }

    fn thing(&self, kind: Kind, subject: String, item: Option<String>) -> Thing {
        Thing {
            kind,
            subject: subject.chars().take(200).collect(),
            item,
            client: self.client(),
        }
    }

    fn client(&self) -> Option<ClientId> {
        self.0.client
    }

    /// The thing that the event is about is the subject.
    fn one(&self) -> (String, String) {
        let id = &self.0.aggregate_id;
        (id.clone(), id.clone())
    }

    /// It is one of many like it, which are one alert.
    fn among(&self, group: &str) -> (String, String) {
        (self.group(group), self.0.aggregate_id.clone())
    }

    /// A group's things are one client's, or the agency's.
    fn group(&self, name: &str) -> String {
        match self.client() {
            Some(client) => format!("{client}/{name}"),
            None => name.to_owned(),
        }
    }

    /// A word or a number of the payload; `unknown` where there is none.
    fn text(&self, field: &str) -> String {
        match &self.0.payload[field] {
            Value::String(text) => text.chars().take(500).collect(),
            Value::Number(number) => number.to_string(),
            _ => "unknown".to_owned(),
        }
    }

    /// ` of 997.00 usd`, where there is one.
    fn money(&self, field: &str) -> String {
        let money: Option<Money> = serde_json::from_value(self.0.payload[field].clone()).ok();
        money
            .map(|money| format!(" of {money}"))
            .unwrap_or_default()
    }

    fn until(&self, field: &str) -> String {
        match &self.0.payload[field] {
            Value::String(text) => format!(" before {text}"),
            _ => String::new(),
        }
    }

    /// A dispute that was over when it was seen first.
    fn is_closed(&self) -> bool {
        matches!(
            self.text("status").as_str(),
            "won" | "lost" | "warning_closed" | "prevented"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use mainstay_types::{AgencyId, EventId};
    use serde_json::json;

    fn event(event_type: &str, id: &str, client: Option<ClientId>, payload: Value) -> Event {
        Event {
            id: EventId::generate(),
            event_type: event_type.to_owned(),
            schema_version: 1,
            agency: AgencyId::generate(),
            client,
            aggregate_type: "it".to_owned(),
            aggregate_id: id.to_owned(),
            sequence: 1,
            occurred_at: DateTime::UNIX_EPOCH,
            actor: "service:billing".to_owned(),
            causation_id: None,
            causation_depth: 0,
            traceparent: None,
            payload,
        }
    }

    fn thing(says: Option<Says>) -> Option<(bool, Thing)> {
        Some(match says? {
            Says::Happened(new) => (true, new.thing),
            Says::Over(thing) => (false, thing),
        })
    }

    #[test]
    fn what_ends_an_alert_names_the_thing_that_began_it() {
        let client = Some(ClientId::generate());
        let pairs = [
            (
                event("billing.saga.parked", "saga_1", client, json!({})),
                event("billing.saga.decided", "saga_1", client, json!({})),
            ),
            (
                event(
                    "billing.dispute.opened",
                    "dis_1",
                    client,
                    json!({"status": "needs_response"}),
                ),
                event(
                    "billing.dispute.closed",
                    "dis_1",
                    client,
                    json!({"status": "won"}),
                ),
            ),
            (
                event(
                    "billing.invoice.payment_failed",
                    "cli_1",
                    client,
                    json!({"invoice_id": "inv_1"}),
                ),
                event(
                    "billing.invoice.updated",
                    "inv_1",
                    client,
                    json!({"status": "paid"}),
                ),
            ),
            (
                event(
                    "integrations.webhook.dead",
                    "whe_1",
                    None,
                    json!({"provider": "stripe"}),
                ),
                event(
                    "integrations.webhook.recovered",
                    "whe_1",
                    None,
                    json!({"provider": "stripe"}),
                ),
            ),
            (
                event(
                    "messaging.job.buried",
                    "job_1",
                    client,
                    json!({"kind": "fall_back"}),
                ),
                event(
                    "messaging.job.requeued",
                    "job_1",
                    client,
                    json!({"kind": "fall_back"}),
                ),
            ),
            (
                event(
                    "messaging.automation.failed",
                    "auto_1",
                    client,
                    json!({"paused_because": "it failed"}),
                ),
                event(
                    "messaging.automation.activated",
                    "auto_1",
                    client,
                    json!({}),
                ),
            ),
            (
                event(
                    "messaging.automation.failed",
                    "auto_1",
                    client,
                    json!({"paused_because": "it failed"}),
                ),
                event("messaging.automation.ended", "auto_1", client, json!({})),
            ),
        ];
        for (began, ended) in pairs {
            let (happened, first) = thing(read(&began)).expect("it happened");
            let (again, second) = thing(read(&ended)).expect("it is over");
            assert!(happened && !again, "{}", began.event_type);
            assert_eq!(first, second, "{}", began.event_type);
            assert!(first.item.is_some());
        }
    }

    #[test]
    fn what_is_no_alert_is_none() {
        let none = [
            event(
                "billing.dispute.opened",
                "dis_1",
                None,
                json!({"status": "lost"}),
            ),
            event(
                "billing.invoice.updated",
                "inv_1",
                None,
                json!({"status": "open"}),
            ),
            event("messaging.automation.paused", "auto_1", None, json!({})),
            event("identity.member.deactivated", "mem_1", None, json!({})),
            event("nonsense", "it", None, json!({})),
        ];
        for event in none {
            assert_eq!(read(&event), None, "{}", event.event_type);
        }
    }

    #[test]
    fn many_of_a_kind_are_one_alert_for_each_client() {
        let client = ClientId::generate();
        let refused = |client| {
            let payload = json!({"provider": "twilio", "code": "30034", "text": "not registered"});
            let says = read(&event(
                "messaging.provider.refused_us",
                "x",
                client,
                payload,
            ));
            thing(says).map(|(_, thing)| (thing.subject, thing.item))
        };
        assert_eq!(refused(None), Some(("twilio".to_owned(), None)));
        assert_eq!(
            refused(Some(client)),
            Some((format!("{client}/twilio"), None))
        );
    }
}
