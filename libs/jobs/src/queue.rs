//! The durable queue as rows: what a job is, and each change of its state as one statement.
//!
//! ```text
//!  enqueue ─▶ job ──claim: + job_lease(fence)──▶ leased ──complete──▶ (both rows deleted)
//!              ▲                                   │ │ └─fail, last attempt / dead──▶ job_dead_letter ─replay─▶ job
//!              └──────fail, snooze, hand back, lease expired: lease deleted──────┘
//! ```
//! A claim does not touch the job row. Every change after a claim names the fence of that claim, so a runner that was
//! thought dead changes nothing. Deliberately absent: running; see [`crate::runner`].

mod dead_letter;
pub mod rpc;
mod source;
pub(crate) mod sql;

use std::{error::Error as StdError, time::Duration};

use chrono::{DateTime, Utc};
use mainstay_types::{AgencyId, JobId, Tenant};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::PgConnection;

pub(crate) use source::Jobs;
pub use source::{Claim, Failed, Failure, OfKind, Queue};
pub use sql::{DeadLetter, find_dead_letter, replay_dead_letter};

/// Which jobs go first. Within a priority: the one that is due longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Someone waits for it.
    Urgent = 0,
    /// The default.
    Normal = 1,
    /// Bulk work.
    Bulk = 2,
    /// Clean-up.
    Idle = 3,
}

/// A job to be enqueued.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub(crate) kind: String,
    pub(crate) payload: Value,
    pub(crate) run_at: DateTime<Utc>,
    pub(crate) priority: Priority,
    pub(crate) max_attempts: u32,
    pub(crate) unique_key: Option<String>,
    pub(crate) agency: Option<AgencyId>,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) traceparent: Option<String>,
}

impl NewJob {
    /// A job that is due at `now`, up to twenty attempts.
    ///
    /// # Panics
    /// When the payload cannot be JSON (a map whose keys are no strings): a mistake in the program.
    pub fn new(kind: &str, payload: &impl Serialize, now: DateTime<Utc>) -> Self {
        Self {
            kind: kind.to_owned(),
            payload: serde_json::to_value(payload).expect("a job's payload is plain data"),
            run_at: now,
            priority: Priority::Normal,
            max_attempts: 20,
            unique_key: None,
            agency: None,
            tenant: None,
            traceparent: None,
        }
    }

    /// For one client. What the app role enqueues must be for the tenant (or agency) of its transaction.
    pub fn for_tenant(mut self, tenant: Tenant) -> Self {
        self.agency = Some(tenant.agency);
        self.tenant = Some(tenant);
        self
    }

    /// For an agency as a whole.
    pub fn for_agency(mut self, agency: AgencyId) -> Self {
        self.agency = Some(agency);
        self.tenant = None;
        self
    }

    /// Not before this.
    pub fn at(mut self, run_at: DateTime<Utc>) -> Self {
        self.run_at = run_at;
        self
    }

    /// Ahead of or behind others.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// 1 to 100.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.clamp(1, 100);
        self
    }

    /// At most one job of this kind, tenant and key is queued, running or waiting for its next attempt; another is
    /// [`Enqueued::AlreadyQueued`]. A job that has started does not see what came after: where that matters, no key.
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }

    /// Continues another trace than the current span's.
    pub fn in_trace(mut self, traceparent: Option<String>) -> Self {
        self.traceparent = traceparent;
        self
    }
}

/// What became of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is queued, if the transaction commits.
    New(JobId),
    /// The unique key is taken.
    AlreadyQueued,
}

/// Queues a job in the caller's transaction. Wake the runner after the commit, or let it find the job at its next look.
///
/// # Errors
/// Whatever the database says; row security refuses a job for another tenant than the transaction's.
pub async fn enqueue(
    connection: &mut PgConnection,
    mut job: NewJob,
) -> mainstay_db::Result<Enqueued> {
    if job.traceparent.is_none() {
        job.traceparent = mainstay_runtime::telemetry::current_traceparent();
    }
    sql::insert(connection, &job).await
}

/// A claimed job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What kind of work.
    pub kind: String,
    /// What about.
    pub payload: Value,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// Higher with each claim of any job. Services that are called on its behalf refuse lower ones.
    pub fence: i64,
    /// The agency it is for.
    pub agency: Option<AgencyId>,
    /// The client it is for.
    pub tenant: Option<Tenant>,
    /// The trace that its cause belongs to.
    pub traceparent: Option<String>,
}

impl Job {
    /// The payload, typed.
    ///
    /// # Errors
    /// [`JobError::Dead`]: another attempt would read the same.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        T::deserialize(&self.payload).map_err(JobError::dead)
    }

    /// Completes the job in the transaction of its effect: both are there or neither is.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`] when another runner has it by now; the transaction must be dropped then.
    pub async fn complete_in(&self, connection: &mut PgConnection) -> Result<(), JobError> {
        if sql::complete(connection, self.id, self.fence).await? {
            Ok(())
        } else {
            Err(JobError::LeaseLost)
        }
    }

    /// Whether a failure now is the last.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.max_attempts
    }
}

type Source = Box<dyn StdError + Send + Sync>;

/// Why a handler did not finish.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Try again later, with growing pauses, until the attempts are used up.
    #[error("{0}")]
    Retry(Source),
    /// Trying again is of no use: to the dead letters.
    #[error("{0}")]
    Dead(Source),
    /// Not now: again after this, without counting an attempt.
    #[error("not yet due, again in {0:?}")]
    Snooze(Duration),
    /// Another runner has the job by now.
    #[error("the lease was lost")]
    LeaseLost,
}

impl JobError {
    /// A failure worth another attempt.
    pub fn retry(source: impl Into<Source>) -> Self {
        Self::Retry(source.into())
    }

    /// A failure for ever.
    pub fn dead(source: impl Into<Source>) -> Self {
        Self::Dead(source.into())
    }
}

impl From<mainstay_db::Error> for JobError {
    fn from(error: mainstay_db::Error) -> Self {
        Self::Retry(error.into())
    }
}

impl From<sqlx::Error> for JobError {
    fn from(error: sqlx::Error) -> Self {
        mainstay_db::Error::from(error).into()
    }
}

impl From<mainstay_rpc::Problem> for JobError {
    fn from(problem: mainstay_rpc::Problem) -> Self {
        if problem.is_retryable() {
            Self::Retry(problem.into())
        } else {
            Self::Dead(problem.into())
        }
    }
}
