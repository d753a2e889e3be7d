//! How many sagas go on, wait or are parked, for the health report.
//! Deliberately absent: which. Operators see that in their own lists, each for its agency.

use std::time::Duration;

use mainstay_db::{Database, Result, Worker};
use mainstay_jobs::probe::{MOST, age, counted, findings};
use mainstay_runtime::health::{Probe, Probing, Queue, Severity};

/// A saga that is due and not taken over for so long has no coordinator.
const LATE: Duration = Duration::from_secs(120);

/// Counts sagas.
#[derive(Debug)]
pub struct SagaProbe(Worker);

impl SagaProbe {
    /// In this database, whose time sagas live on.
    pub fn new(database: &Database) -> Self {
        SagaProbe(database.worker())
    }

    async fn ask(&self) -> Result<Vec<Queue>> {
        let mut connection = self.0.connection().await?;
        let row = sqlx::query!(
            r#"select due.ready as "ready!", due.oldest, going.running as "running!", parked.dead as "dead!",
                      clock_timestamp() as "now!"
               from (select count(*) as ready, min(next_run_at) as oldest
                     from (select next_run_at from saga
                           where state in ('running', 'waiting', 'compensating') and next_run_at <= clock_timestamp()
                             and (leased_until is null or leased_until < clock_timestamp())
                           order by next_run_at limit $1) d) due,
                    (select count(*) as running
                     from (select from saga
                           where state in ('running', 'waiting', 'compensating') and leased_until >= clock_timestamp()
                           limit $1) g) going,
                    (select count(*) as dead from (select from saga where state = 'parked' limit $1) p) parked"#,
            MOST,
        )
        .fetch_one(connection.conn())
        .await?;
        Ok(vec![Queue {
            name: "sagas",
            ready: counted(row.ready),
            oldest_ready: age(row.now, row.oldest),
            running: counted(row.running),
            dead: counted(row.dead),
            late_after: LATE,
            // Money waits with it.
            dead_is: Severity::Critical,
        }])
    }
}

impl Probe for SagaProbe {
    fn name(&self) -> &'static str {
        "sagas"
    }

    fn probe(&self) -> Probing<'_> {
        Box::pin(async { findings("sagas", self.ask().await) })
    }
}
