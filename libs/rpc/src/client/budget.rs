//! How much may be tried again: a fifth of what is called, and a little always. When a peer is down for everybody,
//! retries then add a fifth to its load, and not twice as much.
//!
//! Deliberately absent: time. Tokens come from calls, so a quiet service has no storm saved up.

use std::sync::atomic::{AtomicI64, Ordering};

/// Tenths of a retry.
const PER_CALL: i64 = 2;
const RETRY: i64 = 10;
const MOST: i64 = 100;

/// A bucket that calls fill and retries empty.
#[derive(Debug)]
pub(crate) struct Budget(AtomicI64);

impl Budget {
    /// Full: ten retries at once.
    pub(crate) fn new() -> Self {
        Budget(AtomicI64::new(MOST))
    }

    /// A call was made.
    pub(crate) fn called(&self) {
        self.change(|held| Some((held + PER_CALL).min(MOST)));
    }

    /// Whether one more retry is in the budget; takes it.
    pub(crate) fn take(&self) -> bool {
        self.change(|held| held.checked_sub(RETRY).filter(|left| *left >= 0))
    }

    fn change(&self, next: impl Fn(i64) -> Option<i64>) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_down_gets_a_fifth_more_and_no_storm() {
        let budget = Budget::new();
        let mut retries = 0;
        for _ in 0..1000 {
            budget.called();
            while budget.take() {
                retries += 1;
            }
        }
        assert!((200..=210).contains(&retries), "{retries}");
    }
}
