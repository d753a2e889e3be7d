//! The clients of an agency: the tenants, from prospect to canceled.
//! Deliberately absent: deleting one (the database refuses it), and what a client has bought, which is billing's.

mod closing;
mod error;
mod onboarding;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, AgencyScope, ClientId, Visible};
use serde::Serialize;
use uuid::Uuid;

use mainstay_db::{Page, PageRequest};

pub use closing::cancel;
pub use error::Error;
pub use onboarding::{Origin, ensure};

use crate::Identity;
use mainstay_jobs::once::Once;

/// Where a client stands in its life.
///
/// ```text
/// prospect → onboarding → active ⇄ suspended
///     └───────────┴─────────┴─────────┴──────→ canceled (for ever)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type, Serialize)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not yet a customer.
    Prospect,
    /// Being set up.
    Onboarding,
    /// In service.
    Active,
    /// Service withheld.
    Suspended,
    /// Gone; kept for history.
    Canceled,
}

impl State {
    /// As the database and JSON spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Prospect => "prospect",
            State::Onboarding => "onboarding",
            State::Active => "active",
            State::Suspended => "suspended",
            State::Canceled => "canceled",
        }
    }
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Its id, which is the tenant id everywhere.
    pub id: ClientId,
    /// What people call it.
    pub name: String,
    /// Where it is written to.
    pub email: String,
    /// Its telephone number, E.164.
    pub phone: Option<String>,
    /// Its IANA time zone.
    pub time_zone: String,
    /// Where it stands.
    pub state: State,
    /// Rises with each change; the etag says it, and events carry it.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A client to be made.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// What people call it.
    pub name: String,
    /// Where it is written to.
    pub email: String,
    /// Its telephone number, E.164.
    pub phone: Option<String>,
    /// Its IANA time zone.
    pub time_zone: String,
    /// Prospect, onboarding or active.
    pub state: State,
}

/// The fields to change; none stays.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// What people call it.
    pub name: Option<String>,
    /// Where it is written to.
    pub email: Option<String>,
    /// Its telephone number.
    pub phone: Option<String>,
    /// Its time zone.
    pub time_zone: Option<String>,
}

/// Makes a client. Its email is unique among those of the agency that are not canceled.
///
/// # Errors
/// [`Error::EmailTaken`] naming the client that has it.
pub async fn create(
    identity: &Identity,
    ctx: &Context,
    once: &Once,
    new: NewClient,
) -> Result<proto::Client, Error> {
    let scope = ctx.agency_scope();
    let now = identity.clock.now();
    let mut tx = identity.database.agency(&scope).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let client = match sql::insert(tx.conn(), scope.agency, ClientId::generate(), &new, now).await {
        Ok(client) => client,
        Err(error) if error.constraint() == Some("client_email_key") => {
            tx.rollback().await?;
            let existing = find_by_email(identity, &scope, &new.email).await?;
            return Err(Error::EmailTaken { existing });
        }
        Err(error) => return Err(error.into()),
    };
    note(
        tx.conn(),
        &By::actor(ctx, now),
        "identity.client.create",
        "identity.client.created",
        None,
        &client,
    )
    .await?;
    let answer = rpc::answer(client);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Changes the fields that are named.
///
/// # Errors
/// [`Error::EtagMismatch`] when the client is not the one that was read.
pub async fn update(
    identity: &Identity,
    ctx: &Context,
    once: &Once,
    edit: Edit,
    etag: Option<&str>,
) -> Result<proto::Client, Error> {
    let tenant = ctx.tenant();
    let now = identity.clock.now();
    let mut tx = identity.database.tenant(tenant).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let before = sql::lock(tx.conn(), tenant).await?.ok_or(Error::NotFound)?;
    if !rules::is_current(&before, etag) {
        return Err(Error::EtagMismatch {
            current: rules::etag(before.version),
        });
    }
    let client = match rules::edit(&before, edit) {
        None => before,
        Some(edited) => {
            let after = sql::apply(tx.conn(), tenant.agency, &edited, now)
                .await
                .map_err(|error| match error.constraint() {
                    // Whoever may edit this client need not know of the other.
                    Some("client_email_key") => Error::EmailTaken { existing: None },
                    _ => error.into(),
                })?;
            let by = By::actor(ctx, now);
            note(
                tx.conn(),
                &by,
                "identity.client.update",
                "identity.client.updated",
                Some(&before),
                &after,
            )
            .await?;
            after
        }
    };
    let answer = rpc::answer(client);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// One client.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(identity: &Identity, scope: &AgencyScope, id: ClientId) -> Result<Client, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let client = sql::get(tx.conn(), scope.agency, id).await?;
    tx.commit().await?;
    client.ok_or(Error::NotFound)
}

/// The clients that may be seen, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    identity: &Identity,
    scope: &AgencyScope,
    state: Option<State>,
    request: &PageRequest<Uuid>,
) -> Result<Page<Client>, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let rows = sql::list(
        tx.conn(),
        scope.agency,
        state,
        request.after().copied(),
        request.limit(),
    )
    .await?;
    tx.commit().await?;
    Ok(request.page(rows, |last| last.id.uuid()))
}

/// Whether the agency has this client, in whatever state.
///
/// # Errors
/// Only the database's.
pub async fn exists(
    identity: &Identity,
    agency: AgencyId,
    id: ClientId,
) -> mainstay_db::Result<bool> {
    let scope = AgencyScope {
        agency,
        visible: Visible::All,
    };
    let mut tx = identity.database.agency(&scope).await?;
    let found = sql::get(tx.conn(), agency, id).await?;
    tx.commit().await?;
    Ok(found.is_some())
}

async fn find_by_email(
    identity: &Identity,
    scope: &AgencyScope,
    email: &str,
) -> Result<Option<ClientId>, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let found = sql::find_by_email(tx.conn(), scope.agency, email).await?;
    tx.commit().await?;
    Ok(found)
}

/// Locks the client's row for a transaction of another slice, and tells its state.
pub(crate) use sql::lock;

async fn note(
    conn: &mut sqlx::PgConnection,
    by: &By,
    action: &'static str,
    event: &'static str,
    before: Option<&Client>,
    after: &Client,
) -> mainstay_db::Result<()> {
    let change = Change {
        action,
        event,
        noun: "client",
        target: after.id.to_string(),
        client: Some(after.id),
        sequence: after.version,
        before: before.map(record::image),
        after: record::image(after),
    };
    record::write(conn, by, change).await
}
