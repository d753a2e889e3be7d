//! A timer of an escalation: its next step is due.
//! Deliberately absent: the step itself ([`crate::escalation::advance`]).

use mainstay_jobs::{Handler, Job, JobError};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Escalating;
use crate::escalation::{Escalation, advance};

/// The job's kind.
pub const KIND: &str = "advance_escalation";

/// What the job is given: the place that it is for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The escalation.
    pub escalation: Uuid,
    /// Its fence then.
    pub fence: i64,
    /// The step.
    pub step: usize,
    /// The round.
    pub round: u32,
}

/// Runs the job.
pub struct AdvanceEscalation(pub(crate) Escalating);

#[tonic::async_trait]
impl Handler for AdvanceEscalation {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let tenant = job.tenant.ok_or_else(|| JobError::dead("no tenant"))?;
        advance::run(&self.0, job, tenant, &payload).await
    }
}

/// Whether a timer of the escalation waits or runs.
pub(crate) async fn is_queued(
    conn: &mut PgConnection,
    escalation: &Escalation,
) -> mainstay_db::Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from job where kind = $1 and payload ->> 'escalation' = $2 and (payload ->> 'fence')::bigint = $3)
           as "found!""#,
        KIND,
        escalation.id.uuid().to_string(),
        escalation.fence,
    )
    .fetch_one(conn)
    .await?;
    Ok(found)
}
