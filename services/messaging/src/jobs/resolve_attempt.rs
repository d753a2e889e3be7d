//! Asks the provider about a try of which nobody knows whether it was taken, until it is known or that is the end of it.
//! Deliberately absent: sending; a message that is to be tried again goes back into the queue.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob};
use mainstay_types::{AttemptId, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Messaging;
use crate::alarm;
use crate::message::sql::lock_sending;
use crate::sending::{doubt, settle};

/// The job's kind.
pub const KIND: &str = "resolve_attempt";

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The try.
    pub attempt_id: AttemptId,
}

/// The job for a try.
pub fn job(tenant: Tenant, attempt: AttemptId, now: DateTime<Utc>) -> NewJob {
    let payload = Payload {
        attempt_id: attempt,
    };
    NewJob::new(KIND, &payload, now).for_tenant(tenant)
}

/// Runs the job.
#[derive(Clone)]
pub struct ResolveAttempt(pub(crate) Messaging);

#[tonic::async_trait]
impl Handler for ResolveAttempt {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let messaging = &self.0;
        let payload: Payload = job.payload()?;
        let tenant = job
            .tenant
            .ok_or_else(|| JobError::dead("the job is for no client"))?;
        let Some(doubtful) = open(messaging, tenant, payload.attempt_id).await? else {
            return Ok(());
        };
        // No transaction is open meanwhile.
        let found = doubt::ask(messaging, tenant, &doubtful).await;
        let now = messaging.clock.now();
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        lock_sending(tx.conn(), tenant).await?;
        // A callback may have said it meanwhile.
        let Some(doubtful) = doubt::find(tx.conn(), tenant, payload.attempt_id)
            .await?
            .filter(is_open)
        else {
            return Ok(());
        };
        let Some(resolution) = doubt::resolve(&doubtful, found, settled(messaging), now) else {
            doubt::asked(tx.conn(), tenant, doubtful.attempt, now).await?;
            tx.commit().await?;
            return Err(JobError::Snooze(pause(messaging, doubtful.probes)));
        };
        if let doubt::Resolution::Stop {
            proven_absent: false,
            ..
        } = &resolution
        {
            tracing::error!(
                alert = "message_ambiguous", message.id = %doubtful.message,
                "nobody will know whether a message was taken: see its history"
            );
            let told =
                json!({ "message_id": doubtful.message, "provider": doubtful.provider.as_str() });
            alarm::tell(
                tx.conn(),
                tenant,
                "messaging.message.left_in_doubt",
                told,
                now,
            )
            .await?;
        }
        let write = resolution.write(&doubtful, now);
        settle::write(tx.conn(), messaging, tenant, &[write], now).await?;
        job.complete_in(tx.conn()).await?;
        tx.commit().await?;
        messaging.wake();
        Ok(())
    }
}

async fn open(
    messaging: &Messaging,
    tenant: Tenant,
    attempt: AttemptId,
) -> Result<Option<doubt::Doubtful>, JobError> {
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    let found = doubt::find(tx.conn(), tenant, attempt).await?;
    tx.commit().await?;
    Ok(found.filter(is_open))
}

/// Whether it is still in doubt, try and message alike.
fn is_open(doubtful: &doubt::Doubtful) -> bool {
    doubtful.state == "unknown" && doubtful.status == crate::message::rules::Status::Ambiguous
}

/// By then a provider lists what it has: it was first asked half that time after the try.
fn settled(messaging: &Messaging) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(messaging.pace.probe_after * 2).unwrap_or(chrono::TimeDelta::MAX)
}

/// Longer each time, from what the first look waited.
fn pause(messaging: &Messaging, probes: i32) -> Duration {
    let doublings = u32::try_from(probes).unwrap_or(0).min(6);
    messaging
        .pace
        .probe_after
        .saturating_mul(1 << doublings)
        .min(Duration::from_secs(3600))
}
