//! How many webhooks are not through, for the health report.
//! Deliberately absent: which. Operators see that in their own lists, each for its agency.

use std::time::Duration;

use mainstay_db::{Database, Result, Worker};
use mainstay_jobs::probe::{MOST, age, counted, findings};
use mainstay_runtime::Clock;
use mainstay_runtime::health::{Probe, Probing, Queue, Severity};

/// Whoever pays looks at the screen for about so long.
const LATE: Duration = Duration::from_secs(120);

/// Counts webhooks that are not processed.
#[derive(Debug)]
pub struct WebhookProbe {
    worker: Worker,
    clock: Clock,
}

impl WebhookProbe {
    /// In this database, at the time of this clock.
    pub fn new(database: &Database, clock: &Clock) -> Self {
        WebhookProbe {
            worker: database.worker(),
            clock: clock.clone(),
        }
    }

    async fn ask(&self) -> Result<Vec<Queue>> {
        let mut connection = self.worker.connection().await?;
        let row = sqlx::query!(
            r#"select waiting.ready as "ready!", waiting.oldest, given_up.dead as "dead!",
                      (select count(*) from (select from webhook_lease where leased_until > clock_timestamp() limit $1) l)
                        as "running!"
               from (select count(*) as ready, min(since) as oldest
                     from (select coalesce(replayed_at, received_at) as since from webhook_event
                           where due_at is not null limit $1) w) waiting,
                    (select count(*) as dead from (select from webhook_event where state = 'dead' limit $1) d) given_up"#,
            MOST,
        )
        .fetch_one(connection.conn())
        .await?;
        Ok(vec![Queue {
            name: "webhooks",
            ready: counted(row.ready),
            oldest_ready: age(self.clock.now(), row.oldest),
            running: counted(row.running),
            dead: counted(row.dead),
            late_after: LATE,
            // What a provider told us has not had its effect.
            dead_is: Severity::Critical,
        }])
    }
}

impl Probe for WebhookProbe {
    fn name(&self) -> &'static str {
        "webhooks"
    }

    fn probe(&self) -> Probing<'_> {
        Box::pin(async { findings("webhooks", self.ask().await) })
    }
}
