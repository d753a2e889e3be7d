//! All queries about agencies' keys.
//! Deliberately absent: deletion. What was sealed under a key is lost with it.

use chrono::{DateTime, Utc};
use mainstay_types::AgencyId;
use sqlx::PgConnection;

use super::Kept;

/// How many keys are under each master key.
pub async fn count_by_master(conn: &mut PgConnection) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"select master_key_id, count(*) as "rows!" from agency_data_key group by master_key_id"#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.master_key_id, row.rows))
        .collect())
}

/// An agency's key.
pub async fn find(conn: &mut PgConnection, agency: AgencyId) -> sqlx::Result<Option<Kept>> {
    sqlx::query_as!(
        Kept,
        "select master_key_id, sealed from agency_data_key where agency_id = $1",
        agency.uuid(),
    )
    .fetch_optional(conn)
    .await
}

/// Keeps an agency's key, unless it has one.
pub async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    kept: &Kept,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into agency_data_key (agency_id, master_key_id, sealed, created_at, updated_at)
         values ($1, $2, $3, $4, $4) on conflict (agency_id) do nothing",
        agency.uuid(),
        kept.master_key_id,
        kept.sealed,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Some of the keys that are not under this master key.
pub async fn list_others(
    conn: &mut PgConnection,
    current: &str,
    limit: i64,
) -> sqlx::Result<Vec<(AgencyId, Kept)>> {
    let rows = sqlx::query!(
        r#"select agency_id as "agency: AgencyId", master_key_id, sealed from agency_data_key
           where master_key_id <> $1 order by agency_id limit $2"#,
        current,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let kept = rows.into_iter().map(|row| {
        let kept = Kept {
            master_key_id: row.master_key_id,
            sealed: row.sealed,
        };
        (row.agency, kept)
    });
    Ok(kept.collect())
}

/// Puts a key that was sealed anew in its place, if it is still the one that was opened.
pub async fn replace(
    conn: &mut PgConnection,
    agency: AgencyId,
    before: &Kept,
    after: &Kept,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "update agency_data_key set master_key_id = $3, sealed = $4, updated_at = $5
         where agency_id = $1 and sealed = $2",
        agency.uuid(),
        before.sealed,
        after.master_key_id,
        after.sealed,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
