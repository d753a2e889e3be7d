//! All queries about the client's row, where its hold stands.
//! Deliberately absent: a delete. The row is what others lock.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::Tenant;
use sqlx::PgConnection;

use super::{Hold, Sending};

struct Row {
    hold_reason: Option<String>,
    held_by: Option<String>,
    held_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    revision: i64,
}

impl From<Row> for Sending {
    fn from(row: Row) -> Self {
        // All three or none, says the table.
        let hold = match (row.hold_reason, row.held_by, row.held_at) {
            (Some(reason), Some(placed_by), Some(placed_at)) => Some(Hold {
                reason,
                placed_by,
                placed_at,
            }),
            _ => None,
        };
        Sending {
            hold,
            closed_at: row.closed_at,
            revision: row.revision,
        }
    }
}

pub(super) async fn find(conn: &mut PgConnection, tenant: Tenant) -> Result<Option<Sending>> {
    let row = sqlx::query_as!(
        Row,
        "select hold_reason, held_by, held_at, closed_at, revision from client_sending where tenant_id = $1",
        tenant.client.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Sending::from))
}

pub(crate) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    now: DateTime<Utc>,
) -> Result<Option<Sending>> {
    // A row of another agency is a conflict that does nothing, and then is not seen.
    sqlx::query!(
        "insert into client_sending (agency_id, tenant_id, created_at, updated_at) values ($1, $2, $3, $3)
         on conflict (tenant_id) do nothing",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        now,
    )
    .execute(&mut *conn)
    .await?;
    let row = sqlx::query_as!(
        Row,
        "select hold_reason, held_by, held_at, closed_at, revision from client_sending where tenant_id = $1 for no key update",
        tenant.client.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Sending::from))
}

/// Writes how the sending stands, under its lock; the new revision.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    hold: Option<&Hold>,
    now: DateTime<Utc>,
) -> Result<i64> {
    let revision = sqlx::query_scalar!(
        "update client_sending set hold_reason = $2, held_by = $3, held_at = $4, revision = revision + 1, updated_at = $5
         where tenant_id = $1 returning revision",
        tenant.client.uuid(),
        hold.map(|hold| hold.reason.as_str()),
        hold.map(|hold| hold.placed_by.as_str()),
        hold.map(|hold| hold.placed_at),
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(revision)
}
