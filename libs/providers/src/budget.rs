//! How much may be tried again: a fifth of the calls, and ten a second besides.
//!
//! Deliberately absent: a queue. What is over the budget is not tried later; it is told as it is.

use std::time::{Duration, Instant};

// In thousandths of a retry, so that fifths add up.
const RETRY: u64 = 1000;
const PER_CALL: u64 = 200;
const PER_MILLISECOND: u64 = 10;
const MOST: u64 = 20 * RETRY;

#[derive(Debug)]
pub(crate) struct Budget {
    held: u64,
    filled: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Budget {
            held: 10 * RETRY,
            filled: now,
        }
    }

    pub(crate) fn called(&mut self) {
        self.held = (self.held + PER_CALL).min(MOST);
    }

    /// Whether one more retry is in the budget; takes it.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since =
            u64::try_from(now.saturating_duration_since(self.filled).as_millis()).unwrap_or(MOST);
        self.filled += Duration::from_millis(since);
        self.held = since
            .saturating_mul(PER_MILLISECOND)
            .saturating_add(self.held)
            .min(MOST);
        let there = self.held >= RETRY;
        if there {
            self.held -= RETRY;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_failures_adds_a_fifth_and_ten_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut storm = |now: Instant, calls: u32| {
            (0..calls).fold(0, |mut retries, _| {
                budget.called();
                while budget.take(now) {
                    retries += 1;
                }
                retries
            })
        };
        assert_eq!(storm(start, 500), 110);
        assert_eq!(storm(start + Duration::from_secs(1), 0), 0);
        assert_eq!(storm(start + Duration::from_secs(1), 1), 10);
    }
}
