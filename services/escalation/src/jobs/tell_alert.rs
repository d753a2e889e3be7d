//! Tells whoever is to hear of an alert as it stands.
//! Deliberately absent: telling ([`crate::alert_notice`]).

use mainstay_jobs::{Handler, Job, JobError};
use mainstay_types::AlertId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Escalating, alert_notice};

/// The job's kind.
pub const KIND: &str = "tell_alert";

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The alert.
    pub alert: Uuid,
}

/// Runs the job.
pub struct TellAlert(pub(crate) Escalating);

#[tonic::async_trait]
impl Handler for TellAlert {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let agency = job.agency.ok_or_else(|| JobError::dead("no agency"))?;
        let id = AlertId::from_uuid(payload.alert);
        alert_notice::run(&self.0, job, agency, id).await
    }
}
