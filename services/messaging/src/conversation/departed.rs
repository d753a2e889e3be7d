//! What a member leaves behind who has left (IDN-11): conversations that were theirs are nobody's, and automations answer again in
//! those that they had taken over.
//! Deliberately absent: what they closed. History keeps whose it was.

use chrono::{DateTime, Utc};
use mainstay_jobs::record::By;
use mainstay_jobs::{Job, JobError, NewJob, enqueue};
use mainstay_types::{AgencyId, MemberId, ServiceName, Tenant};
use sqlx::PgConnection;

use super::{sql, write};
use crate::Messaging;
use crate::jobs::release_conversations;

/// Let go of in one transaction.
const AT_ONCE: i64 = 100;
/// Of the audit and of the event.
const NAMES: (&str, &str) = (
    "messaging.conversation.release",
    "messaging.conversation.released",
);

/// Queues the letting go for each client in which they had something.
pub(crate) async fn depart(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    for client in sql::clients_of(conn, agency, member).await? {
        let payload = release_conversations::Payload { member };
        let tenant = Tenant { agency, client };
        let job = NewJob::new(release_conversations::KIND, &payload, now).for_tenant(tenant);
        enqueue(conn, job).await?;
    }
    Ok(())
}

/// Lets go of all they had with a client.
pub(crate) async fn release(
    messaging: &Messaging,
    job: &Job,
    tenant: Tenant,
    member: MemberId,
) -> Result<(), JobError> {
    let by = By::itself(ServiceName::Messaging, tenant.agency, messaging.clock.now());
    loop {
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        let held = sql::held_by(tx.conn(), tenant, member, AT_ONCE).await?;
        for id in &held {
            let Some(before) = sql::lock(tx.conn(), tenant, *id).await? else {
                continue;
            };
            let mut after = before.clone();
            if after.assigned_to == Some(member) {
                after.assigned_to = None;
            }
            if after.taken_over_by == Some(member.to_string()) {
                after.taken_over_by = None;
            }
            if after != before {
                write(tx.conn(), tenant, &by, NAMES, &before, after).await?;
            }
        }
        if held.is_empty() {
            job.complete_in(tx.conn()).await?;
        }
        tx.commit().await?;
        if held.is_empty() {
            return Ok(());
        }
    }
}
