//! How calls went in the last five minutes: sixty slots of five seconds, so that a number shown is of now and its memory
//! is the same at any load. Deliberately absent: percentiles and history; those are for a metrics store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const SLOTS: usize = 60;
const SLOT_SECONDS: u64 = 5;

/// Counts what ended. Clones count together.
#[derive(Clone)]
pub struct Window(Arc<Inner>);

struct Inner {
    since: Instant,
    slots: Mutex<[Slot; SLOTS]>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// Which slot since the start this is; the ring reuses places.
    number: u64,
    ended: u64,
    failed: u64,
    micros: u64,
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many ended.
    pub requests: u64,
    /// Of these, how many failed.
    pub failures: u64,
    /// How long they took together.
    pub took: Duration,
}

impl Summary {
    /// The part that failed; 0 when there was none.
    #[expect(clippy::cast_precision_loss, reason = "shown, not counted with")]
    pub fn error_rate(&self) -> f64 {
        match self.requests {
            0 => 0.0,
            requests => self.failures as f64 / requests as f64,
        }
    }

    /// The average time in milliseconds, to a hundredth.
    #[expect(clippy::cast_precision_loss, reason = "shown, not counted with")]
    pub fn mean_latency_ms(&self) -> Option<f64> {
        let mean = self.took.as_secs_f64() * 1000.0 / self.requests.max(1) as f64;
        (self.requests > 0).then(|| (mean * 100.0).round() / 100.0)
    }
}

impl Default for Window {
    fn default() -> Self {
        Window(Arc::new(Inner {
            since: Instant::now(),
            slots: Mutex::new([Slot::default(); SLOTS]),
        }))
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({:?})", self.summary())
    }
}

impl Window {
    /// Something ended now.
    pub fn count(&self, failed: bool, took: Duration) {
        self.count_at(self.0.since.elapsed(), failed, took);
    }

    /// The last five minutes.
    pub fn summary(&self) -> Summary {
        self.summary_at(self.0.since.elapsed())
    }

    fn count_at(&self, now: Duration, failed: bool, took: Duration) {
        // From 1, so that a fresh slot is of no time.
        let number = now.as_secs() / SLOT_SECONDS + 1;
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[(number % SLOTS as u64) as usize];
        if slot.number != number {
            *slot = Slot {
                number,
                ..Slot::default()
            };
        }
        slot.ended += 1;
        slot.failed += u64::from(failed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        slot.micros = slot.micros.saturating_add(micros);
    }

    fn summary_at(&self, now: Duration) -> Summary {
        let number = now.as_secs() / SLOT_SECONDS + 1;
        let slots = *self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = slots
            .iter()
            .filter(|slot| slot.number + SLOTS as u64 > number);
        recent.fold(Summary::default(), |sum, slot| Summary {
            requests: sum.requests + slot.ended,
            failures: sum.failures + slot.failed,
            took: sum.took + Duration::from_micros(slot.micros),
        })
    }
}

/// How often a cache could answer, in the last five minutes. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct HitRate(Window);

impl HitRate {
    /// It could, or it could not.
    pub fn count(&self, hit: bool) {
        self.0.count(!hit, Duration::ZERO);
    }

    /// Under this name.
    pub fn cache(&self, name: &'static str) -> super::Cache {
        let summary = self.0.summary();
        super::Cache {
            name,
            lookups: summary.requests,
            hits: summary.requests - summary.failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_ended_more_than_five_minutes_ago_is_forgotten() {
        let window = Window::default();
        assert_eq!(window.summary_at(Duration::ZERO), Summary::default());
        assert_eq!(window.summary_at(Duration::ZERO).mean_latency_ms(), None);
        window.count_at(Duration::ZERO, true, Duration::from_millis(30));
        window.count_at(MINUTE, false, Duration::from_millis(10));
        let both = window.summary_at(2 * MINUTE);
        assert_eq!((both.requests, both.error_rate()), (2, 0.5));
        assert_eq!(both.mean_latency_ms(), Some(20.0));
        let one = window.summary_at(5 * MINUTE);
        assert_eq!((one.requests, one.failures), (1, 0));
        assert_eq!(window.summary_at(60 * MINUTE), Summary::default());
        // A place of the ring is used again, without what it held.
        window.count_at(6 * MINUTE, false, Duration::ZERO);
        assert_eq!(window.summary_at(6 * MINUTE).requests, 1);
    }

    #[test]
    fn a_cache_counts_what_it_could_answer() {
        let rate = HitRate::default();
        for hit in [true, false, true, true] {
            rate.count(hit);
        }
        let cache = rate.cache("tokens");
        assert_eq!((cache.lookups, cache.hits), (4, 3));
        assert_eq!(cache.hit_rate(), Some(0.75));
    }
}
