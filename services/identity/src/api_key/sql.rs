//! All queries about API keys and the hashes of their secrets.
//! Deliberately absent: a secret.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_jobs::record::By;
use mainstay_types::{AgencyId, ApiKeyId, ClientId, MemberId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ApiKey, NewKey};

pub(super) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ApiKeyId,
    new: &NewKey,
    prefix: &str,
    by: &By,
) -> Result<()> {
    sqlx::query!(
        "insert into api_key (agency_id, id, name, prefix, client_id, member_id, created_by, expires_at, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
        agency.uuid(),
        id.uuid(),
        new.name,
        prefix,
        new.client.map(ClientId::uuid),
        new.member.map(MemberId::uuid),
        by.actor,
        new.expires_at,
        by.now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into api_key_permission (agency_id, api_key_id, permission) select $1, $2, p from unnest($3::text[]) p",
        agency.uuid(),
        id.uuid(),
        &new.permissions,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert_secret(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ApiKeyId,
    hash: &[u8],
) -> Result<()> {
    sqlx::query!(
        "insert into api_key_secret (secret_hash, agency_id, api_key_id) values ($1, $2, $3)",
        hash,
        agency.uuid(),
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The current secret ends at `until`; those that were ending already go, so that a key never has more than two.
pub(super) async fn end_secrets(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ApiKeyId,
    until: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "delete from api_key_secret where agency_id = $1 and api_key_id = $2 and valid_until is not null",
        agency.uuid(),
        id.uuid(),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update api_key_secret set valid_until = $3 where agency_id = $1 and api_key_id = $2",
        agency.uuid(),
        id.uuid(),
        until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn lock(conn: &mut PgConnection, agency: AgencyId, id: ApiKeyId) -> Result<()> {
    sqlx::query!(
        "select from api_key where agency_id = $1 and id = $2 for no key update",
        agency.uuid(),
        id.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn renew(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ApiKeyId,
    prefix: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update api_key set prefix = $3, version = version + 1, updated_at = $4 where agency_id = $1 and id = $2",
        agency.uuid(),
        id.uuid(),
        prefix,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn revoke(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ApiKeyId,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update api_key set revoked_at = $3, version = version + 1, updated_at = $3
         where agency_id = $1 and id = $2 and revoked_at is null",
        agency.uuid(),
        id.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn get(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ApiKeyId,
) -> Result<Option<ApiKey>> {
    let key = sqlx::query_as!(
        ApiKey,
        r#"select id as "id: ApiKeyId", name, prefix, client_id as "client_id: ClientId", member_id as "member_id: MemberId",
             array(select p.permission from api_key_permission p
                   where p.agency_id = k.agency_id and p.api_key_id = k.id order by 1) as "permissions!",
             expires_at, revoked_at, version, created_at,
             (select max(s.last_used_at) from api_key_secret s
              where s.agency_id = k.agency_id and s.api_key_id = k.id) as last_used_at
           from api_key k where agency_id = $1 and id = $2"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(key)
}

pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ApiKey>> {
    let keys = sqlx::query_as!(
        ApiKey,
        r#"select id as "id: ApiKeyId", name, prefix, client_id as "client_id: ClientId", member_id as "member_id: MemberId",
             array(select p.permission from api_key_permission p
                   where p.agency_id = k.agency_id and p.api_key_id = k.id order by 1) as "permissions!",
             expires_at, revoked_at, version, created_at,
             (select max(s.last_used_at) from api_key_secret s
              where s.agency_id = k.agency_id and s.api_key_id = k.id) as last_used_at
           from api_key k where agency_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3"#,
        agency.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(keys)
}

/// The live keys of a member that have this name.
pub(crate) async fn live_of_member(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
    name: &str,
) -> Result<Vec<ApiKeyId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: ApiKeyId" from api_key
           where agency_id = $1 and member_id = $2 and name = $3 and revoked_at is null order by id"#,
        agency.uuid(),
        member.uuid(),
        name,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// The live keys of a member.
pub(super) async fn all_of_member(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
) -> Result<Vec<ApiKeyId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: ApiKeyId" from api_key
           where agency_id = $1 and member_id = $2 and revoked_at is null order by id"#,
        agency.uuid(),
        member.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// The live keys of a client.
pub(super) async fn all_of_client(
    conn: &mut PgConnection,
    agency: AgencyId,
    client: ClientId,
) -> Result<Vec<ApiKeyId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: ApiKeyId" from api_key
           where agency_id = $1 and client_id = $2 and revoked_at is null order by id"#,
        agency.uuid(),
        client.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// What a hash leads to, before anyone is authenticated.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) agency_id: AgencyId,
    pub(crate) api_key_id: ApiKeyId,
    pub(crate) valid_until: Option<DateTime<Utc>>,
    pub(crate) last_used_at: Option<DateTime<Utc>>,
}

pub(crate) async fn find_secret(conn: &mut PgConnection, hash: &[u8]) -> Result<Option<Found>> {
    let found = sqlx::query_as!(
        Found,
        r#"select agency_id as "agency_id: AgencyId", api_key_id as "api_key_id: ApiKeyId", valid_until, last_used_at
           from api_key_secret where secret_hash = $1"#,
        hash,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Notes the minute of use. Whoever finds the row locked leaves it: somebody is noting the same minute.
pub(crate) async fn note_use(
    conn: &mut PgConnection,
    hash: &[u8],
    minute: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update api_key_secret set last_used_at = $2 where secret_hash in (
           select secret_hash from api_key_secret
           where secret_hash = $1 and (last_used_at is null or last_used_at < $2) for update skip locked)",
        hash,
        minute,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether whom the key speaks for still stands: its agency, its client.
pub(crate) async fn stands(
    conn: &mut PgConnection,
    agency: AgencyId,
    client: Option<ClientId>,
) -> Result<bool> {
    let stands = sqlx::query_scalar!(
        r#"select exists (select from agency where agency_id = $1 and state = 'active')
             and ($2::uuid is null or exists (
               select from client where agency_id = $1 and id = $2 and state <> 'canceled')) as "stands!""#,
        agency.uuid(),
        client.map(ClientId::uuid),
    )
    .fetch_one(conn)
    .await?;
    Ok(stands)
}
