//! Owns everything the simulators know, and what one transaction does to it.
//!
//! Deliberately absent: locks and files; `crate::core` has them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use super::collection::{By, Collection, metadata_key};
use super::history::{History, Moment, Told};
use super::{Answer, Delivery, EventRecord, Put, Record, Settled};

/// Stored answers beyond this many are forgotten, oldest first.
const ANSWERS_KEPT: usize = 50_000;
/// Stripe may prune idempotency keys after a day; the simulator always does, so that nobody relies on more.
pub(crate) const ANSWERS_KEPT_SECONDS: i64 = 24 * 3600;

/// When an object wants to be looked at again: second, kind, position, id. Of a kind and a second, the oldest comes first.
type Due = (i64, String, u64, String);

/// Everything the simulators know.
#[derive(Debug, Default)]
pub(crate) struct World {
    collections: HashMap<String, Collection>,
    history: History,
    answers: HashMap<String, Answer>,
    answer_order: VecDeque<(i64, String)>,
    due: BTreeSet<Due>,
    /// What lives by a clock of its own, by that clock.
    due_elsewhere: HashMap<String, BTreeSet<Due>>,
    sequence: u64,
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
        self.collections.get(kind)?.get(id)
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.collections.get(kind).map_or(0, Collection::len)
    }

    /// Where an object stands among those of its kind: the younger, the higher. It keeps its place when it changes.
    pub(crate) fn position(&self, kind: &str, id: &str) -> Option<u64> {
        self.collections.get(kind)?.position(id)
    }

    /// Objects of a kind, oldest first.
    pub(crate) fn oldest_first(&self, kind: &str) -> impl DoubleEndedIterator<Item = &Value> {
        self.between(kind, None, (Bound::Unbounded, Bound::Unbounded))
            .map(|(_, object)| object)
    }

    /// Objects older than the one at `below`, newest first.
    pub(crate) fn newest_first<'w>(
        &'w self,
        kind: &str,
        by: Option<&By>,
        below: Option<u64>,
    ) -> impl Iterator<Item = (u64, &'w Value)> {
        let below = below.map_or(Bound::Unbounded, Bound::Excluded);
        self.between(kind, by.map(By::key), (Bound::Unbounded, below))
            .rev()
    }

    /// Objects younger than the one at `above`, oldest first.
    pub(crate) fn younger<'w>(
        &'w self,
        kind: &str,
        by: Option<&By>,
        above: u64,
    ) -> impl Iterator<Item = (u64, &'w Value)> {
        let above = Bound::Excluded(above);
        self.between(kind, by.map(By::key), (above, Bound::Unbounded))
    }

    /// Objects whose metadata has this entry, upper and lower case alike, newest first.
    pub(crate) fn by_metadata<'w>(
        &'w self,
        kind: &str,
        name: &str,
        value: &str,
    ) -> impl Iterator<Item = &'w Value> {
        let key = metadata_key(name, value);
        self.between(kind, Some(&key), (Bound::Unbounded, Bound::Unbounded))
            .rev()
            .map(|(_, object)| object)
    }

    fn between<'w>(
        &'w self,
        kind: &str,
        key: Option<&str>,
        range: (Bound<u64>, Bound<u64>),
    ) -> Box<dyn DoubleEndedIterator<Item = (u64, &'w Value)> + 'w> {
        match self.collections.get(kind) {
            Some(collection) => collection.between(key, range),
            None => Box::new(std::iter::empty()),
        }
    }

    pub(crate) fn event(&self, id: &str) -> Option<Arc<EventRecord>> {
        self.history.event(id)
    }

    pub(crate) fn moment(&self, event: &str) -> Option<Moment> {
        self.history.moment(event)
    }

    /// Events within a range of moments, oldest first.
    pub(crate) fn events(
        &self,
        range: impl std::ops::RangeBounds<Moment>,
    ) -> impl DoubleEndedIterator<Item = Told<'_>> {
        self.history.between(range)
    }

    pub(crate) fn pending_deliveries(&self, event: &str) -> usize {
        self.history.outstanding(event)
    }

    pub(crate) fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.history.deliveries()
    }

    pub(crate) fn delivery(&self, id: u64) -> Option<&Delivery> {
        self.history.delivery(id)
    }

    /// Deliveries in the order in which they want to leave.
    pub(crate) fn deliveries_by_due(&self) -> impl Iterator<Item = &Delivery> {
        self.history.deliveries_by_due()
    }

    pub(crate) fn next_delivery_id(&self) -> u64 {
        self.history.next_delivery_id()
    }

    /// The stored answer of a key, unless it is past its day.
    pub(crate) fn answer(&self, key: &str) -> Option<&Answer> {
        let now = self.now();
        self.answers
            .get(key)
            .filter(|answer| now - answer.created < ANSWERS_KEPT_SECONDS)
    }

    /// The first object whose time has come by `now`, by the simulators' clock or by `clock`: (second, kind, id).
    pub(crate) fn next_due(&self, clock: Option<&str>, now: i64) -> Option<(i64, String, String)> {
        let due = match clock {
            Some(clock) => self.due_elsewhere.get(clock)?,
            None => &self.due,
        };
        let (at, kind, _, id) = due.first().filter(|(at, ..)| *at <= now)?;
        Some((*at, kind.clone(), id.clone()))
    }

    /// Applies one transaction. Infallible by design: a line that was answered for must always replay.
    pub(crate) fn apply(&mut self, record: Record) {
        for put in record.put {
            self.put(put);
        }
        for event in record.events {
            self.history.record(event);
        }
        for delivery in record.deliveries {
            self.history.send(delivery);
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
        self.history.forget_old();
    }

    fn settle(&mut self, settled: &Settled) {
        self.history.settle(settled);
    }

    fn put(&mut self, put: Put) {
        let collection = self.collections.entry(put.kind.clone()).or_default();
        let previous = collection.remove(&put.id);
        let was_due = previous.as_ref().and_then(|(position, object)| {
            let (at, clock) = due_at(object)?;
            Some((at, clock, *position))
        });
        if let Some((at, clock, position)) = was_due {
            let due = match &clock {
                Some(clock) => self.due_elsewhere.get_mut(clock),
                None => Some(&mut self.due),
            };
            if let Some(due) = due {
                due.remove(&(at, put.kind.clone(), position, put.id.clone()));
            }
            if let Some(clock) = clock
                && self
                    .due_elsewhere
                    .get(&clock)
                    .is_some_and(BTreeSet::is_empty)
            {
                self.due_elsewhere.remove(&clock);
            }
        }
        if put.object.is_null() {
            return;
        }
        let position = previous.map_or_else(
            || {
                self.sequence += 1;
                self.sequence
            },
            |(position, _)| position,
        );
        if let Some((at, clock)) = due_at(&put.object) {
            let due = match clock {
                Some(clock) => self.due_elsewhere.entry(clock).or_default(),
                None => &mut self.due,
            };
            due.insert((at, put.kind, position, put.id.clone()));
        }
        collection.insert(put.id, position, put.object);
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

    /// The state as transactions that lead to it, for compaction.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Record> {
        let mut objects: Vec<(u64, &str, &str, &Value)> = self
            .collections
            .iter()
            .flat_map(|(kind, collection)| {
                collection.all().map(move |(id, position, object)| {
                    (position, kind.as_str(), id.as_str(), object)
                })
            })
            .collect();
        objects.sort_by_key(|(position, ..)| *position);
        let clock = Record {
            clock_offset_seconds: Some(self.clock_offset_seconds),
            ..Record::default()
        };
        let objects = objects.into_iter().map(|(_, kind, id, object)| Record {
            put: vec![Put {
                kind: kind.to_owned(),
                id: id.to_owned(),
                object: object.clone(),
            }],
            ..Record::default()
        });
        let events = self.history.snapshot().map(|(event, deliveries)| Record {
            events: vec![event],
            deliveries,
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

fn due_at(object: &Value) -> Option<(i64, Option<String>)> {
    let at = object.get("_due_at").and_then(Value::as_i64)?;
    let clock = object.get("_clock").and_then(Value::as_str);
    Some((at, clock.map(str::to_owned)))
}
