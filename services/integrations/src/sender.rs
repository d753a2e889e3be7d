//! Senders (INT-16): the numbers and mail addresses that messages leave from, whose they are, and in which order a client's
//! message tries them. Types, the public operations, and where transactions begin and end.
//! Deliberately absent: sending, and counting against a sender's rate. Both are messaging's.

pub mod directory;
mod error;
pub mod parked;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::integrations::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, AgencyScope, ClientId, ProviderAccountId, SenderId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;
pub use rules::Address;

use crate::Integrations;
use crate::provider_account::{self, Provider};

/// What audit and events call it.
const NOUN: &str = "sender";
const TAKEN: &str = "sender_active_address_key";
const PARKED: &str = "sender_address_is_free";
/// The most numbers of one account whose calls are put through: all of them are told with each look at its secrets.
const MOST_FORWARDS: i64 = 10_000;

/// What a sender sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Text messages.
    Sms,
    /// Mail.
    Email,
    /// Calls.
    Voice,
}

impl Channel {
    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Sms => "sms",
            Channel::Email => "email",
            Channel::Voice => "voice",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Channel::Sms, Channel::Email, Channel::Voice]
            .into_iter()
            .find(|channel| channel.as_str() == name)
    }
}

/// A sender.
#[derive(Debug, Clone, PartialEq)]
pub struct Sender {
    /// Its id.
    pub id: SenderId,
    /// The account it belongs to.
    pub account: ProviderAccountId,
    /// The account's provider.
    pub provider: Provider,
    /// What it sends.
    pub channel: Channel,
    /// Its address, as people read it.
    pub address: String,
    /// The client it belongs to; none: it is for those that have none of their own.
    pub client: Option<ClientId>,
    /// The most messages a second.
    pub rate_per_second: f64,
    /// Whether messages leave from it.
    pub active: bool,
    /// Where calls to it are put through to.
    pub forward_calls_to: Option<String>,
    /// Since when it is parked: its client has left.
    pub parked_at: Option<DateTime<Utc>>,
    /// When somebody last wrote to it or rang it while it was.
    pub heard_at: Option<DateTime<Utc>>,
    /// Rises with every event about it.
    pub revision: i64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A new sender.
#[derive(Debug)]
pub struct New {
    /// The account it belongs to.
    pub account: ProviderAccountId,
    /// What it sends.
    pub channel: Channel,
    /// Its address.
    pub address: Address,
    /// The client it belongs to.
    pub client: Option<ClientId>,
    /// The most messages a second.
    pub rate_per_second: Option<f64>,
    /// Where calls to it are put through to.
    pub forward_calls_to: Option<String>,
}

/// What to change.
#[derive(Debug, Default)]
pub struct Edit {
    /// Whose it is: `Some(None)` makes it everybody's of the agency.
    pub client: Option<Option<ClientId>>,
    /// The most messages a second.
    pub rate_per_second: Option<f64>,
    /// Whether messages leave from it.
    pub active: Option<bool>,
    /// Where calls to it are put through to: `Some(None)` turns them away.
    pub forward_calls_to: Option<Option<String>>,
}

/// Adds a sender.
///
/// # Errors
/// [`Error::NoSuchClient`], [`Error::NoSuchAccount`], [`Error::WrongProvider`], [`Error::CannotForward`],
/// [`Error::AddressTaken`], [`Error::Parked`], [`Error::Once`].
pub async fn create(
    integrations: &Integrations,
    ctx: &Context,
    new: New,
    once: &Once,
) -> Result<proto::Sender, Error> {
    let by = By::actor(ctx, integrations.clock.now());
    let scope = ctx.agency_scope();
    exists(integrations, &by, new.client).await?;
    let mut tx = integrations.database.agency(&scope).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let conn = tx.conn();
    let provider = provider_account::share(conn, by.agency, new.account).await?;
    let provider = provider.ok_or(Error::NoSuchAccount)?;
    if !rules::carries(provider, new.channel) {
        return Err(Error::WrongProvider {
            provider,
            channel: new.channel,
        });
    }
    let forwards = new.forward_calls_to.as_deref();
    rules::forwards(new.channel, new.address.key(), forwards)?;
    let rate = new
        .rate_per_second
        .unwrap_or_else(|| rules::usual_rate(new.channel));
    let sender = Sender {
        id: SenderId::generate(),
        account: new.account,
        provider,
        channel: new.channel,
        address: new.address.shown().to_owned(),
        client: new.client,
        rate_per_second: rate,
        active: true,
        forward_calls_to: new.forward_calls_to,
        parked_at: None,
        heard_at: None,
        revision: 1,
        created_at: by.now,
        updated_at: by.now,
    };
    if let Err(error) = sql::insert(conn, by.agency, &sender, new.address.key()).await {
        drop(tx);
        let key = new.address.key();
        return Err(taken(integrations, &scope, new.channel, key, error).await);
    }
    note(conn, &by, Noted::Created, None, &sender).await?;
    let answer = rpc::answer(&sender);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// The senders, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    integrations: &Integrations,
    scope: &AgencyScope,
    (channel, client): (Option<Channel>, Option<ClientId>),
    page: PageRequest<Uuid>,
) -> Result<Page<Sender>, Error> {
    let mut tx = integrations.database.agency(scope).await?;
    let after = page.after().copied();
    let rows = sql::list(
        tx.conn(),
        scope.agency,
        (channel, client),
        after,
        page.limit(),
    )
    .await?;
    Ok(page.page(rows, |last| last.id.uuid()))
}

/// Changes the fields that are named.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Parked`], [`Error::NoSuchClient`], [`Error::EtagMismatch`], [`Error::CannotForward`],
/// [`Error::AddressTaken`] when it becomes active.
pub async fn update(
    integrations: &Integrations,
    ctx: &Context,
    id: SenderId,
    edit: Edit,
    etag: Option<&str>,
    once: &Once,
) -> Result<proto::Sender, Error> {
    let by = By::actor(ctx, integrations.clock.now());
    let scope = ctx.agency_scope();
    exists(integrations, &by, edit.client.flatten()).await?;
    let mut tx = integrations.database.agency(&scope).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let conn = tx.conn();
    let before = sql::lock(conn, by.agency, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    parked::refuse(&before)?;
    rules::current(&before, etag)?;
    let after = match rules::edited(&before, &edit, by.now) {
        None => before,
        Some(after) => {
            let forwards = after.forward_calls_to.as_deref();
            rules::forwards(after.channel, &after.address, forwards)?;
            if let Err(error) = sql::apply(conn, by.agency, &after).await {
                drop(tx);
                let address = Address::parse(after.channel, &after.address);
                let key = address.map(|address| address.key().to_owned());
                let key = key.unwrap_or_default();
                return Err(taken(integrations, &scope, after.channel, &key, error).await);
            }
            note(conn, &by, Noted::Updated, Some(&before), &after).await?;
            after
        }
    };
    let answer = rpc::answer(&after);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Deletes a sender.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Parked`].
pub async fn delete(integrations: &Integrations, ctx: &Context, id: SenderId) -> Result<(), Error> {
    let by = By::actor(ctx, integrations.clock.now());
    let mut tx = integrations.database.agency(&ctx.agency_scope()).await?;
    let conn = tx.conn();
    let before = sql::lock(conn, by.agency, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    parked::refuse(&before)?;
    sql::delete(conn, by.agency, id).await?;
    let last = Sender {
        active: false,
        revision: before.revision + 1,
        updated_at: by.now,
        ..before.clone()
    };
    note(conn, &by, Noted::Deleted, Some(&before), &last).await?;
    tx.commit().await?;
    Ok(())
}

/// Where calls to an account's numbers are put through to, by number.
pub(crate) async fn forwards(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: ProviderAccountId,
) -> mainstay_db::Result<Vec<(String, String)>> {
    sql::list_forwards(conn, agency, account, MOST_FORWARDS).await
}

/// Whether the agency has the client that a request names in its body: the stack looks at those in paths alone. Asked before
/// the transaction, since identity answers.
async fn exists(
    integrations: &Integrations,
    by: &By,
    client: Option<ClientId>,
) -> Result<(), Error> {
    let Some(client) = client else {
        return Ok(());
    };
    let asked = integrations.directory.exists(by.agency, client).await;
    match asked.map_err(Error::Directory)? {
        true => Ok(()),
        false => Err(Error::NoSuchClient),
    }
}

/// The failed transaction is gone; a new one finds whose address it is.
async fn taken(
    integrations: &Integrations,
    scope: &AgencyScope,
    channel: Channel,
    key: &str,
    error: mainstay_db::Error,
) -> Error {
    let found = async |active| {
        let mut tx = integrations.database.agency(scope).await?;
        sql::find_by_address(tx.conn(), scope.agency, (channel, key), active).await
    };
    match error.constraint() {
        Some(TAKEN) => Error::AddressTaken {
            existing: found(true).await.ok().flatten().map(|sender| sender.id),
        },
        Some(PARKED) => match found(false)
            .await
            .ok()
            .flatten()
            .map(|one| parked::refuse(&one))
        {
            Some(Err(parked)) => parked,
            // It was freed a moment ago.
            _ => error.into(),
        },
        _ => error.into(),
    }
}

/// What happened to a sender.
#[derive(Debug, Clone, Copy)]
enum Noted {
    Created,
    Updated,
    Deleted,
    Parked,
    Released,
}

async fn note(
    conn: &mut PgConnection,
    by: &By,
    what: Noted,
    before: Option<&Sender>,
    after: &Sender,
) -> Result<(), Error> {
    let (action, event) = match what {
        Noted::Created => ("integrations.sender.create", "integrations.sender.created"),
        Noted::Updated => ("integrations.sender.update", "integrations.sender.updated"),
        Noted::Deleted => ("integrations.sender.delete", "integrations.sender.deleted"),
        Noted::Parked => ("integrations.sender.park", "integrations.sender.parked"),
        Noted::Released => (
            "integrations.sender.release",
            "integrations.sender.released",
        ),
    };
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: after.client,
        sequence: after.revision,
        before: before.map(told),
        after: told(after),
    };
    record::write(conn, by, change).await?;
    Ok(())
}

fn told(sender: &Sender) -> Value {
    json!({
        "id": sender.id,
        "account_id": sender.account,
        "channel": sender.channel.as_str(),
        "address": sender.address,
        "client_id": sender.client,
        "rate_per_second": sender.rate_per_second,
        "state": rules::state(sender.active),
        "forward_calls_to": sender.forward_calls_to,
        "parked_at": sender.parked_at,
    })
}
