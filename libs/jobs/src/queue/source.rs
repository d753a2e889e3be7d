//! What a runner works: rows that are due, each leased under a fence while it is worked. `job` is such a queue in every
//! schema; a service whose rows stand for their own work may have another, and spare itself a job beside each of them.
//! Deliberately absent: enqueuing. Whoever writes the row does that, in the transaction of its cause.

use chrono::{DateTime, Utc};
use mainstay_db::{Result, Worker};
use mainstay_types::{AgencyId, JobId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Job, dead_letter, sql};

/// Who claims, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// What it can work.
    pub kinds: &'a [String],
    /// How many it has room for.
    pub limit: i64,
    /// What is due by then.
    pub now: DateTime<Utc>,
    /// Whose the leases are.
    pub runner: Uuid,
    /// How long a lease holds without a heartbeat.
    pub lease_ms: f64,
}

/// What a failure led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// Another attempt.
    Retried,
    /// A dead letter.
    Buried,
    /// Nothing: the lease is no longer ours.
    NotOurs,
}

/// A try that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// Why.
    pub error: &'a str,
    /// When the next one is due, if there is one.
    pub retry_at: DateTime<Utc>,
    /// Whether there can be none.
    pub dead: bool,
    /// When that was.
    pub now: DateTime<Utc>,
}

/// The jobs of one kind, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfKind {
    /// The kind.
    pub kind: String,
    /// Due, and nobody has them.
    pub ready: i64,
    /// In hand.
    pub running: i64,
    /// Not yet due.
    pub scheduled: i64,
    /// Those that have failed before.
    pub retrying: i64,
    /// Given up.
    pub dead: i64,
    /// Since when the longest waits of those that are due.
    pub oldest_ready: Option<DateTime<Utc>>,
}

/// Rows that a runner claims, holds and ends. Each change after a claim names the fence of that claim; what is no longer
/// ours stays as it is.
#[tonic::async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Leases what is due, in the order of an index: the transaction is one of [`mainstay_db::Worker::claim`].
    async fn claim(&self, connection: &mut PgConnection, claim: Claim<'_>) -> Result<Vec<Job>>;

    /// Prolongs leases; gives those that are still ours.
    async fn heartbeat(
        &self,
        connection: &mut PgConnection,
        jobs: &[Uuid],
        fences: &[i64],
        lease_ms: f64,
    ) -> Result<Vec<Uuid>>;

    /// The handler is through with it. False: the lease is no longer ours, or the handler has given it up itself. Takes a
    /// connection only if there is something to be written.
    async fn complete(&self, worker: &Worker, id: JobId, fence: i64) -> Result<bool>;

    /// Counts the attempt; queues the next one, or buries the job if it was the last.
    async fn fail(
        &self,
        connection: &mut PgConnection,
        id: JobId,
        fence: i64,
        failure: Failure<'_>,
    ) -> Result<Failed>;

    /// Later, without counting an attempt. False: the lease is no longer ours.
    async fn snooze(
        &self,
        connection: &mut PgConnection,
        id: JobId,
        fence: i64,
        until: DateTime<Utc>,
    ) -> Result<bool>;

    /// Hands back everything a stopping runner still holds: at once claimable, no attempt counted.
    async fn hand_back(&self, connection: &mut PgConnection, runner: Uuid) -> Result<u64>;

    /// Takes back leases that have run out, each at the price of an attempt, so that what kills its runner ends among the
    /// dead letters. Gives how many were (rescued, buried).
    async fn rescue(
        &self,
        connection: &mut PgConnection,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<(i64, i64)>;

    /// An agency's, by kind, each number counted up to `most`.
    async fn summarize(
        &self,
        connection: &mut PgConnection,
        agency: AgencyId,
        now: DateTime<Utc>,
        most: i64,
    ) -> Result<Vec<OfKind>>;
}

/// The table `job`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jobs;

#[tonic::async_trait]
impl Queue for Jobs {
    async fn claim(&self, connection: &mut PgConnection, claim: Claim<'_>) -> Result<Vec<Job>> {
        sql::claim(connection, claim).await
    }

    async fn heartbeat(
        &self,
        connection: &mut PgConnection,
        jobs: &[Uuid],
        fences: &[i64],
        lease_ms: f64,
    ) -> Result<Vec<Uuid>> {
        sql::heartbeat(connection, jobs, fences, lease_ms).await
    }

    async fn complete(&self, worker: &Worker, id: JobId, fence: i64) -> Result<bool> {
        let mut connection = worker.connection().await?;
        let completed = sql::complete(connection.conn(), id, fence).await?;
        connection.give_back();
        Ok(completed)
    }

    async fn fail(
        &self,
        connection: &mut PgConnection,
        id: JobId,
        fence: i64,
        failure: Failure<'_>,
    ) -> Result<Failed> {
        sql::fail(connection, id, fence, failure).await
    }

    async fn snooze(
        &self,
        connection: &mut PgConnection,
        id: JobId,
        fence: i64,
        until: DateTime<Utc>,
    ) -> Result<bool> {
        sql::snooze(connection, id, fence, until).await
    }

    async fn hand_back(&self, connection: &mut PgConnection, runner: Uuid) -> Result<u64> {
        sql::hand_back(connection, runner).await
    }

    async fn rescue(
        &self,
        connection: &mut PgConnection,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<(i64, i64)> {
        sql::rescue(connection, now, limit).await
    }

    async fn summarize(
        &self,
        connection: &mut PgConnection,
        agency: AgencyId,
        now: DateTime<Utc>,
        most: i64,
    ) -> Result<Vec<OfKind>> {
        dead_letter::summarize(connection, agency, now, most).await
    }
}
