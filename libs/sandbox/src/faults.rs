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
//! nothing is refused. Twilio's are `messages.create`, `messages.list`, `calls.create`, `numbers.update` … or its own
//! routes; Resend's `emails.send`, SendGrid's `mail.send`, OpenAI's `chat.completions`. The webhook kinds also take an
//! event type (`invoice.paid`, `customer.subscription.*`, `message.delivered`, `email.bounced`); an operation's name there
//! means the events it causes (what time does at Stripe is `clock.advance`).
//!
//! # Chance
//!
//! A `rate` strikes by a `seed` that the fault prints back: with the same seed the same places among the requests that
//! the fault covers are struck. Which request is at which place is the caller's to order.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

/// At most this many faults at a time; a test that needs more has lost the thread.
const MOST: usize = 200;
/// What every JSON reader takes for a whole number.
const MOST_SEED: u64 = (1 << 53) - 1;
/// No connection is held longer.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Waits `value` milliseconds (1000) before doing anything.
    Latency,
    /// Answers `value` (500) instead of doing anything, in the provider's own words. Stripe's 500 is stored under the idempotency key, as Stripe stores
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
    /// Holds the event back `value` milliseconds (1500).
    LateWebhook,
    /// Holds every delivery back by its own random part of `value` milliseconds (1500): they arrive in any order.
    ShuffleWebhooks,
    /// Stripe's 429 with the code `lock_timeout` (elsewhere any 429): another request holds the object. Nothing is done, nothing stored.
    LockTimeout,
}

const KINDS: [(&str, Kind); 10] = [
    ("latency", Kind::Latency),
    ("status", Kind::Status),
    ("timeout_after_effect", Kind::TimeoutAfterEffect),
    ("drop", Kind::Drop),
    ("duplicate_webhook", Kind::DuplicateWebhook),
    ("reorder_webhooks", Kind::ReorderWebhooks),
    ("never_webhook", Kind::NeverWebhook),
    ("late_webhook", Kind::LateWebhook),
    ("shuffle_webhooks", Kind::ShuffleWebhooks),
    ("lock_timeout", Kind::LockTimeout),
];

impl Kind {
    fn concerns_webhooks(self) -> bool {
        matches!(
            self,
            Kind::DuplicateWebhook
                | Kind::ReorderWebhooks
                | Kind::NeverWebhook
                | Kind::LateWebhook
                | Kind::ShuffleWebhooks
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
    /// What decides which requests a `rate` strikes: the nth that the fault covers is struck or not, whoever sends it.
    seed: u64,
    /// How many it has looked at for that.
    considered: u64,
    /// How often it has struck. Exhausted faults stay listed so that a test can wait for this.
    fired: u64,
}

/// An answer in place of doing anything.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    Status(u16),
    LockTimeout,
}

/// What strikes one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strike {
    pub latency: Option<Duration>,
    pub refusal: Option<Refusal>,
    pub hold_after_effect: Option<Duration>,
    pub drop: bool,
}

/// What strikes one event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WebhookStrike {
    pub copies: u64,
    /// Held back, and sent in reverse.
    pub held_back_ms: Option<u64>,
    pub late_ms: u64,
    /// Each copy by its own random part of this.
    pub shuffled_ms: u64,
}

/// Does a fault's pattern cover this name?
pub(crate) type Covered<'c> = &'c dyn Fn(&str) -> bool;

/// A simulator that can be broken.
pub(crate) struct Breakable {
    pub name: &'static str,
    /// Has it an operation that the pattern covers?
    pub has_operation: fn(Covered<'_>) -> bool,
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
        providers: &[Breakable],
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
                Kind::Status => {
                    strike.refusal = u16::try_from(fault.value).ok().map(Refusal::Status)
                }
                Kind::LockTimeout => strike.refusal = Some(Refusal::LockTimeout),
                Kind::TimeoutAfterEffect => {
                    strike.hold_after_effect = Some(Duration::from_secs(fault.value))
                }
                Kind::Drop => strike.drop = true,
                Kind::DuplicateWebhook
                | Kind::ReorderWebhooks
                | Kind::NeverWebhook
                | Kind::LateWebhook
                | Kind::ShuffleWebhooks => {}
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
            late_ms: 0,
            shuffled_ms: 0,
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
                Kind::LateWebhook => strike.late_ms = strike.late_ms.saturating_add(fault.value),
                Kind::ShuffleWebhooks => strike.shuffled_ms = fault.value,
                Kind::Latency
                | Kind::Status
                | Kind::TimeoutAfterEffect
                | Kind::Drop
                | Kind::LockTimeout => {}
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
            && self.rate.is_none_or(|rate| {
                self.considered += 1;
                chance(self.seed, self.considered) < rate
            });
        if matches {
            self.fired += 1;
            self.count = self.count.map(|left| left - 1);
        }
        matches
    }
}

/// A number from 0 to below 1, the same for the same seed and place (SplitMix64).
fn chance(seed: u64, place: u64) -> f64 {
    let mut mixed = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let part = (mixed >> 11) as f64;
    part / (1_u64 << 53) as f64
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

fn parse(
    body: &Map<String, Value>,
    providers: &[Breakable],
) -> Result<Fault, Vec<(String, String)>> {
    let mut errors: Vec<(String, String)> = Vec::new();
    const FIELDS: [&str; 7] = [
        "provider",
        "operation",
        "kind",
        "value",
        "count",
        "rate",
        "seed",
    ];
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
    let meant = |one: &&Breakable| provider == "*" || provider == one.name;
    let known = providers.iter().any(|one| meant(&one));
    if !provider.is_empty() && !known {
        let names: Vec<&str> = providers.iter().map(|one| one.name).collect();
        errors.push((
            "provider".into(),
            format!("no such simulator; there are {}, or *", names.join(", ")),
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
        // Event types are the providers' to add to; their spelling is all that can be checked.
        Some(kind) if kind.concerns_webhooks() => operation
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b"_.-*".contains(&b)),
        Some(_) if !known => true,
        Some(_) => providers
            .iter()
            .filter(meant)
            .any(|one| (one.has_operation)(&|name| covers(&operation, name))),
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
            Kind::Latency | Kind::ReorderWebhooks | Kind::LateWebhook | Kind::ShuffleWebhooks => {
                0..=LONGEST_HOLD.as_secs() * 1000
            }
            Kind::Drop | Kind::NeverWebhook | Kind::LockTimeout => 0..=u64::MAX,
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
    let seed = match present("seed") {
        None => rand::random_range(0..=MOST_SEED),
        Some(seed) => seed
            .as_u64()
            .filter(|seed| *seed <= MOST_SEED)
            .unwrap_or_else(|| {
                let message = format!("must be a whole number from 0 to {MOST_SEED}");
                errors.push(("seed".into(), message));
                0
            }),
    };
    let (Some(kind), true) = (kind, errors.is_empty()) else {
        return Err(errors);
    };
    let value = value.unwrap_or(match kind {
        Kind::Latency => 1000,
        Kind::Status => 500,
        Kind::TimeoutAfterEffect => 10,
        Kind::DuplicateWebhook => 2,
        Kind::ReorderWebhooks | Kind::LateWebhook | Kind::ShuffleWebhooks => 1500,
        Kind::Drop | Kind::NeverWebhook | Kind::LockTimeout => 0,
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
        seed,
        considered: 0,
        fired: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_repeats_with_its_seed_and_is_as_rare_as_asked() {
        let struck = |seed: u64| -> Vec<u64> {
            let places = 1..=10_000;
            places.filter(|place| chance(seed, *place) < 0.1).collect()
        };
        assert_eq!(struck(7), struck(7));
        assert_ne!(struck(7), struck(8));
        for seed in 0..20 {
            let count = struck(seed).len();
            assert!((850..=1_150).contains(&count), "{seed}: {count}");
        }
    }
}
