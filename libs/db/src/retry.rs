//! Trying a transaction again after it lost a race, and what a service does at its start while the database is busy.
//! Deliberately absent: retries of anything else; an unavailable database is the caller's to report, and what has effects
//! outside belongs to a job or a saga.

use std::{fmt, future::Future, time::Duration};

use tokio::time::Instant;

/// An error that can say whether the transaction as a whole may run again.
pub trait Retryable {
    /// True for serialisation failures and deadlocks: the database kept nothing.
    fn is_retryable(&self) -> bool;
}

impl Retryable for crate::Error {
    fn is_retryable(&self) -> bool {
        crate::Error::is_retryable(self)
    }
}

const ATTEMPTS: u32 = 5;

/// Runs the transaction, again when it lost a race, at most five times with growing, jittered pauses (about 300 ms in all).
/// The closure must open its own transaction and do nothing outside it.
///
/// # Errors
/// Whatever the closure returned last.
pub async fn retrying<T, E, F, Fut>(mut transaction: F) -> Result<T, E>
where
    E: Retryable,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut attempt = 1;
    loop {
        match transaction().await {
            Err(error) if error.is_retryable() && attempt < ATTEMPTS => {
                // Full jitter: whoever collided must not collide again in step.
                let ceiling_ms = 10u64 << attempt;
                let pause = Duration::from_millis(rand::random_range(1..=ceiling_ms));
                tracing::debug!(attempt, "transaction lost a race, trying again");
                tokio::time::sleep(pause).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// How long a start waits: whoever begins with all its neighbours may find every connection in the making, or the database still to
/// begin.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Runs what a service does once before it serves, again while the database does not answer.
///
/// # Errors
/// Whatever the closure returned last.
pub async fn at_start<T, E, F, Fut>(unavailable: impl Fn(&E) -> bool, mut work: F) -> Result<T, E>
where
    E: fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match work().await {
            Err(error) if unavailable(&error) && Instant::now() < deadline => {
                tracing::warn!(%error, "the database does not answer at the start, asking again");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::at_start;

    /// `true` is a database that is busy.
    async fn started(answers: &[Result<(), bool>]) -> (Result<(), bool>, usize) {
        let asked = Cell::new(0);
        let result = at_start(
            |busy: &bool| *busy,
            || {
                let nth = asked.get();
                asked.set(nth + 1);
                std::future::ready(answers[nth])
            },
        )
        .await;
        (result, asked.get())
    }

    #[tokio::test]
    async fn a_start_waits_for_a_busy_database_and_for_nothing_else() {
        assert_eq!(started(&[Err(true), Ok(())]).await, (Ok(()), 2));
        assert_eq!(started(&[Err(false), Ok(())]).await, (Err(false), 1));
    }
}
