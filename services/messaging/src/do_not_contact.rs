//! The lists of those nobody contacts: each client's, and the agency's, which binds all its clients. They are about an
//! address, whatever the channel.
//! Deliberately absent: opting out. Who is on a list never has to have heard of the client.

mod error;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_rpc::Context;
use mainstay_types::{AgencyScope, ClientId, Tenant};
use serde::Serialize;
use sqlx::PgConnection;

pub use error::Error;

pub(crate) use sql::is_listed;

use crate::address::Address;
use crate::{Messaging, message};

/// An address on a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Why.
    pub reason: String,
    /// `mem_…` or `key_…`.
    pub listed_by: String,
    /// When.
    pub listed_at: DateTime<Utc>,
}

/// The row of an address in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// That it is on it, if it is.
    pub listing: Option<Listing>,
    /// Rises with each change.
    pub revision: i64,
}

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The address.
    pub address: String,
    /// Why it is there.
    pub listing: Listing,
}

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// A client's.
    Client(Tenant),
    /// The agency's.
    Agency(AgencyScope),
}

/// Puts an address on a list, or gives it another reason. The same reason again changes nothing.
///
/// # Errors
/// Only the database's.
pub async fn add(
    messaging: &Messaging,
    ctx: &Context,
    list: &List,
    address: &Address,
    reason: String,
) -> Result<Listing, Error> {
    let by = By::actor(ctx, messaging.clock.now());
    match list {
        List::Client(tenant) => {
            let mut tx = messaging.database.tenant(*tenant).await?;
            let listing = add_in(tx.conn(), list, &by, address, reason).await?;
            tx.commit().await?;
            Ok(listing)
        }
        List::Agency(scope) => {
            let mut tx = messaging.database.agency(scope).await?;
            let listing = add_in(tx.conn(), list, &by, address, reason).await?;
            tx.commit().await?;
            Ok(listing)
        }
    }
}

/// Takes an address off a list.
///
/// # Errors
/// [`Error::NotListed`].
pub async fn remove(
    messaging: &Messaging,
    ctx: &Context,
    list: &List,
    address: &Address,
) -> Result<(), Error> {
    let by = By::actor(ctx, messaging.clock.now());
    match list {
        List::Client(tenant) => {
            let mut tx = messaging.database.tenant(*tenant).await?;
            remove_in(tx.conn(), list, &by, address).await?;
            tx.commit().await?;
        }
        List::Agency(scope) => {
            let mut tx = messaging.database.agency(scope).await?;
            remove_in(tx.conn(), list, &by, address).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

/// A page of a list, by address.
///
/// # Errors
/// Only the database's.
pub async fn page(
    messaging: &Messaging,
    list: &List,
    page: PageRequest<String>,
) -> Result<Page<Line>, Error> {
    let after = page.after().map(String::as_str);
    let lines = match list {
        List::Client(tenant) => {
            let mut tx = messaging.database.tenant(*tenant).await?;
            sql::list(tx.conn(), list, after, page.limit()).await?
        }
        List::Agency(scope) => {
            let mut tx = messaging.database.agency(scope).await?;
            sql::list(tx.conn(), list, after, page.limit()).await?
        }
    };
    Ok(page.page(lines, |line| line.address.clone()))
}

async fn add_in(
    conn: &mut PgConnection,
    list: &List,
    by: &By,
    address: &Address,
    reason: String,
) -> Result<Listing, Error> {
    if let List::Client(tenant) = list {
        message::sql::lock_sending(conn, *tenant).await?;
    }
    let before = sql::lock(conn, list, address, by.now).await?;
    match rules::add(before.listing.as_ref(), reason, by) {
        rules::Adding::Stands(listing) => Ok(listing),
        rules::Adding::New(listing) => {
            write(conn, list, by, address, &before, Some(&listing)).await?;
            // What waits for an address on the agency's list is refused by the gate when it comes up.
            if let List::Client(tenant) = list {
                let why = message::sql::Why {
                    code: "do_not_contact",
                    detail: "the address was put on the list of those nobody contacts",
                };
                let channels = address.channels();
                message::sql::cancel_to(conn, *tenant, address, channels, why, by.now).await?;
            }
            Ok(listing)
        }
    }
}

async fn remove_in(
    conn: &mut PgConnection,
    list: &List,
    by: &By,
    address: &Address,
) -> Result<(), Error> {
    let before = sql::find(conn, list, address).await?;
    match before {
        Some(before) if before.listing.is_some() => {
            write(conn, list, by, address, &before, None).await
        }
        Some(_) | None => Err(Error::NotListed),
    }
}

async fn write(
    conn: &mut PgConnection,
    list: &List,
    by: &By,
    address: &Address,
    before: &Row,
    after: Option<&Listing>,
) -> Result<(), Error> {
    let sequence = sql::apply(conn, list, address, after, by.now).await?;
    let (action, event, noun) = rules::names(list, after.is_some());
    let change = Change {
        action,
        event,
        noun,
        target: rules::target(list, address),
        client: list.client(),
        sequence,
        before: Some(rules::told(address, before.listing.as_ref())),
        after: rules::told(address, after),
    };
    record::write(conn, by, change).await?;
    Ok(())
}

impl List {
    fn client(&self) -> Option<ClientId> {
        match self {
            List::Client(tenant) => Some(tenant.client),
            List::Agency(_) => None,
        }
    }
}
