//! How long to wait before the next try. Pure. Deliberately absent: counting; the rows do that.

use std::time::Duration;

/// Exponential from `base`, at most `cap`, with jitter: between half of that and all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub base: Duration,
    /// Never longer than this.
    pub cap: Duration,
}

impl Backoff {
    /// One second, doubling, at most an hour: twenty attempts span about nine hours.
    pub const JOBS: Backoff = Backoff {
        base: Duration::from_secs(1),
        cap: Duration::from_secs(3600),
    };

    /// Events keep other services up to date: never long behind.
    pub const EVENTS: Backoff = Backoff {
        base: Duration::from_millis(250),
        cap: Duration::from_secs(60),
    };

    /// The pause after `failures` failed attempts (1 or more). `random` is in 0..1.
    pub fn delay(self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        full.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// The same with a random of its own.
    pub fn jittered(self, failures: u32) -> Duration {
        self.delay(failures, rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_never_coincide() {
        let b = Backoff::JOBS;
        let seconds = |failures, random| b.delay(failures, random).as_secs_f64();
        assert_eq!(seconds(1, 1.0), 1.0);
        assert_eq!(seconds(1, 0.0), 0.5);
        assert_eq!(seconds(4, 1.0), 8.0);
        assert_eq!(seconds(40, 1.0), 3600.0);
        assert_eq!(seconds(u32::MAX, 0.0), 1800.0);
        assert!(seconds(0, 1.0) <= 1.0);
    }
}
