//! The end of a client's messaging (BIL-14): closed in one write, by which the gate refuses and nothing starts; then a job tidies
//! up behind it.
//! Deliberately absent: deleting. Conversations, consents and what was sent stay to be read.

mod rpc;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_jobs::record::{self, By, Change};
use mainstay_jobs::{Job, JobError, enqueue};
use mainstay_rpc::Context;
use mainstay_types::{ServiceName, Tenant};
use serde_json::json;

use crate::jobs::close_client;
use crate::lead::{self, Status};
use crate::message::sql::{Why, cancel, lock_sending};
use crate::{Messaging, automation, hold, limit};

/// Taken back, or lost, in one transaction.
const AT_ONCE: i64 = 200;
/// As messages and audit spell why.
const WHY: Why<'static> = Why {
    code: "client_not_active",
    detail: "the client has left",
};

/// Closes a client. Doing it twice is doing it once.
///
/// # Errors
/// [`limit::Error::NoSuchClient`].
pub async fn close(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
) -> Result<(), limit::Error> {
    limit::known(messaging, tenant).await?;
    let by = By::service(ctx, tenant.agency, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    let before = hold::lock(tx.conn(), tenant, by.now).await?;
    let before = before.ok_or(limit::Error::NoSuchClient)?;
    if before.closed_at.is_some() {
        return Ok(());
    }
    let revision = sql::close(tx.conn(), tenant, by.now).await?;
    let told = |at: Option<DateTime<Utc>>| json!({ "client_id": tenant.client, "closed_at": at });
    let change = Change {
        action: "messaging.client.close",
        event: "messaging.client.closed",
        noun: "client",
        target: tenant.client.to_string(),
        client: Some(tenant.client),
        sequence: revision,
        before: Some(told(None)),
        after: told(Some(by.now)),
    };
    record::write(tx.conn(), &by, change).await?;
    enqueue(tx.conn(), close_client::job(tenant, by.now)).await?;
    tx.commit().await?;
    messaging.wake_jobs();
    Ok(())
}

/// Ends what acts, takes back what waits, and gives up the open leads, some at a time. Killed half-way it goes on.
pub(crate) async fn tidy(messaging: &Messaging, job: &Job, tenant: Tenant) -> Result<(), JobError> {
    let by = By::itself(ServiceName::Messaging, tenant.agency, messaging.clock.now());
    for id in {
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        automation::all_to_end(tx.conn(), tenant, WHY.detail).await?
    } {
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        let ended = automation::end(tx.conn(), tenant, &by, id, WHY.detail).await;
        ended.map_err(JobError::retry)?;
        tx.commit().await?;
    }
    loop {
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        lock_sending(tx.conn(), tenant).await?;
        let waiting = sql::waiting(tx.conn(), tenant, AT_ONCE).await?;
        cancel(tx.conn(), tenant, &waiting, WHY, by.now).await?;
        tx.commit().await?;
        if waiting.is_empty() {
            break;
        }
    }
    loop {
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        let open = sql::open_leads(tx.conn(), tenant, AT_ONCE).await?;
        for lead in &open {
            let moved = lead::advance(tx.conn(), tenant, &by, *lead, Status::Lost).await;
            moved.map_err(JobError::retry)?;
        }
        if open.is_empty() {
            job.complete_in(tx.conn()).await?;
        }
        tx.commit().await?;
        if open.is_empty() {
            return Ok(());
        }
    }
}
