//! How the database and what waits in it stand, for the health report: one small question each, counted only to
//! [`MOST`], so that a backlog is not made worse by being looked at.
//! Deliberately absent: queues of one service's own. They are probed where they are worked.

mod sql;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mainstay_db::{Database, PoolStatus, Worker};
use mainstay_runtime::Clock;
use mainstay_runtime::health::{self, Alert, Finding, Pool, Probe, Probing, Queue, Severity};

/// How far is counted; this number means "or more".
pub const MOST: i64 = 10_000;
/// Less than a probe may take, so that no answer is still a finding.
const PATIENCE: Duration = Duration::from_millis(800);
/// From then on whoever waits for work that outlives requests notices.
const LATE: Duration = Duration::from_secs(120);

/// Asks a service's database, through both of its roles.
#[derive(Debug)]
pub struct DatabaseProbe(Database);

impl DatabaseProbe {
    /// Of this database.
    pub fn new(database: &Database) -> Self {
        DatabaseProbe(database.clone())
    }
}

impl Probe for DatabaseProbe {
    fn name(&self) -> &'static str {
        "database"
    }

    fn probe(&self) -> Probing<'_> {
        Box::pin(async {
            let started = Instant::now();
            let answer = tokio::time::timeout(PATIENCE, self.0.ping()).await;
            let pools = self.0.status().into_iter().map(|status| {
                let PoolStatus {
                    role,
                    open,
                    idle,
                    limit,
                    warm: _,
                } = status;
                Pool {
                    role,
                    open,
                    idle,
                    limit,
                }
            });
            let answered = matches!(answer, Ok(Ok(())));
            let found = health::Database::judged(answered, started.elapsed(), pools.collect());
            vec![Finding::Database(found)]
        })
    }
}

/// Looks at the queue of jobs, the events on their way out, and the audit rows on theirs.
#[derive(Debug)]
pub struct QueueProbe {
    worker: Worker,
    clock: Clock,
}

impl QueueProbe {
    /// Of this database; jobs are due by this clock.
    pub fn new(database: &Database, clock: &Clock) -> Self {
        QueueProbe {
            worker: database.worker(),
            clock: clock.clone(),
        }
    }

    async fn ask(&self) -> mainstay_db::Result<Vec<Queue>> {
        sql::queues(self.worker.connection().await?.conn(), self.clock.now()).await
    }
}

impl Probe for QueueProbe {
    fn name(&self) -> &'static str {
        "queues"
    }

    fn probe(&self) -> Probing<'_> {
        Box::pin(async { findings("queues", self.ask().await) })
    }
}

/// What a probe of queues found, or that it could not look.
pub fn findings(name: &str, asked: mainstay_db::Result<Vec<Queue>>) -> Vec<Finding> {
    match asked {
        Ok(queues) => queues.into_iter().map(Finding::Queue).collect(),
        Err(error) => {
            // What exactly is wrong is for the log; health is read by anybody.
            tracing::debug!(%error, name, "a queue could not be looked at");
            let words = format!("{name} could not be looked at");
            vec![Finding::Alert(Alert::new(
                "probe_failed",
                Severity::Warning,
                words,
            ))]
        }
    }
}

/// A count that the database made; never more than [`MOST`].
pub fn counted(count: i64) -> u32 {
    u32::try_from(count.clamp(0, MOST)).unwrap_or(0)
}

/// How long something is due.
pub fn age(now: DateTime<Utc>, due: Option<DateTime<Utc>>) -> Option<Duration> {
    due.map(|due| (now - due).to_std().unwrap_or_default())
}
