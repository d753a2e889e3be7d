//! Taking in goes before handing on: a sender waits for the one and not for the other. Webhooks that come together, more
//! than a quiet day's, are pressure; while there is pressure a delivery waits, but never for long, so that nothing
//! stands still under the heaviest load.
//! Deliberately absent: a count of what waits. That is in the queue, where health reads it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many in one call have waited for the calls before: they come faster than they can be stored one by one.
const CROWD: usize = 8;
/// How long a crowd is felt. The next follows within this, or there is none.
const FELT: Duration = Duration::from_millis(50);
/// The longest that a delivery waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// When the last crowd came. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pressure(Arc<Mutex<Option<Instant>>>);

impl Pressure {
    /// So many have come in one call. Whether that was a crowd.
    pub fn taken_in(&self, webhooks: usize) -> bool {
        let crowd = webhooks >= CROWD;
        if crowd {
            self.crowd_at(Instant::now());
        }
        crowd
    }

    fn crowd_at(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Waits until there is no crowd, or long enough.
    pub async fn ease(&self) {
        let began = Instant::now();
        while let Some(pause) = self.hold_back(began, Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }

    /// How long a delivery that waits since `began` still does. Nobody is refused here: in the end it goes on whatever
    /// the pressure.
    fn hold_back(&self, began: Instant, now: Instant) -> Option<Duration> {
        let crowd = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let until = (crowd + FELT).min(began + PATIENCE);
        Some(until.saturating_duration_since(now)).filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_few_are_no_crowd_and_a_crowd_passes() {
        let pressure = Pressure::default();
        assert!(!pressure.taken_in(CROWD - 1));
        let now = Instant::now();
        assert_eq!(pressure.hold_back(now, now), None);
        assert!(pressure.taken_in(CROWD));
        pressure.ease().await;
        let now = Instant::now();
        assert_eq!(pressure.hold_back(now, now), None, "it has passed");
    }

    #[test]
    fn a_delivery_waits_while_webhooks_crowd_and_never_for_long() {
        let pressure = Pressure::default();
        let began = Instant::now();
        let mut now = began;
        let mut waited = Duration::ZERO;
        loop {
            pressure.crowd_at(now);
            let Some(pause) = pressure.hold_back(began, now) else {
                break;
            };
            assert!(pause <= FELT);
            (now, waited) = (now + pause, waited + pause);
        }
        assert_eq!(waited, PATIENCE, "it goes on all the same");
    }
}
