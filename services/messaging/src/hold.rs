//! The hold an agency places on a client's sending, and the row of the client that everybody locks who changes what it
//! may send.
//! Deliberately absent: messages that are already on their way. Nothing is sold while a hold stands; what was sold stays.

mod error;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_jobs::record::{self, By, Change};
use mainstay_rpc::Context;
use mainstay_types::Tenant;
use serde::Serialize;

pub use error::Error;

use crate::Messaging;

/// What audit and events call it.
const NOUN: &str = "sending_hold";

/// A hold that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Why; told to whoever is refused because of it.
    pub reason: String,
    /// `mem_…` or `key_…`.
    pub placed_by: String,
    /// When.
    pub placed_at: DateTime<Utc>,
}

/// The client's row: how its sending stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// The hold, if one stands.
    pub hold: Option<Hold>,
    /// Since when the client is gone, if it is.
    pub closed_at: Option<DateTime<Utc>>,
    /// Rises with each placing, change and lifting, and with the closing.
    pub revision: i64,
}

/// Locks the client's row for a transaction, made if messaging never heard of the client. None: it is another agency's.
pub(crate) use sql::lock;

/// The hold that stands, if one does.
///
/// # Errors
/// Only the database's.
pub async fn get(messaging: &Messaging, tenant: Tenant) -> Result<Option<Hold>, Error> {
    Ok(find(messaging, tenant).await?.and_then(|row| row.hold))
}

/// The client's row, not locked; none when messaging never heard of the client.
pub(crate) async fn find(
    messaging: &Messaging,
    tenant: Tenant,
) -> mainstay_db::Result<Option<Sending>> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let row = sql::find(tx.conn(), tenant).await?;
    tx.commit().await?;
    Ok(row)
}

/// Places the hold, or gives the one that stands another reason. The same reason again changes nothing.
///
/// # Errors
/// [`Error::NoSuchClient`].
pub async fn place(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    reason: String,
) -> Result<Hold, Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    let before = sql::lock(tx.conn(), tenant, by.now)
        .await?
        .ok_or(Error::NoSuchClient)?;
    let hold = match rules::place(before.hold.as_ref(), reason, &by) {
        rules::Placing::Stands(hold) => hold,
        rules::Placing::New(hold) => {
            let revision = sql::apply(tx.conn(), tenant, Some(&hold), by.now).await?;
            let change = Change {
                action: "messaging.sending_hold.place",
                event: "messaging.sending_hold.placed",
                noun: NOUN,
                target: tenant.client.to_string(),
                client: Some(tenant.client),
                sequence: revision,
                before: Some(rules::told(before.hold.as_ref())),
                after: rules::told(Some(&hold)),
            };
            record::write(tx.conn(), &by, change).await?;
            hold
        }
    };
    tx.commit().await?;
    Ok(hold)
}

/// Lifts the hold. With none standing it changes nothing.
///
/// # Errors
/// [`Error::NoSuchClient`].
pub async fn lift(messaging: &Messaging, ctx: &Context, tenant: Tenant) -> Result<(), Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    let before = sql::lock(tx.conn(), tenant, by.now)
        .await?
        .ok_or(Error::NoSuchClient)?;
    if let Some(hold) = before.hold {
        let revision = sql::apply(tx.conn(), tenant, None, by.now).await?;
        let change = Change {
            action: "messaging.sending_hold.lift",
            event: "messaging.sending_hold.lifted",
            noun: NOUN,
            target: tenant.client.to_string(),
            client: Some(tenant.client),
            sequence: revision,
            before: Some(rules::told(Some(&hold))),
            after: rules::told(None),
        };
        record::write(tx.conn(), &by, change).await?;
    }
    tx.commit().await?;
    Ok(())
}
