//! Accounts at providers (INT-15, INT-16): several of each provider, their credentials in the vault, rotated while everything
//! runs. Types, the public operations, and where transactions begin and end.
//! Deliberately absent: calls to providers. Whoever calls asks for the credentials of that moment.

pub mod credentials;
mod error;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::integrations::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, AgencyScope, ProviderAccountId, Visible};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use credentials::{Credentials, Provider};
pub use error::Error;
pub(crate) use rpc::proto_provider;
pub(crate) use rules::{endpoint_token, token_hash};
/// An account to add a sender to, which cannot be deleted until the transaction has ended.
pub(crate) use sql::share;

use crate::{Integrations, sender};

/// What audit and events call it.
const NOUN: &str = "provider_account";

/// Whether messages leave through an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They do.
    Active,
    /// They do not.
    Disabled,
    /// It is gone; the row stays for what is still under way.
    Deleted,
}

impl State {
    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Disabled => "disabled",
            State::Deleted => "deleted",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [State::Active, State::Disabled, State::Deleted]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// An account, without its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: ProviderAccountId,
    /// Whose.
    pub provider: Provider,
    /// What people call it.
    pub name: String,
    /// Whether messages leave through it.
    pub state: State,
    /// Whether it is preferred among the agency's accounts of the provider.
    pub is_default: bool,
    /// The last four characters of what it is signed in with.
    pub hint: String,
    /// Which credentials are in force.
    pub credentials_revision: i64,
    /// Until when those before verify webhooks as well.
    pub overlap_ends_at: Option<DateTime<Utc>>,
    /// Stands in its webhooks' addresses.
    pub endpoint_token: Option<String>,
    /// Rises with every event about it.
    pub revision: i64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A new account.
#[derive(Debug)]
pub struct New {
    /// Whose.
    pub provider: Provider,
    /// What people call it.
    pub name: String,
    /// What the provider gave.
    pub credentials: Credentials,
    /// Whether it is to be preferred.
    pub is_default: bool,
}

/// What to change.
#[derive(Debug, Default)]
pub struct Edit {
    /// What people call it.
    pub name: Option<String>,
    /// Whether messages leave through it.
    pub state: Option<State>,
    /// Prefer it.
    pub make_default: bool,
    /// End what was rotated away.
    pub end_overlap: bool,
}

/// Adds an account.
///
/// # Errors
/// [`Error::Once`], [`Error::Vault`].
pub async fn create(
    integrations: &Integrations,
    ctx: &Context,
    new: New,
    once: &Once,
) -> Result<proto::ProviderAccount, Error> {
    let by = By::actor(ctx, integrations.clock.now());
    let mut tx = integrations.database.agency(&ctx.agency_scope()).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let conn = tx.conn();
    sql::lock_preference(conn, by.agency, new.provider).await?;
    let first = !sql::has_default(conn, by.agency, new.provider).await?;
    if new.is_default && !first {
        prefer_no_other(conn, &by, new.provider).await?;
    }
    let account = Account {
        id: ProviderAccountId::generate(),
        provider: new.provider,
        name: new.name,
        state: State::Active,
        is_default: new.is_default || first,
        hint: new.credentials.hint(),
        credentials_revision: 1,
        overlap_ends_at: None,
        endpoint_token: new
            .provider
            .has_webhooks()
            .then(endpoint_token)
            .transpose()?,
        revision: 1,
        created_at: by.now,
        updated_at: by.now,
    };
    sql::insert(conn, by.agency, &account).await?;
    if let Some(token) = &account.endpoint_token {
        sql::insert_endpoint(conn, by.agency, account.id, &token_hash(token), by.now).await?;
    }
    keep(integrations, conn, &by, &account, &new.credentials).await?;
    note(conn, &by, Noted::Created, None, &account).await?;
    let answer = rpc::answer(&account);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// The accounts, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    integrations: &Integrations,
    scope: &AgencyScope,
    provider: Option<Provider>,
    page: PageRequest<Uuid>,
) -> Result<Page<Account>, Error> {
    let now = integrations.clock.now();
    let mut tx = integrations.database.agency(scope).await?;
    let after = page.after().copied();
    let rows = sql::list(tx.conn(), scope.agency, provider, after, page.limit(), now).await?;
    Ok(page.page(rows, |last| last.id.uuid()))
}

/// One account.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    integrations: &Integrations,
    scope: &AgencyScope,
    id: ProviderAccountId,
) -> Result<Account, Error> {
    let mut tx = integrations.database.agency(scope).await?;
    let found = sql::find(tx.conn(), scope.agency, id, integrations.clock.now()).await?;
    found.ok_or(Error::NotFound)
}

/// Changes the fields that are named.
///
/// # Errors
/// [`Error::NotFound`], [`Error::EtagMismatch`].
pub async fn update(
    integrations: &Integrations,
    ctx: &Context,
    id: ProviderAccountId,
    edit: Edit,
    etag: Option<&str>,
    once: &Once,
) -> Result<proto::ProviderAccount, Error> {
    let by = By::actor(ctx, integrations.clock.now());
    let mut tx = integrations.database.agency(&ctx.agency_scope()).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let conn = tx.conn();
    let before = locked(conn, &by, id).await?;
    rules::current(&before, etag)?;
    if edit.make_default && !before.is_default {
        sql::lock_preference(conn, by.agency, before.provider).await?;
        prefer_no_other(conn, &by, before.provider).await?;
    }
    let after = match rules::edited(&before, edit, by.now) {
        None => before,
        Some(after) => {
            if after.overlap_ends_at.is_none() && before.overlap_ends_at.is_some() {
                sql::expire_former(conn, by.agency, id, after.credentials_revision, by.now).await?;
            }
            sql::apply(conn, by.agency, &after).await?;
            note(conn, &by, Noted::Updated, Some(&before), &after).await?;
            after
        }
    };
    let answer = rpc::answer(&after);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Gives an account new credentials. Those before verify webhooks for `overlap_seconds` more.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Credentials`] when they are not what its provider gives, [`Error::Vault`].
pub async fn rotate(
    integrations: &Integrations,
    ctx: &Context,
    id: ProviderAccountId,
    given: &credentials::Given,
    overlap: chrono::TimeDelta,
    once: &Once,
) -> Result<proto::ProviderAccount, Error> {
    let by = By::actor(ctx, integrations.clock.now());
    let mut tx = integrations.database.agency(&ctx.agency_scope()).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let conn = tx.conn();
    let before = locked(conn, &by, id).await?;
    let read = credentials::read(before.provider, given, integrations.plain_http_allowed);
    let credentials = read.map_err(Error::Credentials)?;
    let after = rules::rotated(&before, credentials.hint(), overlap, by.now);
    let until = by.now + overlap;
    sql::expire_former(conn, by.agency, id, after.credentials_revision, until).await?;
    keep(integrations, conn, &by, &after, &credentials).await?;
    sql::apply(conn, by.agency, &after).await?;
    note(conn, &by, Noted::Rotated, Some(&before), &after).await?;
    let answer = rpc::answer(&after);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Deletes an account that no sender uses.
///
/// # Errors
/// [`Error::NotFound`], [`Error::InUse`].
pub async fn delete(
    integrations: &Integrations,
    ctx: &Context,
    id: ProviderAccountId,
) -> Result<(), Error> {
    let by = By::actor(ctx, integrations.clock.now());
    let mut tx = integrations.database.agency(&ctx.agency_scope()).await?;
    let conn = tx.conn();
    let before = locked(conn, &by, id).await?;
    if sql::has_senders(conn, by.agency, id).await? {
        return Err(Error::InUse);
    }
    let after = rules::deleted(&before, by.now);
    let none_of = after.credentials_revision + 1;
    sql::expire_former(conn, by.agency, id, none_of, by.now).await?;
    sql::apply(conn, by.agency, &after).await?;
    note(conn, &by, Noted::Deleted, Some(&before), &after).await?;
    tx.commit().await?;
    Ok(())
}

/// An account that webhooks come for, and what they may be signed with. It holds secrets, so nothing prints it.
pub struct Verifying {
    /// The account.
    pub account: ProviderAccountId,
    /// Any of them verifies.
    pub secrets: Vec<String>,
    /// Where calls to its numbers are put through to, by number.
    pub call_forwards: Vec<(String, String)>,
}

/// By what the webhooks of the account with this token are verified.
///
/// # Errors
/// [`Error::NotFound`] when there is no such account, or it is of another provider.
pub async fn verifying(
    integrations: &Integrations,
    provider: Provider,
    token: &str,
) -> Result<Verifying, Error> {
    let now = integrations.clock.now();
    let mut tx = integrations.database.directory().await?;
    let found = sql::find_endpoint(tx.conn(), &token_hash(token)).await?;
    drop(tx);
    let (agency, account) = found.ok_or(Error::NotFound)?;
    let mut tx = integrations.database.agency(&whole(agency)).await?;
    let sealed = sql::list_valid(tx.conn(), agency, account, provider, now).await?;
    if sealed.is_empty() {
        return Err(Error::NotFound);
    }
    let key = integrations.vault.key(tx.conn(), agency).await?;
    let call_forwards = match provider {
        Provider::Twilio => sender::forwards(tx.conn(), agency, account).await?,
        Provider::Resend | Provider::Sendgrid | Provider::Openai => Vec::new(),
    };
    drop(tx);
    let mut secrets = Vec::new();
    for (revision, sealed) in sealed {
        let about = credentials::about(agency, account, revision);
        let opened = Credentials::opened(&key.open(&sealed, &about)?)?;
        secrets.extend(opened.verifies_webhooks(provider).map(str::to_owned));
    }
    Ok(Verifying {
        account,
        secrets,
        call_forwards,
    })
}

/// What Twilio is called with for an account.
pub struct Calling {
    /// Twilio's id of it.
    pub account_sid: String,
    auth_token: SecretString,
    /// Stands in the addresses that its webhooks come to.
    pub endpoint_token: String,
}

impl Calling {
    /// Signs requests.
    pub fn auth_token(&self) -> &str {
        self.auth_token.expose_secret()
    }
}

/// What Twilio is called with for this account; none for one of another provider, or that is gone.
///
/// # Errors
/// [`Error::Vault`].
pub async fn calling_twilio(
    integrations: &Integrations,
    agency: AgencyId,
    account: ProviderAccountId,
) -> Result<Option<Calling>, Error> {
    let mut tx = integrations.database.agency(&whole(agency)).await?;
    let found = sql::find_sealed(tx.conn(), agency, account, Provider::Twilio).await?;
    let Some((revision, sealed, endpoint_token)) = found else {
        return Ok(None);
    };
    let key = integrations.vault.key(tx.conn(), agency).await?;
    drop(tx);
    let about = credentials::about(agency, account, revision);
    let mut opened = Credentials::opened(&key.open(&sealed, &about)?)?.exposed();
    let mut take = |name: &str| opened.remove(name).unwrap_or_default();
    Ok(Some(Calling {
        account_sid: take("account_sid"),
        auth_token: take("auth_token").into(),
        endpoint_token: endpoint_token.unwrap_or_default(),
    }))
}

/// The agency of an account, also of one that is gone.
///
/// # Errors
/// Only the database's.
pub async fn agency_of(
    integrations: &Integrations,
    account: ProviderAccountId,
) -> mainstay_db::Result<Option<AgencyId>> {
    let mut tx = integrations.database.directory().await?;
    sql::agency_of(tx.conn(), account).await
}

/// Everything of an agency: what no person asks for, the machinery asks for whole.
pub(crate) fn whole(agency: AgencyId) -> AgencyScope {
    AgencyScope {
        agency,
        visible: Visible::All,
    }
}

async fn locked(conn: &mut PgConnection, by: &By, id: ProviderAccountId) -> Result<Account, Error> {
    let found = sql::lock(conn, by.agency, id, by.now).await?;
    found.ok_or(Error::NotFound)
}

async fn keep(
    integrations: &Integrations,
    conn: &mut PgConnection,
    by: &By,
    account: &Account,
    credentials: &Credentials,
) -> Result<(), Error> {
    let key = integrations
        .vault
        .key_or_new(&mut *conn, by.agency, by.now)
        .await?;
    let revision = account.credentials_revision;
    let about = credentials::about(by.agency, account.id, revision);
    let sealed = key.seal(&credentials.to_bytes()?, &about)?;
    sql::insert_credential(conn, by.agency, account.id, revision, &sealed, by.now).await?;
    Ok(())
}

/// The account that was preferred is so no more.
async fn prefer_no_other(
    conn: &mut PgConnection,
    by: &By,
    provider: Provider,
) -> Result<(), Error> {
    if let Some(before) = sql::lock_default(conn, by.agency, provider, by.now).await? {
        let after = Account {
            is_default: false,
            revision: before.revision + 1,
            updated_at: by.now,
            ..before.clone()
        };
        sql::apply(conn, by.agency, &after).await?;
        note(conn, by, Noted::Updated, Some(&before), &after).await?;
    }
    Ok(())
}

/// What happened to an account.
#[derive(Debug, Clone, Copy)]
enum Noted {
    Created,
    Updated,
    Rotated,
    Deleted,
}

async fn note(
    conn: &mut PgConnection,
    by: &By,
    what: Noted,
    before: Option<&Account>,
    after: &Account,
) -> Result<(), Error> {
    let (action, event) = match what {
        Noted::Created => (
            "integrations.provider_account.create",
            "integrations.provider_account.created",
        ),
        Noted::Updated => (
            "integrations.provider_account.update",
            "integrations.provider_account.updated",
        ),
        Noted::Rotated => (
            "integrations.provider_account.rotate",
            "integrations.provider_account.rotated",
        ),
        Noted::Deleted => (
            "integrations.provider_account.delete",
            "integrations.provider_account.deleted",
        ),
    };
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: None,
        sequence: after.revision,
        before: before.map(told),
        after: told(after),
    };
    record::write(conn, by, change).await?;
    Ok(())
}

/// As audit and events have it: neither credentials, nor the token, nor a part of them.
fn told(account: &Account) -> Value {
    json!({
        "id": account.id,
        "provider": account.provider.as_str(),
        "name": account.name,
        "state": account.state.as_str(),
        "is_default": account.is_default,
        "credentials_revision": account.credentials_revision,
        "overlap_ends_at": account.overlap_ends_at,
    })
}
