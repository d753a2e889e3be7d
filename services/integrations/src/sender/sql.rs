//! All queries about senders.
//! Deliberately absent: a query without the agency. Which one it is, the account has said before.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, ProviderAccountId, SenderId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Channel, Sender, rules};
use crate::provider_account::Provider;

struct Row {
    id: SenderId,
    account: ProviderAccountId,
    provider: String,
    channel: String,
    address: String,
    client: Option<ClientId>,
    rate_per_second: f64,
    active: bool,
    forward_calls_to: Option<String>,
    parked_at: Option<DateTime<Utc>>,
    heard_at: Option<DateTime<Utc>>,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    /// None for what only a newer release knows.
    fn sender(self) -> Option<Sender> {
        Some(Sender {
            id: self.id,
            account: self.account,
            provider: Provider::named(&self.provider)?,
            channel: Channel::named(&self.channel)?,
            address: self.address,
            client: self.client,
            rate_per_second: self.rate_per_second,
            active: self.active,
            forward_calls_to: self.forward_calls_to,
            parked_at: self.parked_at,
            heard_at: self.heard_at,
            revision: self.revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// Adds a sender, active.
pub(super) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    sender: &Sender,
    key: &str,
) -> Result<()> {
    sqlx::query!(
        "insert into sender (agency_id, id, account_id, channel, address, address_key, client_id, rate_per_second, state,
           revision, created_at, updated_at, forward_calls_to)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12)",
        agency.uuid(),
        sender.id.uuid(),
        sender.account.uuid(),
        sender.channel.as_str(),
        sender.address,
        key,
        sender.client.map(ClientId::uuid),
        sender.rate_per_second,
        rules::state(sender.active),
        sender.revision,
        sender.created_at,
        sender.forward_calls_to,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes what can change of a sender, under its lock.
pub(super) async fn apply(conn: &mut PgConnection, agency: AgencyId, after: &Sender) -> Result<()> {
    sqlx::query!(
        "update sender set client_id = $3, rate_per_second = $4, state = $5, revision = $6, updated_at = $7, forward_calls_to = $8,
           parked_at = $9, heard_at = $10
         where agency_id = $1 and id = $2",
        agency.uuid(),
        after.id.uuid(),
        after.client.map(ClientId::uuid),
        after.rate_per_second,
        rules::state(after.active),
        after.revision,
        after.updated_at,
        after.forward_calls_to,
        after.parked_at,
        after.heard_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes a sender, under its lock.
pub(super) async fn delete(conn: &mut PgConnection, agency: AgencyId, id: SenderId) -> Result<()> {
    sqlx::query!(
        "delete from sender where agency_id = $1 and id = $2",
        agency.uuid(),
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One sender, locked until the transaction ends.
pub(super) async fn lock(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: SenderId,
) -> Result<Option<Sender>> {
    let row = sqlx::query_as!(
        Row,
        r#"select s.id as "id: SenderId", s.account_id as "account: ProviderAccountId", a.provider, s.channel, s.address,
                  s.client_id as "client: ClientId", s.rate_per_second, s.state = 'active' as "active!", s.revision,
                  s.created_at, s.updated_at, s.forward_calls_to, s.parked_at, s.heard_at
           from sender s join provider_account a on a.agency_id = s.agency_id and a.id = s.account_id
           where s.agency_id = $1 and s.id = $2 for no key update of s"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::sender))
}

/// A client's senders, locked until the transaction ends, in one order.
pub(super) async fn lock_of_client(
    conn: &mut PgConnection,
    agency: AgencyId,
    client: ClientId,
) -> Result<Vec<Sender>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select s.id as "id: SenderId", s.account_id as "account: ProviderAccountId", a.provider, s.channel, s.address,
                  s.client_id as "client: ClientId", s.rate_per_second, s.state = 'active' as "active!", s.revision,
                  s.created_at, s.updated_at, s.forward_calls_to, s.parked_at, s.heard_at
           from sender s join provider_account a on a.agency_id = s.agency_id and a.id = s.account_id
           where s.agency_id = $1 and s.client_id = $2 order by s.id for no key update of s"#,
        agency.uuid(),
        client.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::sender).collect())
}

/// The sender that keeps an address from others: the active one, or the parked one.
pub(super) async fn find_by_address(
    conn: &mut PgConnection,
    agency: AgencyId,
    (channel, key): (Channel, &str),
    active: bool,
) -> Result<Option<Sender>> {
    let row = sqlx::query_as!(
        Row,
        r#"select s.id as "id: SenderId", s.account_id as "account: ProviderAccountId", a.provider, s.channel, s.address,
                  s.client_id as "client: ClientId", s.rate_per_second, s.state = 'active' as "active!", s.revision,
                  s.created_at, s.updated_at, s.forward_calls_to, s.parked_at, s.heard_at
           from sender s join provider_account a on a.agency_id = s.agency_id and a.id = s.account_id
           where s.agency_id = $1 and s.channel = $2 and s.address_key = $3
             and case when $4 then s.state = 'active' else s.parked_at is not null end
           order by s.id limit 1"#,
        agency.uuid(),
        channel.as_str(),
        key,
        active,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::sender))
}

/// Somebody wrote to a parked sender, or rang it: its quiet begins anew.
pub(super) async fn hear(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: SenderId,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update sender set heard_at = $3 where agency_id = $1 and id = $2 and parked_at is not null",
        agency.uuid(),
        id.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The senders of an agency before `after`, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    (channel, client): (Option<Channel>, Option<ClientId>),
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Sender>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select s.id as "id: SenderId", s.account_id as "account: ProviderAccountId", a.provider, s.channel, s.address,
                  s.client_id as "client: ClientId", s.rate_per_second, s.state = 'active' as "active!", s.revision,
                  s.created_at, s.updated_at, s.forward_calls_to, s.parked_at, s.heard_at
           from sender s join provider_account a on a.agency_id = s.agency_id and a.id = s.account_id
           where s.agency_id = $1 and ($2::text is null or s.channel = $2) and ($3::uuid is null or s.client_id = $3)
             and ($4::uuid is null or s.id < $4)
           order by s.id desc limit $5"#,
        agency.uuid(),
        channel.map(Channel::as_str),
        client.map(ClientId::uuid),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::sender).collect())
}

/// A sender with its account's sealed credentials.
#[derive(Debug)]
pub(super) struct Sending {
    pub id: SenderId,
    pub account: ProviderAccountId,
    pub provider: String,
    pub address: String,
    pub rate_per_second: f64,
    pub endpoint_token: Option<String>,
    pub credentials_revision: i64,
    pub sealed: Vec<u8>,
}

/// From whom a client's message may leave, in order of preference.
pub(super) async fn list_sending(
    conn: &mut PgConnection,
    agency: AgencyId,
    client: ClientId,
    channel: Channel,
    key: Option<&str>,
    limit: i64,
) -> Result<Vec<Sending>> {
    let rows = sqlx::query_as!(
        Sending,
        r#"select s.id as "id: SenderId", s.account_id as "account: ProviderAccountId", a.provider, s.address,
                  s.rate_per_second, a.endpoint_token, a.credentials_revision, c.sealed
           from sender s
           join provider_account a on a.agency_id = s.agency_id and a.id = s.account_id
           join provider_credential c
             on c.agency_id = a.agency_id and c.account_id = a.id and c.revision = a.credentials_revision
           where s.agency_id = $1 and (s.client_id = $2 or s.client_id is null) and s.channel = $3
             and s.state = 'active' and a.state = 'active' and ($4::text is null or s.address_key = $4)
           order by s.client_id is null, a.provider = 'sendgrid', not a.is_default, s.id
           limit $5"#,
        agency.uuid(),
        client.uuid(),
        channel.as_str(),
        key,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Whose an address of an account is: those that are active before those that are not, a client's before the agency's. Also
/// whether it is parked.
pub(super) async fn find_receiver(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: ProviderAccountId,
    key: &str,
) -> Result<Option<(SenderId, Option<ClientId>, bool)>> {
    let row = sqlx::query!(
        r#"select id as "id: SenderId", client_id as "client: ClientId", parked_at is not null as "parked!" from sender
           where agency_id = $1 and account_id = $2 and address_key = $3
           order by state <> 'active', parked_at is null, client_id is null, id limit 1"#,
        agency.uuid(),
        account.uuid(),
        key,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.id, row.client, row.parked)))
}

/// Where calls to an account's numbers are put through to, by number. Of several senders with one number those that are
/// active come before those that are not, and what is for calls before what is for texts.
pub(super) async fn list_forwards(
    conn: &mut PgConnection,
    agency: AgencyId,
    account: ProviderAccountId,
    limit: i64,
) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        r#"select distinct on (address_key) address_key, forward_calls_to as "forward_calls_to!" from sender
           where agency_id = $1 and account_id = $2 and forward_calls_to is not null and parked_at is null
           order by address_key, state <> 'active', channel <> 'voice', id
           limit $3"#,
        agency.uuid(),
        account.uuid(),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.address_key, row.forward_calls_to))
        .collect())
}
