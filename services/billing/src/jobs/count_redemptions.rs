//! Counts an agency's coupon redemptions once a day. One job an agency, from its first coupon on, which puts itself off by a
//! day each time.
//! Deliberately absent: an end. An agency without coupons costs one look a day; a job that ended could miss the coupon that
//! was made while it did.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError, NewJob, Priority, enqueue};
use mainstay_runtime::clock::Clock;
use mainstay_types::AgencyId;
use sqlx::PgConnection;

use crate::coupon::count::count;

/// The job's kind.
pub const KIND: &str = "count_redemptions";

/// How often.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// Runs the job.
#[derive(Debug, Clone)]
pub struct CountRedemptions {
    worker: Worker,
    clock: Clock,
}

impl CountRedemptions {
    /// Through `worker`, by this clock.
    pub fn new(worker: Worker, clock: Clock) -> Self {
        Self { worker, clock }
    }
}

/// Sees to it that the agency's job is queued, in the transaction that makes a coupon.
pub(crate) async fn ensure(
    conn: &mut PgConnection,
    agency: AgencyId,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let job = NewJob::new(KIND, &serde_json::json!({}), now)
        .for_agency(agency)
        .unique(agency.to_string())
        .at(now + EVERY)
        .priority(Priority::Idle);
    enqueue(conn, job).await?;
    Ok(())
}

#[tonic::async_trait]
impl Handler for CountRedemptions {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let agency = job
            .agency
            .ok_or_else(|| JobError::dead("a count of redemptions names no agency"))?;
        // A failure is told and made good a day later: never given up, never a dead letter.
        match count(&self.worker, agency, self.clock.now()).await {
            Ok(counted) => tracing::info!(
                agency = %agency,
                coupons = counted.coupons,
                repaired = counted.repaired,
                released = counted.released,
                "coupon redemptions were counted"
            ),
            Err(error) => tracing::error!(
                agency = %agency,
                error = &error as &dyn std::error::Error,
                "coupon redemptions cannot be counted"
            ),
        }
        Err(JobError::Snooze(EVERY))
    }
}
