//! All queries about business hours.
//! Deliberately absent: an update of what holds, but for its end.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::Tenant;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::Version;
use super::rules::Hours;

struct Row {
    hours: Json<Hours>,
    revision: i64,
    set_by: String,
    valid_from: DateTime<Utc>,
    valid_to: Option<DateTime<Utc>>,
}

impl From<Row> for Version {
    fn from(row: Row) -> Self {
        Version {
            hours: row.hours.0,
            revision: row.revision,
            set_by: row.set_by,
            valid_from: row.valid_from,
            valid_to: row.valid_to,
        }
    }
}

/// Whoever else replaces them waits until the transaction ends, also while there are none.
pub(super) async fn lock(conn: &mut PgConnection, tenant: Tenant) -> Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('business_hours:' || $1::text, 0))",
        tenant.client.uuid().to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The version that holds, or that held at a time.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    at: Option<DateTime<Utc>>,
) -> Result<Option<Version>> {
    let row = sqlx::query_as!(
        Row,
        r#"select hours as "hours: Json<Hours>", revision, set_by, valid_from, valid_to from business_hours
           where tenant_id = $1
             and case when $2::timestamptz is null then valid_to is null
                      else valid_from <= $2 and (valid_to is null or valid_to > $2) end"#,
        tenant.client.uuid(),
        at,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Version::from))
}

/// A page, the latest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Version>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select hours as "hours: Json<Hours>", revision, set_by, valid_from, valid_to from business_hours
           where tenant_id = $1 and ($2::bigint is null or revision < $2) order by revision desc limit $3"#,
        tenant.client.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Version::from).collect())
}

/// Ends the version that holds and begins another.
pub(super) async fn replace(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: &Version,
) -> Result<()> {
    sqlx::query!(
        "update business_hours set valid_to = $2 where tenant_id = $1 and valid_to is null",
        tenant.client.uuid(),
        after.valid_from,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into business_hours (agency_id, tenant_id, revision, time_zone, hours, set_by, valid_from, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        after.revision,
        after.hours.time_zone.name(),
        Json(&after.hours) as Json<&Hours>,
        after.set_by,
        after.valid_from,
    )
    .execute(conn)
    .await?;
    Ok(())
}
