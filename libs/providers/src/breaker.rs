//! When a provider fails, we stop asking for a while: calls then fail at once and certainly unsent, instead of waiting
//! for a time-out whose outcome nobody knows.
//!
//! ```text
//!            half of the last calls failed
//!   closed ────────────────────────────────▶ open
//!     ▲                                      │ the pause is over
//!     │ a probe succeeds                     ▼
//!     └───────────────────────────────── half open ──▶ open, for twice as long, when a probe fails
//! ```
//!
//! Deliberately absent: time and randomness of its own; both are passed in, so that the rules are plain to test.

use std::time::{Duration, Instant};

/// The last calls that are judged.
const WINDOW: usize = 20;
/// Fewer calls than this say nothing.
const LEAST: usize = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How the breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls go out.
    Closed,
    /// Calls fail at once.
    Open,
    /// One call at a time goes out to see.
    HalfOpen,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    /// Newest last; true is a failure.
    recent: Vec<bool>,
    open: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    length: Duration,
    /// When the probe went out. A probe whose caller vanished is forgotten after the longest pause.
    probing: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Breaker {
            recent: Vec::with_capacity(WINDOW),
            open: None,
        }
    }

    pub(crate) fn state(&self, now: Instant) -> State {
        match &self.open {
            None => State::Closed,
            Some(pause) if now < pause.until => State::Open,
            Some(_) => State::HalfOpen,
        }
    }

    /// Whether a call may go out; otherwise, how long it is to wait.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(pause) = &mut self.open else {
            return Ok(());
        };
        if now < pause.until {
            return Err(pause.until - now);
        }
        if pause
            .probing
            .is_some_and(|since| now < since + LONGEST_PAUSE)
        {
            return Err(FIRST_PAUSE);
        }
        pause.probing = Some(now);
        Ok(())
    }

    /// How a call that was admitted ended. `jitter` between 0 and 1 spreads the probes of many processes.
    pub(crate) fn ended(&mut self, failed: bool, now: Instant, jitter: f64) {
        match &mut self.open {
            Some(pause) if now >= pause.until => {
                if failed {
                    let length = (pause.length * 2).min(LONGEST_PAUSE);
                    self.open = Some(Pause {
                        until: now + length.mul_f64(0.75 + jitter / 2.0),
                        length,
                        probing: None,
                    });
                } else {
                    self.open = None;
                    self.recent.clear();
                }
            }
            // A call from before it opened; it changes nothing.
            Some(_) => {}
            None => {
                if self.recent.len() == WINDOW {
                    self.recent.remove(0);
                }
                self.recent.push(failed);
                let failures = self.recent.iter().filter(|failed| **failed).count();
                if self.recent.len() >= LEAST && failures * 2 >= self.recent.len() {
                    self.recent.clear();
                    let until = now + FIRST_PAUSE.mul_f64(0.75 + jitter / 2.0);
                    self.open = Some(Pause {
                        until,
                        length: FIRST_PAUSE,
                        probing: None,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_failing_provider_is_left_alone_and_asked_again_by_one() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for _ in 0..LEAST {
            assert_eq!(breaker.admit(start), Ok(()));
            breaker.ended(true, start, 0.5);
        }
        assert_eq!(breaker.state(start), State::Open);
        assert_eq!(breaker.admit(start), Err(FIRST_PAUSE));
        assert_eq!(breaker.state(after(start, 2)), State::HalfOpen);
        assert_eq!(breaker.admit(after(start, 2)), Ok(()), "one probe");
        assert!(breaker.admit(after(start, 2)).is_err(), "and no second");
        breaker.ended(true, after(start, 2), 0.5);
        assert_eq!(breaker.state(after(start, 5)), State::Open, "twice as long");
        assert_eq!(breaker.admit(after(start, 6)), Ok(()));
        breaker.ended(false, after(start, 6), 0.5);
        assert_eq!(breaker.state(after(start, 6)), State::Closed);
    }

    #[test]
    fn a_few_failures_among_many_answers_change_nothing() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for turn in 0..1000 {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.ended(turn % 3 == 0, now, 0.0);
        }
        assert_eq!(breaker.state(now), State::Closed);
    }

    #[test]
    fn a_probe_whose_caller_vanished_does_not_close_the_door_for_ever() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for _ in 0..LEAST {
            breaker.ended(true, start, 0.5);
        }
        assert_eq!(breaker.admit(after(start, 2)), Ok(()));
        assert!(breaker.admit(after(start, 30)).is_err());
        assert_eq!(breaker.admit(after(start, 63)), Ok(()));
    }
}
