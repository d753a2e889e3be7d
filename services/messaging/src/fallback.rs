//! Fall-back (MSG-26): a message that has failed for certain on its own channel goes on another one, if whoever sent it said so. It is a
//! message of its own, with a leave of its own.
//! Deliberately absent: falling back in doubt. What may have arrived is not said again elsewhere.

mod sql;

use chrono::{DateTime, Utc};
use mainstay_jobs::{Job, JobError};
use mainstay_types::{MessageId, Tenant};
use sqlx::PgConnection;

use crate::address::Address;
use crate::gate::Channel;
use crate::message::sql::lock_sending;
use crate::message::{self, Draft};
use crate::{Messaging, jobs, lead};

pub(crate) use sql::{find, insert};

/// Where a message goes when its own channel fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// How.
    pub channel: Channel,
    /// A mail's subject.
    pub subject: Option<String>,
    /// The message that went instead.
    pub instead: Option<MessageId>,
    /// Why none did, once that is certain.
    pub reason: Option<String>,
}

/// Hears that messages have failed: those that have somewhere else to go are taken up, once each. In the transaction that says so.
///
/// # Errors
/// Only the database's.
pub(crate) async fn heed_failures(
    conn: &mut PgConnection,
    tenant: Tenant,
    failed: &[MessageId],
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    for message in sql::waiting(conn, tenant, failed).await? {
        mainstay_jobs::enqueue(conn, jobs::fall_back::job(tenant, message, now)).await?;
    }
    Ok(())
}

/// Ends what waits for whoever has opted out of the channel that it was for first.
///
/// # Errors
/// Only the database's.
pub(crate) async fn stop_for(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    sql::stop_for(conn, tenant, address, "opted_out", now).await
}

/// Sends a failed message on its other channel, and ends the job with it.
pub(crate) async fn take(
    messaging: &Messaging,
    tenant: Tenant,
    failed: MessageId,
    job: &Job,
) -> Result<(), JobError> {
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    let wanted = sql::find(tx.conn(), tenant, failed).await?;
    tx.commit().await?;
    let account = match wanted {
        // No transaction is open meanwhile: integrations is asked.
        Some(wanted) => messaging
            .senders
            .resolve(tenant, wanted.channel, None)
            .await
            .map_err(JobError::retry)?
            .into_iter()
            .next(),
        None => None,
    };
    let now = messaging.clock.now();
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    lock_sending(tx.conn(), tenant).await?;
    if let Some(lost) = sql::lock(tx.conn(), tenant, failed).await? {
        let reach = lead::reach(tx.conn(), tenant, lost.lead, lost.channel)
            .await
            .map_err(JobError::retry)?;
        let outcome = match (account, reach) {
            _ if now >= lost.expires_at => Err("too_late"),
            (_, None) => Err("lead_unreachable"),
            (None, _) => Err("no_sender"),
            (Some(account), Some(reach)) => {
                let draft = Draft {
                    lead: reach.lead,
                    address: &reach.address,
                    channel: lost.channel,
                    sender: &account.sender,
                    rate: account.rate,
                    purpose: lost.purpose,
                    caused_by: &lost.caused_by,
                    once_key: Some(format!("fallback:{failed}")),
                    subject: lost.subject.clone(),
                    body: lost.body.clone(),
                    send_at: None,
                    expires_at: Some(lost.expires_at),
                };
                let made = message::enqueue(tx.conn(), tenant, draft, now).await?;
                made.ok_or("taken_before")
            }
        };
        sql::end(tx.conn(), tenant, failed, outcome, now).await?;
    }
    job.complete_in(tx.conn()).await?;
    tx.commit().await?;
    messaging.wake();
    Ok(())
}
