//! Consent: on what grounds an address may be written to by a client, and whether the person has ended that. Per client,
//! channel and address; every change is an entry of a history that nobody edits, an audit row and an event.
//! Deliberately absent: whether a message may leave. That is the gate's, which reads what stands here.

mod error;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::messaging::v1::ContactConsent;
use mainstay_rpc::Context;
use mainstay_types::Tenant;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

pub(crate) use rpc::answer;
pub(crate) use sql::grounds;

use crate::address::Address;
use crate::gate::Channel;
use crate::gate::rules::Consent;
use crate::message::sql::{Why, cancel_to, lock_sending};
use crate::{Messaging, automation, do_not_contact, fallback};

/// What audit and events call it.
const NOUN: &str = "consent";

/// How an address stands on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The channel.
    pub channel: Channel,
    /// Since when the person has opted out.
    pub opted_out_at: Option<DateTime<Utc>>,
    /// The grounds that stand, opted out or not.
    pub consent: Option<Consent>,
    /// Rises with each entry of the history.
    pub revision: i64,
}

/// How an address stands with a client, on every channel that reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The address.
    pub address: Address,
    /// Whether it is on a list of those nobody contacts.
    pub do_not_contact: bool,
    /// Each channel.
    pub channels: Vec<Standing>,
}

/// What somebody said, and how we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it came: a form, a reply, a call.
    pub source: String,
    /// The words.
    pub text: Option<String>,
}

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grounds were given.
    Consent(Consent),
    /// The person opted out.
    OptOut,
    /// The person opted in again.
    OptIn,
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Orders the history.
    pub id: Uuid,
    /// Of which address.
    pub address: String,
    /// On which channel.
    pub channel: Channel,
    /// What.
    pub kind: Kind,
    /// How.
    pub said: Said,
    /// Who recorded it.
    pub recorded_by: String,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
}

/// How an address stands.
///
/// # Errors
/// Only the database's.
pub async fn get(
    messaging: &Messaging,
    tenant: Tenant,
    address: Address,
) -> Result<Contact, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let contact = contact(tx.conn(), tenant, address).await?;
    tx.commit().await?;
    Ok(contact)
}

/// Records grounds on one channel. The strongest that has not lapsed stands.
///
/// # Errors
/// [`Error::Once`].
pub async fn record(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    (address, channel): (Address, Channel),
    (consent, said): (Consent, Said),
    once: &Once,
    answer: impl FnOnce(&Contact) -> ContactConsent,
) -> Result<ContactConsent, Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let kind = Kind::Consent(consent);
    write(tx.conn(), tenant, &by, &address, channel, kind, &said).await?;
    let answer = answer(&contact(tx.conn(), tenant, address).await?);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Opts an address out or in again, on these channels, all in one transaction. Where it stands so already, nothing changes.
///
/// # Errors
/// Only the database's.
pub async fn change(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    (address, channels): (Address, &[Channel]),
    (kind, said): (Kind, Said),
) -> Result<Contact, Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    change_in(tx.conn(), tenant, &by, &address, channels, (kind, said)).await?;
    let contact = contact(tx.conn(), tenant, address).await?;
    tx.commit().await?;
    Ok(contact)
}

/// The history, newest first.
///
/// # Errors
/// Only the database's.
pub async fn history(
    messaging: &Messaging,
    tenant: Tenant,
    address: Option<Address>,
    page: PageRequest<Uuid>,
) -> Result<Page<Entry>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let after = page.after().copied();
    let rows = sql::history(tx.conn(), tenant, address.as_ref(), after, page.limit()).await?;
    tx.commit().await?;
    Ok(page.page(rows, |entry| entry.id))
}

/// How an address stands, in the caller's transaction.
pub(crate) async fn contact(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: Address,
) -> Result<Contact, Error> {
    let known = sql::list(conn, tenant, &address).await?;
    let channels = address.channels().iter().map(|channel| {
        let found = known.iter().find(|standing| standing.channel == *channel);
        found.copied().unwrap_or(Standing {
            channel: *channel,
            opted_out_at: None,
            consent: None,
            revision: 0,
        })
    });
    Ok(Contact {
        channels: channels.collect(),
        do_not_contact: do_not_contact::is_listed(conn, tenant, &address).await?,
        address,
    })
}

/// Opts an address out or in again on these channels, in the caller's transaction. Whether that changed anything.
///
/// # Errors
/// Only the database's.
pub(crate) async fn change_in(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    address: &Address,
    channels: &[Channel],
    (kind, said): (Kind, Said),
) -> mainstay_db::Result<bool> {
    let mut changed = false;
    // Always in the same order, so that two of these never wait for each other.
    for channel in channels {
        changed |= write(conn, tenant, by, address, *channel, kind, &said).await?;
    }
    Ok(changed)
}

/// One change of one channel's row, in the caller's transaction: under its lock, with its entry, audit row and event.
/// Whoever makes several goes through addresses and channels in their order, so that no two wait for each other. Opting
/// out takes back whatever waits to leave for the address: once that is committed, nothing more leaves. Whether anything
/// changed.
pub(crate) async fn write(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    address: &Address,
    channel: Channel,
    kind: Kind,
    said: &Said,
) -> mainstay_db::Result<bool> {
    // Before the row: whoever lets messages go has it before it looks at the row.
    if !matches!(kind, Kind::Consent(_)) {
        lock_sending(conn, tenant).await?;
    }
    let before = sql::lock(conn, tenant, channel, address, by.now).await?;
    let Some(after) = rules::apply(before, kind, by.now) else {
        return Ok(false);
    };
    sql::apply(conn, tenant, address, after, by.now).await?;
    if kind == Kind::OptOut {
        let why = Why {
            code: "opted_out",
            detail: "the person opted out",
        };
        cancel_to(conn, tenant, address, &[channel], why, by.now).await?;
        automation::stop_for(conn, tenant, address, by.now).await?;
        fallback::stop_for(conn, tenant, address, by.now).await?;
    }
    let entry = Entry {
        id: Uuid::now_v7(),
        address: address.as_str().to_owned(),
        channel,
        kind,
        said: said.clone(),
        recorded_by: by.actor.clone(),
        occurred_at: rules::occurred_at(kind, by.now),
        recorded_at: by.now,
    };
    sql::insert(conn, tenant, &entry, after.revision).await?;
    let (action, event) = rules::names(kind);
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: format!(
            "{}/{}/{}",
            tenant.client,
            channel.as_str(),
            address.as_str()
        ),
        client: Some(tenant.client),
        sequence: after.revision,
        before: Some(rules::told(&before, address, None)),
        after: rules::told(&after, address, Some(said)),
    };
    record::write(conn, by, change).await?;
    Ok(true)
}
