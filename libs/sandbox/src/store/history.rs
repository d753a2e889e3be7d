//! Owns events and their outstanding deliveries, bounded in number and in bytes.
//!
//! Deliberately absent: sending (`crate::webhooks`), and the thirty days of the events API (`stripe::event`): what is
//! older than that is kept here as long as there is room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Delivery, EventRecord, Settled};

/// Beyond this many events or bytes of them the oldest are forgotten; one still to be delivered only beyond twice as
/// much. A hundred thousand generated events, three quarters of which are invoices and subscriptions, are half of it.
const EVENTS_KEPT: usize = 250_000;
const BYTES_KEPT: usize = 1 << 30;

#[derive(Debug)]
struct Kept {
    record: Arc<EventRecord>,
    sequence: u64,
    outstanding: Vec<u64>,
    given_up: bool,
}

/// An event with what became of its deliveries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'h> {
    pub record: &'h EventRecord,
    pub outstanding: usize,
    pub given_up: bool,
}

/// A place in the order of events: by the second at which they happened, then as they were recorded.
pub(crate) type Moment = (i64, u64);

#[derive(Debug, Default)]
pub(super) struct History {
    events: HashMap<String, Kept>,
    order: BTreeMap<Moment, String>,
    bytes: usize,
    sequence: u64,
    deliveries: BTreeMap<u64, Delivery>,
    due: BTreeSet<(i64, u64)>,
    last_delivery: u64,
}

impl History {
    pub(super) fn event(&self, id: &str) -> Option<Arc<EventRecord>> {
        self.events.get(id).map(|kept| Arc::clone(&kept.record))
    }

    pub(super) fn moment(&self, id: &str) -> Option<Moment> {
        let kept = self.events.get(id)?;
        Some((kept.record.created, kept.sequence))
    }

    pub(super) fn between(
        &self,
        range: impl std::ops::RangeBounds<Moment>,
    ) -> impl DoubleEndedIterator<Item = Told<'_>> {
        self.order.range(range).filter_map(|(_, id)| self.told(id))
    }

    fn told(&self, id: &str) -> Option<Told<'_>> {
        self.events.get(id).map(|kept| Told {
            record: &kept.record,
            outstanding: kept.outstanding.len(),
            given_up: kept.given_up,
        })
    }

    pub(super) fn outstanding(&self, event: &str) -> usize {
        self.events
            .get(event)
            .map_or(0, |kept| kept.outstanding.len())
    }

    pub(super) fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.values()
    }

    pub(super) fn delivery(&self, id: u64) -> Option<&Delivery> {
        self.deliveries.get(&id)
    }

    pub(super) fn deliveries_by_due(&self) -> impl Iterator<Item = &Delivery> {
        self.due
            .iter()
            .filter_map(|(_, id)| self.deliveries.get(id))
    }

    pub(super) fn next_delivery_id(&self) -> u64 {
        self.last_delivery + 1
    }

    pub(super) fn record(&mut self, event: EventRecord) {
        self.sequence += 1;
        self.bytes += event.body.len();
        self.order
            .insert((event.created, self.sequence), event.id.clone());
        let kept = Kept {
            sequence: self.sequence,
            record: Arc::new(event),
            outstanding: Vec::new(),
            given_up: false,
        };
        self.events.insert(kept.record.id.clone(), kept);
    }

    pub(super) fn send(&mut self, delivery: Delivery) {
        self.last_delivery = self.last_delivery.max(delivery.id);
        if let Some(kept) = self.events.get_mut(&delivery.event) {
            kept.outstanding.push(delivery.id);
            self.due.insert((delivery.due_ms, delivery.id));
            self.deliveries.insert(delivery.id, delivery);
        }
    }

    pub(super) fn settle(&mut self, settled: &Settled) {
        match *settled {
            Settled::Retry {
                id,
                attempts,
                due_ms,
            } => {
                if let Some(delivery) = self.deliveries.get_mut(&id) {
                    self.due.remove(&(delivery.due_ms, id));
                    self.due.insert((due_ms, id));
                    delivery.attempts = attempts;
                    delivery.due_ms = due_ms;
                }
            }
            Settled::Delivered { id } | Settled::GivenUp { id } => {
                let Some(delivery) = self.deliveries.remove(&id) else {
                    return;
                };
                self.due.remove(&(delivery.due_ms, id));
                if let Some(kept) = self.events.get_mut(&delivery.event) {
                    kept.outstanding.retain(|outstanding| *outstanding != id);
                    kept.given_up |= matches!(settled, Settled::GivenUp { .. });
                }
            }
        }
    }

    pub(super) fn forget_old(&mut self) {
        while self.order.len() > EVENTS_KEPT || self.bytes > BYTES_KEPT {
            let Some((moment, oldest)) = self.order.first_key_value() else {
                return;
            };
            let (moment, oldest) = (*moment, oldest.clone());
            let outstanding = self
                .events
                .get(&oldest)
                .map(|kept| kept.outstanding.clone())
                .unwrap_or_default();
            if !outstanding.is_empty()
                && self.order.len() <= 2 * EVENTS_KEPT
                && self.bytes <= 2 * BYTES_KEPT
            {
                return;
            }
            // A receiver that has been away for this long loses the oldest, as with the real provider.
            for id in outstanding {
                self.settle(&Settled::GivenUp { id });
            }
            if let Some(kept) = self.events.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(kept.record.body.len());
            }
            self.order.remove(&moment);
        }
    }

    /// Every event in the order in which it was recorded, with its outstanding deliveries.
    pub(super) fn snapshot(&self) -> impl Iterator<Item = (EventRecord, Vec<Delivery>)> {
        let mut kept: Vec<&Kept> = self.events.values().collect();
        kept.sort_by_key(|kept| kept.sequence);
        kept.into_iter().map(|kept| {
            let outstanding = kept.outstanding.iter();
            let outstanding = outstanding.filter_map(|id| self.deliveries.get(id).cloned());
            (kept.record.as_ref().clone(), outstanding.collect())
        })
    }
}
