//! Writes the addresses of members who joined before people could sign in: once, in small transactions, beside everything else.
//! Deliberately absent: members who join now. They are written with their membership.

use chrono::{DateTime, Utc};
use mainstay_jobs::{Handler, Job, JobError, NewJob};
use mainstay_types::{AgencyId, AgencyScope, MemberId, Visible};

use crate::{Identity, address, member};

/// The job's kind.
pub const KIND: &str = "index_sign_in_addresses";

/// Agencies a look, and members a transaction.
const BATCH: i64 = 200;

/// The job.
pub fn job(now: DateTime<Utc>) -> NewJob {
    NewJob::new(KIND, &serde_json::json!({}), now).unique("all")
}

/// Enqueues the job when there is something to do.
///
/// # Errors
/// Only the database's.
pub(crate) async fn begin(identity: &Identity) -> mainstay_db::Result<()> {
    let mut tx = identity.database.worker().tx().await?;
    if address::sql::some_are_missing(tx.conn()).await? {
        mainstay_jobs::enqueue(tx.conn(), job(identity.clock.now())).await?;
    }
    tx.commit().await
}

/// Runs the job.
#[derive(Clone)]
pub struct IndexAddresses(pub(crate) Identity);

#[tonic::async_trait]
impl Handler for IndexAddresses {
    async fn run(&self, _: &Job) -> Result<(), JobError> {
        let worker = self.0.database.worker();
        let mut after = None;
        loop {
            let mut tx = worker.tx().await?;
            let agencies = address::sql::agencies(tx.conn(), after, BATCH).await?;
            tx.commit().await?;
            let Some(last) = agencies.last() else {
                return Ok(());
            };
            after = Some(*last);
            for agency in agencies {
                self.index(agency).await?;
            }
        }
    }
}

impl IndexAddresses {
    async fn index(&self, agency: AgencyId) -> Result<(), JobError> {
        let scope = AgencyScope {
            agency,
            visible: Visible::All,
        };
        loop {
            let mut tx = self.0.database.worker().agency(&scope).await?;
            let ids = address::sql::unwritten(tx.conn(), agency, BATCH).await?;
            for id in &ids {
                let id = MemberId::from_uuid(*id);
                if let Some(member) = member::sql::get(tx.conn(), agency, id).await? {
                    address::sql::write(tx.conn(), &self.0.lookup, agency, &member).await?;
                }
            }
            tx.commit().await?;
            // Each writes at least one address, so every turn leaves fewer.
            if ids.is_empty() {
                return Ok(());
            }
        }
    }
}
