//! All queries about agencies.
//! Deliberately absent: a list of all agencies. No transaction could see them.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::AgencyId;
use sqlx::PgConnection;

use super::Agency;

pub(crate) async fn get(conn: &mut PgConnection, agency: AgencyId) -> Result<Option<Agency>> {
    let row = sqlx::query_as!(
        Agency,
        r#"select agency_id as "id: AgencyId", name, created_at from agency where agency_id = $1"#,
        agency.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Makes whoever changes who owns the agency, or begins a client of it outside, wait for each other. Whether there is
/// such an agency.
pub(crate) async fn lock(conn: &mut PgConnection, agency: AgencyId) -> Result<bool> {
    let done = sqlx::query!(
        "select from agency where agency_id = $1 for no key update",
        agency.uuid()
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether it is new.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    slug: &str,
    name: &str,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "insert into agency (agency_id, slug, name, created_at, updated_at) values ($1, $2, $3, $4, $4)
         on conflict (agency_id) do nothing",
        agency.uuid(),
        slug,
        name,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The agency that the slug means; the one given, when it meant none so far.
pub(crate) async fn insert_slug(
    conn: &mut PgConnection,
    hash: &[u8],
    agency: AgencyId,
) -> Result<AgencyId> {
    sqlx::query!(
        "insert into agency_slug (slug_hash, agency_id) values ($1, $2) on conflict (slug_hash) do nothing",
        hash,
        agency.uuid(),
    )
    .execute(&mut *conn)
    .await?;
    let id = sqlx::query_scalar!(
        r#"select agency_id as "id: AgencyId" from agency_slug where slug_hash = $1"#,
        hash
    )
    .fetch_one(conn)
    .await?;
    Ok(id)
}

/// The agency that the slug means, when it means one.
pub(crate) async fn find_slug(conn: &mut PgConnection, hash: &[u8]) -> Result<Option<AgencyId>> {
    let id = sqlx::query_scalar!(
        r#"select agency_id as "id: AgencyId" from agency_slug where slug_hash = $1"#,
        hash
    )
    .fetch_optional(conn)
    .await?;
    Ok(id)
}
