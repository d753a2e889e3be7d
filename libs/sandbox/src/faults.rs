//! Owns the faults a test asks for: what to break, how often, and the holding of connections.
//!
//! Deliberately absent: durability. A fault belongs to the test that set it; a restarted simulator is a healthy one.
//! (What a fault already did to an event, such as sending it twice, is in the journal.)
//!
//! # Operations
//!
//! `operation` is `*`, or `<resource>.<action>` in Stripe's own plural nouns: `customers.create`, `customers.retrieve`,
//! `customers.update`, `customers.delete`, `customers.list`, `customers.search`, `payment_methods.attach`,
//! `subscriptions.cancel`, `invoices.pay`, `payment_intents.confirm` …, or `<resource>.*` for all of a resource, or the
//! route itself as Stripe documents it: `POST /v1/subscriptions`, `DELETE /v1/subscriptions/{id}`. One that names
//! nothing is refused. The three webhook kinds also take an event type (`invoice.paid`, `customer.subscription.*`); an
//! operation's name there means the events it causes (what time does is `clock.advance`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

/// At most this many faults at a time; a test that needs more has lost the thread.
const MOST: usize = 200;
/// No connection is held longer.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Waits `value` milliseconds (1000) before doing anything.
    Latency,
    /// Answers `value` (500) instead of doing anything. A 500 is stored under the idempotency key, as Stripe stores
    /// it; other codes are not.
    Status,
    /// Does it, stores the answer, and holds the connection for `value` seconds (10).
    TimeoutAfterEffect,
    /// Closes the connection without doing anything.
    Drop,
    /// Delivers the event `value` times (2).
    DuplicateWebhook,
    /// Holds the events back `value` milliseconds (1500) and sends them in reverse.
    ReorderWebhooks,
    /// Keeps the event, delivers it never.
    NeverWebhook,
}

const KINDS: [(&str, Kind); 7] = [
    ("latency", Kind::Latency),
    ("status", Kind::Status),
    ("timeout_after_effect", Kind::TimeoutAfterEffect),
    ("drop", Kind::Drop),
    ("duplicate_webhook", Kind::DuplicateWebhook),
    ("reorder_webhooks", Kind::ReorderWebhooks),
    ("never_webhook", Kind::NeverWebhook),
];

impl Kind {
    fn concerns_webhooks(self) -> bool {
        matches!(
            self,
            Kind::DuplicateWebhook | Kind::ReorderWebhooks | Kind::NeverWebhook
        )
    }
}

/// One fault, as asked for and as listed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    id: String,
    provider: String,
    operation: String,
    kind: Kind,
    value: u64,
    /// How many more times; `null`: until deleted.
    count: Option<u64>,
    rate: Option<f64>,
    /// How often it has struck. Exhausted faults stay listed so that a test can wait for this.
    fired: u64,
}

/// What strikes one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strike {
    pub latency: Option<Duration>,
    pub status: Option<u16>,
    pub hold_after_effect: Option<Duration>,
    pub drop: bool,
}

/// What strikes one event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WebhookStrike {
    pub copies: u64,
    pub held_back_ms: Option<u64>,
}

/// The faults in force.
#[derive(Debug)]
pub(crate) struct Faults {
    list: Mutex<Vec<Fault>>,
    // Counts up when faults are cleared: whoever is being held then goes on at once.
    released: watch::Sender<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            list: Mutex::default(),
            released: watch::Sender::new(0),
        }
    }
}

impl Faults {
    /// Adds the fault described by `body`; every field at fault is named.
    pub(crate) fn add(
        &self,
        body: &Map<String, Value>,
        providers: &[&str],
    ) -> Result<Fault, Vec<(String, String)>> {
        let fault = parse(body, providers)?;
        let mut list = self.list();
        if list.len() == MOST {
            return Err(vec![(
                "kind".into(),
                format!("{MOST} faults are set already; DELETE /_/faults first"),
            )]);
        }
        list.push(fault.clone());
        Ok(fault)
    }

    pub(crate) fn all(&self) -> Vec<Fault> {
        self.list().clone()
    }

    /// Removes all faults and lets go of every connection held by one.
    pub(crate) fn clear(&self) {
        self.list().clear();
        self.released.send_modify(|generation| *generation += 1);
    }

    /// Waits, but not beyond the clearing of faults.
    pub(crate) async fn hold(&self, duration: Duration) {
        let mut released = self.released.subscribe();
        let _ = tokio::time::timeout(duration.min(LONGEST_HOLD), released.changed()).await;
    }

    pub(crate) fn strike_request(&self, provider: &str, names: &[&str]) -> Strike {
        let mut strike = Strike::default();
        for fault in self.list().iter_mut() {
            if fault.kind.concerns_webhooks() || !fault.strikes(provider, names) {
                continue;
            }
            match fault.kind {
                Kind::Latency => {
                    let more = Duration::from_millis(fault.value);
                    strike.latency = Some(strike.latency.unwrap_or_default().saturating_add(more));
                }
                Kind::Status => strike.status = u16::try_from(fault.value).ok(),
                Kind::TimeoutAfterEffect => {
                    strike.hold_after_effect = Some(Duration::from_secs(fault.value))
                }
                Kind::Drop => strike.drop = true,
                Kind::DuplicateWebhook | Kind::ReorderWebhooks | Kind::NeverWebhook => {}
            }
        }
        strike
    }

    pub(crate) fn strike_event(
        &self,
        provider: &str,
        operation: &str,
        event_type: &str,
    ) -> WebhookStrike {
        let mut strike = WebhookStrike {
            copies: 1,
            held_back_ms: None,
        };
        for fault in self.list().iter_mut() {
            if !fault.kind.concerns_webhooks() || !fault.strikes(provider, &[operation, event_type])
            {
                continue;
            }
            match fault.kind {
                Kind::DuplicateWebhook => strike.copies *= fault.value,
                Kind::ReorderWebhooks => strike.held_back_ms = Some(fault.value),
                Kind::NeverWebhook => strike.copies = 0,
                Kind::Latency | Kind::Status | Kind::TimeoutAfterEffect | Kind::Drop => {}
            }
        }
        strike
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    fn strikes(&mut self, provider: &str, names: &[&str]) -> bool {
        let matches = (self.provider == "*" || self.provider == provider)
            && names.iter().any(|name| covers(&self.operation, name))
            && self.count != Some(0)
            && self.rate.is_none_or(|rate| rand::random_bool(rate));
        if matches {
            self.fired += 1;
            self.count = self.count.map(|left| left - 1);
        }
        matches
    }
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

fn parse(body: &Map<String, Value>, providers: &[&str]) -> Result<Fault, Vec<(String, String)>> {
    let mut errors: Vec<(String, String)> = Vec::new();
    const FIELDS: [&str; 6] = ["provider", "operation", "kind", "value", "count", "rate"];
    for name in body.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        errors.push((
            name.clone(),
            format!("unknown field; known are {}", FIELDS.join(", ")),
        ));
    }
    let present = |name: &str| body.get(name).filter(|value| !value.is_null());
    let text = |name: &str, fallback: &str, errors: &mut Vec<(String, String)>| match present(name)
    {
        None => fallback.to_owned(),
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(_) => {
            errors.push((name.to_owned(), "must be a non-empty string".into()));
            String::new()
        }
    };
    let provider = text("provider", "*", &mut errors);
    if !provider.is_empty() && provider != "*" && !providers.contains(&provider.as_str()) {
        errors.push((
            "provider".into(),
            format!(
                "no such simulator; there are {}, or *",
                providers.join(", ")
            ),
        ));
    }
    let operation = text("operation", "*", &mut errors);
    let kind = match present("kind") {
        Some(Value::String(name)) => KINDS
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, kind)| *kind),
        _ => None,
    };
    if kind.is_none() {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        errors.push((
            "kind".into(),
            format!("must be one of {}", names.join(", ")),
        ));
    }
    let names_something = match kind {
        // Event types are Stripe's to add to; their spelling is all that can be checked.
        Some(kind) if kind.concerns_webhooks() => operation
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b"_.*".contains(&b)),
        Some(_) => crate::stripe::has_operation(|name| covers(&operation, name)),
        None => true,
    };
    if !operation.is_empty() && !names_something {
        let message = "no such operation; examples are *, customers.create, subscriptions.*, POST /v1/refunds";
        errors.push(("operation".into(), message.into()));
    }
    let value = match present("value") {
        None => None,
        Some(value) => {
            let value = value.as_u64();
            if value.is_none() {
                errors.push((
                    "value".into(),
                    "must be a whole number, not negative".into(),
                ));
            }
            value
        }
    };
    if let (Some(kind), Some(value)) = (kind, value) {
        let allowed = match kind {
            Kind::Status => 400..=599,
            Kind::DuplicateWebhook => 2..=10,
            Kind::TimeoutAfterEffect => 0..=LONGEST_HOLD.as_secs(),
            Kind::Latency | Kind::ReorderWebhooks => 0..=LONGEST_HOLD.as_secs() * 1000,
            Kind::Drop | Kind::NeverWebhook => 0..=u64::MAX,
        };
        if !allowed.contains(&value) {
            errors.push((
                "value".into(),
                format!("must be from {} to {}", allowed.start(), allowed.end()),
            ));
        }
    }
    let count = match present("count") {
        None => None,
        Some(count) => match count.as_u64().filter(|count| *count > 0) {
            None => {
                errors.push(("count".into(), "must be a whole number from 1".into()));
                None
            }
            count => count,
        },
    };
    let rate = match present("rate") {
        None => None,
        Some(rate) => match rate.as_f64().filter(|rate| (0.0..=1.0).contains(rate)) {
            None => {
                errors.push(("rate".into(), "must be a number from 0 to 1".into()));
                None
            }
            rate => rate,
        },
    };
    let (Some(kind), true) = (kind, errors.is_empty()) else {
        return Err(errors);
    };
    let value = value.unwrap_or(match kind {
        Kind::Latency => 1000,
        Kind::Status => 500,
        Kind::TimeoutAfterEffect => 10,
        Kind::DuplicateWebhook => 2,
        Kind::ReorderWebhooks => 1500,
        Kind::Drop | Kind::NeverWebhook => 0,
    });
    let id = format!("fault_{}", crate::ids::random(12));
    Ok(Fault {
        id,
        provider,
        operation,
        kind,
        value,
        count,
        rate,
        fired: 0,
    })
}
