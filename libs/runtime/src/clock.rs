//! The platform's time. Domain code takes `now` from a `Clock` that it was given.
//!
//! Deliberately absent: durations of leases and signature ages. Leases use the database's time and webhook
//! signatures use wall time, so that a shifted clock cannot loosen either.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// Tells the platform's time. Cheap to clone; all clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { offset: TimeDelta },
    Fixed(Arc<Mutex<DateTime<Utc>>>),
}

impl Clock {
    /// The machine's time, shifted by `offset_seconds` (development only: configuration refuses it in production).
    pub fn system(offset_seconds: i64) -> Self {
        let offset = TimeDelta::try_seconds(offset_seconds).unwrap_or_default();
        Clock(Source::System { offset })
    }

    /// A clock that stands still until its hand is moved; for tests.
    pub fn fixed(at: DateTime<Utc>) -> (Clock, ClockHand) {
        let instant = Arc::new(Mutex::new(at.trunc_subsecs(6)));
        (Clock(Source::Fixed(instant.clone())), ClockHand(instant))
    }

    /// The time now, cut to the microsecond that `timestamptz` keeps, so that what is written reads back equal.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Source::System { offset } => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the one place that asks the machine for its time"
                )]
                let now = Utc::now();
                now.checked_add_signed(*offset)
                    .unwrap_or(now)
                    .trunc_subsecs(6)
            }
            Source::Fixed(instant) => *instant.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// Moves a fixed clock.
#[derive(Clone, Debug)]
pub struct ClockHand(Arc<Mutex<DateTime<Utc>>>);

impl ClockHand {
    /// Sets the time; going back is allowed, as it is for real clocks.
    pub fn set(&self, at: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at.trunc_subsecs(6);
    }

    /// Moves the time forward (or back, for a negative delta).
    pub fn advance(&self, by: TimeDelta) {
        let mut instant = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *instant += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_by_its_hand() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        let (clock, hand) = Clock::fixed(start);
        assert_eq!(clock.now(), start);
        hand.advance(TimeDelta::hours(2));
        assert_eq!(clock.clone().now() - start, TimeDelta::hours(2));
        hand.set(start);
        assert_eq!(clock.now(), start);
    }

    #[test]
    fn a_shifted_clock_runs_ahead_of_the_machine() {
        let machine = Clock::system(0).now();
        let shifted = Clock::system(86_400).now();
        assert!(shifted - machine >= TimeDelta::days(1));
        assert!(shifted - machine < TimeDelta::days(1) + TimeDelta::hours(1));
    }
}
