//! All queries about accounts, their credentials and their tokens.
//! Deliberately absent: deletion. An account that is gone is still found by its webhooks that are under way.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ProviderAccountId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Account, Provider, State};

struct Row {
    id: ProviderAccountId,
    provider: String,
    name: String,
    state: String,
    is_default: bool,
    hint: String,
    credentials_revision: i64,
    overlap_ends_at: Option<DateTime<Utc>>,
    endpoint_token: Option<String>,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    /// None for a provider or state that only a newer release knows.
    fn account(self) -> Option<Account> {
        Some(Account {
            id: self.id,
            provider: Provider::named(&self.provider)?,
            name: self.name,
            state: State::named(&self.state)?,
            is_default: self.is_default,
            hint: self.hint,
            credentials_revision: self.credentials_revision,
            overlap_ends_at: self.overlap_ends_at,
            endpoint_token: self.endpoint_token,
            revision: self.revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// Until the transaction ends nobody else of the agency decides which account of a provider is preferred.
pub(super) async fn lock_preference(
    conn: &mut PgConnection,
    agency: AgencyId,
    provider: Provider,
) -> Result<()> {
    let name = format!("provider_account/{agency}/{}", provider.as_str());
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))",
        name
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether an account of the provider is preferred.
pub(super) async fn has_default(
    conn: &mut PgConnection,
    agency: AgencyId,
    provider: Provider,
) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from provider_account where agency_id = $1 and provider = $2 and is_default) as "found!""#,
        agency.uuid(),
        provider.as_str(),
    )
    .fetch_one(conn)
    .await?;
    Ok(found)
}

/// Adds an account.
pub(super) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: &Account,
) -> Result<()> {
    sqlx::query!(
        "insert into provider_account (agency_id, id, provider, name, state, is_default, hint, credentials_revision,
           endpoint_token, revision, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
        agency.uuid(),
        account.id.uuid(),
        account.provider.as_str(),
        account.name,
        account.state.as_str(),
        account.is_default,
        account.hint,
        account.credentials_revision,
        account.endpoint_token,
        account.revision,
        account.created_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes what can change of an account, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    agency: AgencyId,
    after: &Account,
) -> Result<()> {
    let deleted_at = (after.state == State::Deleted).then_some(after.updated_at);
    sqlx::query!(
        "update provider_account
         set name = $3, state = $4, is_default = $5, hint = $6, credentials_revision = $7, revision = $8, updated_at = $9,
             deleted_at = $10
         where agency_id = $1 and id = $2",
        agency.uuid(),
        after.id.uuid(),
        after.name,
        after.state.as_str(),
        after.is_default,
        after.hint,
        after.credentials_revision,
        after.revision,
        after.updated_at,
        deleted_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One account.
pub(super) async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ProviderAccountId,
    now: DateTime<Utc>,
) -> Result<Option<Account>> {
    let row = sqlx::query_as!(
        Row,
        r#"select a.id as "id: ProviderAccountId", provider, name, state, is_default, hint, credentials_revision,
                  (select max(c.expires_at) from provider_credential c
                   where c.agency_id = a.agency_id and c.account_id = a.id and c.revision < a.credentials_revision
                     and c.expires_at > $3) as overlap_ends_at,
                  endpoint_token, revision, created_at, updated_at
           from provider_account a where agency_id = $1 and id = $2 and state <> 'deleted'"#,
        agency.uuid(),
        id.uuid(),
        now,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::account))
}

/// The same, locked until the transaction ends.
pub(super) async fn lock(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ProviderAccountId,
    now: DateTime<Utc>,
) -> Result<Option<Account>> {
    let locked = sqlx::query_scalar!(
        "select id from provider_account where agency_id = $1 and id = $2 for no key update",
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    match locked {
        Some(_) => find(conn, agency, id, now).await,
        None => Ok(None),
    }
}

/// The account of a provider that is preferred, locked until the transaction ends.
pub(super) async fn lock_default(
    conn: &mut PgConnection,
    agency: AgencyId,
    provider: Provider,
    now: DateTime<Utc>,
) -> Result<Option<Account>> {
    let locked = sqlx::query_scalar!(
        r#"select id as "id: ProviderAccountId" from provider_account
           where agency_id = $1 and provider = $2 and is_default for no key update"#,
        agency.uuid(),
        provider.as_str(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    match locked {
        Some(id) => find(conn, agency, id, now).await,
        None => Ok(None),
    }
}

/// The provider of an account that is not gone, and stays so until the transaction ends.
pub(crate) async fn share(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ProviderAccountId,
) -> Result<Option<Provider>> {
    let provider = sqlx::query_scalar!(
        "select provider from provider_account where agency_id = $1 and id = $2 and state <> 'deleted' for share",
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(provider.and_then(|name| Provider::named(&name)))
}

/// The accounts of an agency before `after`, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    provider: Option<Provider>,
    after: Option<Uuid>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Account>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select a.id as "id: ProviderAccountId", provider, name, state, is_default, hint, credentials_revision,
                  (select max(c.expires_at) from provider_credential c
                   where c.agency_id = a.agency_id and c.account_id = a.id and c.revision < a.credentials_revision
                     and c.expires_at > $5) as overlap_ends_at,
                  endpoint_token, revision, created_at, updated_at
           from provider_account a
           where agency_id = $1 and state <> 'deleted' and ($2::text is null or provider = $2)
             and ($3::uuid is null or id < $3)
           order by id desc limit $4"#,
        agency.uuid(),
        provider.map(Provider::as_str),
        after,
        limit,
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::account).collect())
}

/// Whether a sender belongs to the account.
pub(super) async fn has_senders(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ProviderAccountId,
) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from sender where agency_id = $1 and account_id = $2) as "found!""#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(found)
}

/// Keeps sealed credentials, in force.
pub(super) async fn insert_credential(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: ProviderAccountId,
    revision: i64,
    sealed: &[u8],
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into provider_credential (agency_id, account_id, revision, sealed, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $5)",
        agency.uuid(),
        account.uuid(),
        revision,
        sealed,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets the credentials before `revision` end at `until`, unless they end sooner.
pub(super) async fn expire_former(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: ProviderAccountId,
    revision: i64,
    until: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update provider_credential set expires_at = $4
         where agency_id = $1 and account_id = $2 and revision < $3 and expires_at > $4",
        agency.uuid(),
        account.uuid(),
        revision,
        until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets an account be found by the hash of its token.
pub(super) async fn insert_endpoint(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: ProviderAccountId,
    hash: &[u8],
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into provider_endpoint (token_hash, agency_id, account_id, created_at) values ($1, $2, $3, $4)",
        hash,
        agency.uuid(),
        account.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whose account a token is of.
pub(super) async fn find_endpoint(
    conn: &mut PgConnection,
    hash: &[u8],
) -> Result<Option<(AgencyId, ProviderAccountId)>> {
    let row = sqlx::query!(
        r#"select agency_id as "agency: AgencyId", account_id as "account: ProviderAccountId"
           from provider_endpoint where token_hash = $1"#,
        hash,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.agency, row.account)))
}

/// Whose account it is.
pub(super) async fn agency_of(
    conn: &mut PgConnection,
    account: ProviderAccountId,
) -> Result<Option<AgencyId>> {
    let agency = sqlx::query_scalar!(
        r#"select agency_id as "agency: AgencyId" from provider_endpoint where account_id = $1"#,
        account.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(agency)
}

/// The credentials in force of an account of this provider that is not gone, with its token.
pub(super) async fn find_sealed(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: ProviderAccountId,
    provider: Provider,
) -> Result<Option<(i64, Vec<u8>, Option<String>)>> {
    let row = sqlx::query!(
        "select a.credentials_revision, c.sealed, a.endpoint_token from provider_account a
         join provider_credential c
           on c.agency_id = a.agency_id and c.account_id = a.id and c.revision = a.credentials_revision
         where a.agency_id = $1 and a.id = $2 and a.provider = $3 and a.state <> 'deleted'",
        agency.uuid(),
        account.uuid(),
        provider.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.credentials_revision, row.sealed, row.endpoint_token)))
}

/// The credentials of an account of this provider that verify webhooks now, those in force first.
pub(super) async fn list_valid(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: ProviderAccountId,
    provider: Provider,
    now: DateTime<Utc>,
) -> Result<Vec<(i64, Vec<u8>)>> {
    // More than a few at once is somebody rotating in a loop; the newest are what the provider signs with.
    let rows = sqlx::query!(
        "select c.revision, c.sealed from provider_credential c
         join provider_account a on a.agency_id = c.agency_id and a.id = c.account_id
         where c.agency_id = $1 and c.account_id = $2 and c.expires_at > $4 and a.provider = $3 and a.state <> 'deleted'
         order by c.revision desc limit 8",
        agency.uuid(),
        account.uuid(),
        provider.as_str(),
        now,
    )
    .fetch_all(conn)
    .await?;
    let sealed = rows.into_iter().map(|row| (row.revision, row.sealed));
    Ok(sealed.collect())
}
