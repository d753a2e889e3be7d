//! Notices: what the platform itself says to an agency's people, codes to sign in with among it. Staff are leads of the
//! agency's *house*, a tenant with the agency's own id, so that whatever holds for messages holds for these: the gate, one
//! sender, once-keys, doubts.
//! Deliberately absent: a client. Identity knows none with the house's id, so nothing of it is reached over REST; and a text
//! of a code at rest, which the database forgets once its message has left or never can.

mod error;
mod rpc;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_jobs::record::By;
use mainstay_types::{AgencyId, ClientId, MessageId, Tenant};

pub use error::Error;

use crate::address::Address;
use crate::gate::{Channel, Purpose};
use crate::message::rules::Status;
use crate::message::{self, Draft};
use crate::{Messaging, lead};

/// What stands instead of a code that is forgotten; the database writes it.
pub(crate) const FORGOTTEN: &str = "(a code)";

/// What is to be said to somebody of the agency's.
#[derive(Clone)]
pub struct Notice {
    /// Whose staff.
    pub agency: AgencyId,
    /// A code, or a notice.
    pub purpose: Purpose,
    /// How.
    pub channel: Channel,
    /// Where.
    pub address: Address,
    /// Of mail.
    pub subject: Option<String>,
    /// The text.
    pub body: String,
    /// What there can be only one of.
    pub once_key: String,
    /// After this it does not leave any more.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The tenant that an agency's own people are written to from.
pub fn house(agency: AgencyId) -> Tenant {
    Tenant {
        agency,
        client: ClientId::from_uuid(agency.uuid()),
    }
}

/// Whether a tenant is its agency's house, and so no client.
pub fn is_house(tenant: Tenant) -> bool {
    tenant.client.uuid() == tenant.agency.uuid()
}

/// Puts a notice where it waits for its leave; one with its once-key that is there already stays the only one. Gives the
/// message and how it stands.
///
/// # Errors
/// [`Error`].
pub async fn take(
    messaging: &Messaging,
    by: &By,
    notice: Notice,
) -> Result<(MessageId, Status), Error> {
    let tenant = house(notice.agency);
    // Before the transaction: it asks another service.
    let accounts = messaging
        .senders
        .resolve(tenant, notice.channel, None)
        .await?;
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    let key = Some(notice.once_key);
    if let Some(known) = sql::find(tx.conn(), tenant, key.as_deref()).await? {
        return Ok(known);
    }
    let account = accounts.into_iter().next();
    let account = account.ok_or(Error::NoSender(notice.channel))?;
    let source = lead::Source::Other;
    let (lead, _) = lead::ensure(tx.conn(), tenant, by, &notice.address, source).await?;
    let draft = Draft {
        lead,
        address: &notice.address,
        channel: notice.channel,
        sender: &account.sender,
        rate: account.rate,
        purpose: notice.purpose,
        caused_by: &by.actor,
        once_key: key.clone(),
        subject: notice.subject,
        body: notice.body,
        send_at: None,
        expires_at: notice.expires_at,
    };
    // None when somebody was faster with the same key: theirs is read.
    message::enqueue(tx.conn(), tenant, draft, by.now).await?;
    let known = sql::find(tx.conn(), tenant, key.as_deref()).await?;
    tx.commit().await?;
    messaging.wake();
    known.ok_or(Error::Unwritten)
}
