//! Owns the simulated world: objects, events, stored answers and pending deliveries, and how one transaction changes
//! them. A `Tx` stages; `World::apply` is the only way state changes, live and at replay alike.
//!
//! Deliberately absent: what any object means. Providers keep private facts in top-level fields that begin with `_`;
//! the one this file reads is `_due_at`, the second at which the object wants to be looked at again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Events beyond this many are forgotten, oldest first; one still to be delivered only beyond twice as many.
const EVENTS_KEPT: usize = 20_000;
/// Stored answers beyond this many are forgotten, oldest first.
const ANSWERS_KEPT: usize = 50_000;
/// Stripe may prune idempotency keys after a day; the simulator always does, so that nobody relies on more.
pub(crate) const ANSWERS_KEPT_SECONDS: i64 = 24 * 3600;

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
    /// The API operation that caused it (`subscriptions.create`, `clock.advance`).
    pub operation: String,
    /// The trace of the request that caused it; sent along with the deliveries, never part of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The exact text that is signed and sent.
    #[serde(with = "shared_text")]
    pub body: Arc<str>,
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

#[derive(Debug, Default)]
struct Collection {
    by_id: HashMap<String, (u64, Value)>,
    order: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct KeptEvent {
    record: Arc<EventRecord>,
    pending: usize,
    given_up: bool,
}

/// Everything the simulators know.
#[derive(Debug, Default)]
pub(crate) struct World {
    collections: HashMap<String, Collection>,
    events: HashMap<String, KeptEvent>,
    event_order: VecDeque<String>,
    deliveries: BTreeMap<u64, Delivery>,
    deliveries_due: BTreeSet<(i64, u64)>,
    answers: HashMap<String, Answer>,
    answer_order: VecDeque<(i64, String)>,
    due: BTreeSet<(i64, String, String)>,
    sequence: u64,
    delivery_sequence: u64,
    clock_offset_seconds: i64,
}

impl World {
    pub(crate) fn now(&self) -> i64 {
        crate::clock::simulated_seconds(self.clock_offset_seconds)
    }

    pub(crate) fn clock_offset_seconds(&self) -> i64 {
        self.clock_offset_seconds
    }

    pub(crate) fn get(&self, kind: &str, id: &str) -> Option<&Value> {
        self.collections
            .get(kind)?
            .by_id
            .get(id)
            .map(|(_, object)| object)
    }

    /// Objects of a kind, oldest first.
    pub(crate) fn oldest_first(&self, kind: &str) -> impl DoubleEndedIterator<Item = &Value> {
        self.collections.get(kind).into_iter().flat_map(|c| {
            c.order
                .values()
                .filter_map(move |id| c.by_id.get(id).map(|(_, object)| object))
        })
    }

    pub(crate) fn event(&self, id: &str) -> Option<Arc<EventRecord>> {
        self.events.get(id).map(|kept| Arc::clone(&kept.record))
    }

    /// Events, oldest first, each with the number of deliveries outstanding and whether one was given up.
    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = (&EventRecord, usize, bool)> {
        self.event_order
            .iter()
            .filter_map(|id| self.events.get(id))
            .map(|kept| (kept.record.as_ref(), kept.pending, kept.given_up))
    }

    pub(crate) fn pending_deliveries(&self, event: &str) -> usize {
        self.events.get(event).map_or(0, |kept| kept.pending)
    }

    pub(crate) fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.values()
    }

    pub(crate) fn delivery(&self, id: u64) -> Option<&Delivery> {
        self.deliveries.get(&id)
    }

    /// Deliveries in the order in which they want to leave.
    pub(crate) fn deliveries_by_due(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries_due
            .iter()
            .filter_map(|(_, id)| self.deliveries.get(id))
    }

    pub(crate) fn next_delivery_id(&self) -> u64 {
        self.delivery_sequence + 1
    }

    /// The stored answer of a key, unless it is past its day.
    pub(crate) fn answer(&self, key: &str) -> Option<&Answer> {
        let now = self.now();
        self.answers
            .get(key)
            .filter(|answer| now - answer.created < ANSWERS_KEPT_SECONDS)
    }

    /// The first object whose time has come by `now`: (second, kind, id).
    pub(crate) fn next_due(&self, now: i64) -> Option<(i64, String, String)> {
        self.due.first().filter(|(at, _, _)| *at <= now).cloned()
    }

    /// Applies one transaction. Infallible by design: a line that was answered for must always replay.
    pub(crate) fn apply(&mut self, record: Record) {
        for put in record.put {
            self.put(put);
        }
        for event in record.events {
            self.event_order.push_back(event.id.clone());
            let kept = KeptEvent {
                record: Arc::new(event),
                pending: 0,
                given_up: false,
            };
            self.events.insert(kept.record.id.clone(), kept);
        }
        for delivery in record.deliveries {
            self.delivery_sequence = self.delivery_sequence.max(delivery.id);
            if let Some(kept) = self.events.get_mut(&delivery.event) {
                kept.pending += 1;
                self.deliveries_due.insert((delivery.due_ms, delivery.id));
                self.deliveries.insert(delivery.id, delivery);
            }
        }
        for settled in record.settled {
            self.settle(&settled);
        }
        if let Some(answer) = record.answer {
            self.remember(answer);
        }
        if let Some(offset) = record.clock_offset_seconds {
            self.clock_offset_seconds = offset;
        }
        self.forget_old_events();
    }

    fn put(&mut self, put: Put) {
        let collection = self.collections.entry(put.kind.clone()).or_default();
        let previous = collection.by_id.remove(&put.id);
        if let Some(at) = previous.as_ref().and_then(|(_, object)| due_at(object)) {
            self.due.remove(&(at, put.kind.clone(), put.id.clone()));
        }
        if put.object.is_null() {
            if let Some((sequence, _)) = previous {
                collection.order.remove(&sequence);
            }
            return;
        }
        let sequence = previous.map_or_else(
            || {
                self.sequence += 1;
                self.sequence
            },
            |(sequence, _)| sequence,
        );
        if let Some(at) = due_at(&put.object) {
            self.due.insert((at, put.kind, put.id.clone()));
        }
        collection.order.insert(sequence, put.id.clone());
        collection.by_id.insert(put.id, (sequence, put.object));
    }

    fn settle(&mut self, settled: &Settled) {
        match *settled {
            Settled::Retry {
                id,
                attempts,
                due_ms,
            } => {
                if let Some(delivery) = self.deliveries.get_mut(&id) {
                    self.deliveries_due.remove(&(delivery.due_ms, id));
                    self.deliveries_due.insert((due_ms, id));
                    delivery.attempts = attempts;
                    delivery.due_ms = due_ms;
                }
            }
            Settled::Delivered { id } | Settled::GivenUp { id } => {
                let Some(delivery) = self.deliveries.remove(&id) else {
                    return;
                };
                self.deliveries_due.remove(&(delivery.due_ms, id));
                if let Some(kept) = self.events.get_mut(&delivery.event) {
                    kept.pending = kept.pending.saturating_sub(1);
                    kept.given_up |= matches!(settled, Settled::GivenUp { .. });
                }
            }
        }
    }

    fn remember(&mut self, answer: Answer) {
        let horizon = answer.created - ANSWERS_KEPT_SECONDS;
        while let Some((created, key)) = self.answer_order.front() {
            if *created > horizon && self.answer_order.len() < ANSWERS_KEPT {
                break;
            }
            // The key may have been used anew after its day; only its own entry goes.
            if self
                .answers
                .get(key)
                .is_some_and(|kept| kept.created == *created)
            {
                self.answers.remove(key);
            }
            self.answer_order.pop_front();
        }
        self.answer_order
            .push_back((answer.created, answer.key.clone()));
        self.answers.insert(answer.key.clone(), answer);
    }

    fn forget_old_events(&mut self) {
        while self.event_order.len() > EVENTS_KEPT {
            let Some(oldest) = self.event_order.front().cloned() else {
                return;
            };
            if self.pending_deliveries(&oldest) > 0 {
                if self.event_order.len() <= 2 * EVENTS_KEPT {
                    return;
                }
                // A receiver that has been away for this long loses the oldest, as with the real provider.
                let theirs: Vec<u64> = self
                    .deliveries
                    .values()
                    .filter(|d| d.event == oldest)
                    .map(|d| d.id)
                    .collect();
                for id in theirs {
                    self.settle(&Settled::GivenUp { id });
                }
            }
            self.events.remove(&oldest);
            self.event_order.pop_front();
        }
    }

    /// The state as transactions that lead to it, for compaction.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Record> {
        let mut objects: Vec<(u64, Put)> = self
            .collections
            .iter()
            .flat_map(|(kind, collection)| {
                collection
                    .by_id
                    .iter()
                    .map(move |(id, (sequence, object))| {
                        (
                            *sequence,
                            Put {
                                kind: kind.clone(),
                                id: id.clone(),
                                object: object.clone(),
                            },
                        )
                    })
            })
            .collect();
        objects.sort_by_key(|(sequence, _)| *sequence);
        let clock = Record {
            clock_offset_seconds: Some(self.clock_offset_seconds),
            ..Record::default()
        };
        let objects = objects.into_iter().map(|(_, put)| Record {
            put: vec![put],
            ..Record::default()
        });
        let mut outstanding: HashMap<&str, Vec<Delivery>> = HashMap::new();
        for delivery in self.deliveries.values() {
            outstanding
                .entry(&delivery.event)
                .or_default()
                .push(delivery.clone());
        }
        let events = self.event_order.iter().filter_map(|id| self.events.get(id));
        let events = events.map(move |kept| Record {
            events: vec![kept.record.as_ref().clone()],
            deliveries: outstanding
                .remove(kept.record.id.as_str())
                .unwrap_or_default(),
            ..Record::default()
        });
        let answers = self
            .answer_order
            .iter()
            .filter_map(|(_, key)| self.answers.get(key))
            .map(|answer| Record {
                answer: Some(answer.clone()),
                ..Record::default()
            });
        std::iter::once(clock)
            .chain(objects)
            .chain(events)
            .chain(answers)
    }
}

fn due_at(object: &Value) -> Option<i64> {
    object.get("_due_at").and_then(Value::as_i64)
}

/// Who caused a transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub operation: String,
    pub request_id: Option<String>,
    pub idempotency_key: Option<String>,
    pub traceparent: Option<String>,
}

/// A transaction being made: reads see what it staged; nothing is real before its record is committed.
#[derive(Debug)]
pub(crate) struct Tx<'w> {
    world: &'w World,
    /// The simulators' second at which all of it happens.
    pub now: i64,
    pub origin: Origin,
    staged: Vec<Put>,
    staged_at: HashMap<(String, String), usize>,
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

    pub(crate) fn get(&self, kind: &str, id: &str) -> Option<&Value> {
        match self.staged_at.get(&(kind.to_owned(), id.to_owned())) {
            Some(&at) => Some(&self.staged[at].object).filter(|object| !object.is_null()),
            None => self.world.get(kind, id),
        }
    }

    /// Stages an object under its own `id`.
    pub(crate) fn put(&mut self, kind: &str, object: Value) {
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        self.stage(kind, id, object);
    }

    pub(crate) fn delete(&mut self, kind: &str, id: &str) {
        self.stage(kind, id.to_owned(), Value::Null);
    }

    fn stage(&mut self, kind: &str, id: String, object: Value) {
        let key = (kind.to_owned(), id.clone());
        if let Some(&at) = self.staged_at.get(&key) {
            self.staged[at].object = object;
        } else {
            self.staged_at.insert(key, self.staged.len());
            self.staged.push(Put {
                kind: kind.to_owned(),
                id,
                object,
            });
        }
    }

    /// Objects of a kind that satisfy `wanted`, newest first, as this transaction sees them.
    pub(crate) fn newest_first(
        &self,
        kind: &str,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Vec<&Value> {
        let mut found: Vec<&Value> = Vec::new();
        for put in self.staged.iter().rev() {
            let fresh = put.kind == kind
                && !put.object.is_null()
                && self.world.get(kind, &put.id).is_none();
            if fresh && wanted(&put.object) {
                found.push(&put.object);
            }
        }
        for object in self.world.oldest_first(kind).rev() {
            let current = match object["id"].as_str() {
                Some(id) if !self.staged.is_empty() => self.get(kind, id),
                _ => Some(object),
            };
            if let Some(current) = current.filter(|current| wanted(current)) {
                found.push(current);
            }
        }
        found
    }

    pub(crate) fn event(&mut self, event: EventRecord) {
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
