//! Waiting for what comes about by itself. A machine that does other things too lets everything come later, so patience is long:
//! what does not come at all fails its test, and nothing else does.

use std::time::Duration;

use tokio::time::{Instant, Interval, interval, timeout};

/// How long a test waits. The runner ends a test after four times as long.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Looks, again and again: `while looks.again().await { … }`.
#[derive(Debug)]
pub struct Looks {
    pace: Interval,
    until: Instant,
}

impl Looks {
    /// The first look is at once, each other one after a pause.
    pub fn every(pause: Duration) -> Self {
        Looks {
            pace: interval(pause),
            until: Instant::now() + PATIENCE,
        }
    }

    /// Whether to look once more, when it is time to.
    pub async fn again(&mut self) -> bool {
        self.pace.tick().await;
        Instant::now() < self.until
    }
}

/// What is done, or a panic that says what never was.
pub async fn in_time<T>(what: &str, done: impl Future<Output = T>) -> T {
    let done = timeout(PATIENCE, done).await;
    done.unwrap_or_else(|_| panic!("it never came about: {what}"))
}
