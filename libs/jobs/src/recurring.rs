//! Work that is never done: one job for the whole schema, queued whenever it is not, and put off after each turn.
//! Deliberately absent: a way to end, or to fail. What fails in a turn is told by the turn; the next one tries again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;

use crate::queue::{Enqueued, Job, JobError, NewJob, Priority, enqueue};
use crate::runner::Handler;

/// A job that comes again and again. A runner that has taken it on ([`crate::Runner::recurs`]) sees to it that it is queued,
/// also after it panicked or lost its runner so often that it was given up.
#[tonic::async_trait]
pub trait Recurring: Send + Sync + 'static {
    /// What kind of job it is.
    const KIND: &'static str;
    /// Ahead of or behind others.
    const PRIORITY: Priority = Priority::Idle;
    /// How long after it was queued its first turn is due.
    const FIRST_AFTER: Duration = Duration::ZERO;

    /// Has its turn. The next is due after what it returns.
    async fn turn(&self) -> Duration;
}

/// What the queue is told after a turn, whatever came of it.
pub(crate) struct Turns<R>(pub(crate) R);

#[tonic::async_trait]
impl<R: Recurring> Handler for Turns<R> {
    async fn run(&self, _: &Job) -> Result<(), JobError> {
        Err(JobError::Snooze(self.0.turn().await))
    }
}

/// How a recurring job is queued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    kind: &'static str,
    priority: Priority,
    first_after: Duration,
}

impl Standing {
    pub(crate) const fn of<R: Recurring>() -> Self {
        Self {
            kind: R::KIND,
            priority: R::PRIORITY,
            first_after: R::FIRST_AFTER,
        }
    }
}

/// Queues those that are not. Whether there were any.
pub(crate) async fn queue_missing(
    worker: &Worker,
    all: &[Standing],
    now: DateTime<Utc>,
) -> mainstay_db::Result<bool> {
    let mut connection = worker.connection().await?;
    let mut missed = false;
    for standing in all {
        let job = NewJob::new(standing.kind, &serde_json::json!({}), now)
            .unique("all")
            .at(now + standing.first_after)
            .priority(standing.priority);
        let queued = enqueue(connection.conn(), job).await?;
        missed |= queued != Enqueued::AlreadyQueued;
    }
    Ok(missed)
}
