//! Owns how the simulated world changes: what one committed transaction is, and how one is made. A `Tx` stages;
//! `World::apply` is the only way state changes, live and at replay alike.
//!
//! - `world`: everything there is. `collection`: the objects of a kind with their indexes. `history`: events and the
//!   deliveries outstanding.
//!
//! Deliberately absent: what any object means. Providers keep private facts in top-level fields that begin with `_`;
//! those read here are `_due_at`, the second at which the object wants to be looked at again, and `_clock`, the clock
//! by which it lives where that is not the simulators' own.

mod collection;
mod history;
mod world;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use collection::By;
pub(crate) use history::{Moment, Told};
pub(crate) use world::World;

/// Text that is cloned by everyone who sends it: the `rc` feature of serde for one type.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

/// One committed transaction, one line of the journal.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put: Vec<Put>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<Delivery>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Settled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_seconds: Option<i64>,
}

impl Record {
    pub(crate) fn is_empty(&self) -> bool {
        self.put.is_empty()
            && self.events.is_empty()
            && self.deliveries.is_empty()
            && self.settled.is_empty()
            && self.answer.is_none()
            && self.clock_offset_seconds.is_none()
    }
}

/// An object as it now is; `object: null` removes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Put {
    pub kind: String,
    pub id: String,
    pub object: Value,
}

/// Something that happened, as webhooks tell it and as the events API lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventRecord {
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub created: i64,
    /// When it became known by the simulators' clock, where that is another second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<i64>,
    /// Whose event it is.
    #[serde(default = "stripe", skip_serializing_if = "is_stripe")]
    pub provider: String,
    /// The one who is told; where there is none, every endpoint that listens for the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Where, if the event itself says it rather than its endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The API operation that caused it (`subscriptions.create`, `clock.advance`).
    pub operation: String,
    /// The trace of the request that caused it; sent along with the deliveries, never part of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The exact text that is signed and sent.
    #[serde(with = "shared_text")]
    pub body: Arc<str>,
}

/// Journals older than the second provider do not say whose an event is.
fn stripe() -> String {
    crate::stripe::NAME.to_owned()
}

fn is_stripe(provider: &str) -> bool {
    provider == crate::stripe::NAME
}

impl EventRecord {
    /// The second from which its days of being kept are counted.
    pub(crate) fn kept_from(&self) -> i64 {
        self.recorded.unwrap_or(self.created)
    }
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub id: u64,
    pub event: String,
    pub endpoint: String,
    /// Wall time: the receiver does not live by the simulators' clock.
    pub due_ms: i64,
    #[serde(default)]
    pub attempts: u32,
}

/// What became of a delivery attempt.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Settled {
    Delivered { id: u64 },
    Retry { id: u64, attempts: u32, due_ms: i64 },
    GivenUp { id: u64 },
}

/// The first answer given under an idempotency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub key: String,
    pub fingerprint: String,
    pub status: u16,
    #[serde(with = "shared_text")]
    pub body: Arc<str>,
    pub request_id: String,
    pub created: i64,
}

/// Who caused a transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub operation: String,
    pub request_id: Option<String>,
    pub idempotency_key: Option<String>,
    pub traceparent: Option<String>,
}

fn id_of(object: &Value) -> &str {
    let id = object.get("id").or_else(|| object.get("sid"));
    id.and_then(Value::as_str).unwrap_or_default()
}

/// A transaction being made: reads see what it staged; nothing is real before its record is committed.
#[derive(Debug)]
pub(crate) struct Tx<'w> {
    world: &'w World,
    /// The simulators' second at which all of it happens.
    pub now: i64,
    pub origin: Origin,
    staged: Vec<Put>,
    /// Places in `staged` by id; ids of different kinds hardly ever meet.
    staged_at: HashMap<String, Vec<usize>>,
    events: Vec<EventRecord>,
}

impl<'w> Tx<'w> {
    pub(crate) fn new(world: &'w World, now: i64, origin: Origin) -> Tx<'w> {
        Tx {
            world,
            now,
            origin,
            staged: Vec::new(),
            staged_at: HashMap::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn world(&self) -> &'w World {
        self.world
    }

    fn staged(&self, kind: &str, id: &str) -> Option<usize> {
        let places = self.staged_at.get(id)?;
        places
            .iter()
            .copied()
            .find(|at| self.staged[*at].kind == kind)
    }

    pub(crate) fn get(&self, kind: &str, id: &str) -> Option<&Value> {
        match self.staged(kind, id) {
            Some(at) => Some(&self.staged[at].object).filter(|object| !object.is_null()),
            None => self.world.get(kind, id),
        }
    }

    /// Stages an object under its own `id` (Twilio says `sid`).
    pub(crate) fn put(&mut self, kind: &str, object: Value) {
        let id = id_of(&object).to_owned();
        self.stage(kind, id, object);
    }

    pub(crate) fn delete(&mut self, kind: &str, id: &str) {
        self.stage(kind, id.to_owned(), Value::Null);
    }

    fn stage(&mut self, kind: &str, id: String, object: Value) {
        if let Some(at) = self.staged(kind, &id) {
            self.staged[at].object = object;
            return;
        }
        self.staged_at
            .entry(id.clone())
            .or_default()
            .push(self.staged.len());
        self.staged.push(Put {
            kind: kind.to_owned(),
            id,
            object,
        });
    }

    /// Objects of a kind that satisfy `wanted`, newest first, as this transaction sees them.
    pub(crate) fn newest_first(
        &self,
        kind: &str,
        wanted: impl FnMut(&Value) -> bool,
    ) -> Vec<&Value> {
        self.select(kind, None, wanted)
    }

    /// The same by an index, where there may be many of the kind and few are meant.
    pub(crate) fn select(
        &self,
        kind: &str,
        by: Option<&By>,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Vec<&Value> {
        let covers = |object: &Value| by.is_none_or(|by| by.covers(object));
        let mut found: Vec<(u64, &Value)> = Vec::new();
        for (index, put) in self.staged.iter().enumerate() {
            if put.kind == kind && !put.object.is_null() && covers(&put.object) {
                // What is only being made is newer than anything there is.
                let fresh = u64::MAX / 2 + index as u64;
                let position = self.world.position(kind, &put.id).unwrap_or(fresh);
                found.push((position, &put.object));
            }
        }
        for (position, object) in self.world.newest_first(kind, by, None) {
            let id = id_of(object);
            if self.staged.is_empty() || self.staged(kind, id).is_none() {
                found.push((position, object));
            }
        }
        if !self.staged.is_empty() {
            found.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
        }
        found
            .into_iter()
            .map(|(_, object)| object)
            .filter(|object| wanted(object))
            .collect()
    }

    pub(crate) fn event(&mut self, mut event: EventRecord) {
        let now = self.world.now();
        event.recorded = (event.created != now).then_some(now);
        self.events.push(event);
    }

    /// What the transaction did, ready to be committed.
    pub(crate) fn into_record(self) -> Record {
        Record {
            put: self.staged,
            events: self.events,
            ..Record::default()
        }
    }
}
