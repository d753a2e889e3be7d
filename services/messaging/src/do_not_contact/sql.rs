//! All queries about the lists. Two tables: a client's rows stand behind the client's wall, the agency's behind its own.
//! Deliberately absent: a delete. A row that is off the list keeps the order of what happens to it.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::Tenant;
use sqlx::PgConnection;

use super::{Line, List, Listing, Row};
use crate::address::Address;

struct Found {
    reason: Option<String>,
    listed_by: Option<String>,
    listed_at: Option<DateTime<Utc>>,
    revision: i64,
}

impl From<Found> for Row {
    fn from(found: Found) -> Row {
        // All three or none, say the tables.
        let listing = match (found.reason, found.listed_by, found.listed_at) {
            (Some(reason), Some(listed_by), Some(listed_at)) => Some(Listing {
                reason,
                listed_by,
                listed_at,
            }),
            _ => None,
        };
        Row {
            listing,
            revision: found.revision,
        }
    }
}

/// Whether an address is on the client's list or the agency's.
pub(crate) async fn is_listed(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
) -> Result<bool> {
    let listed = sqlx::query_scalar!(
        r#"select exists (select from client_do_not_contact
                          where tenant_id = $2 and address = $3 and listed_at is not null)
               or exists (select from agency_do_not_contact
                          where agency_id = $1 and address = $3 and listed_at is not null) as "listed!""#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        address.as_str(),
    )
    .fetch_one(conn)
    .await?;
    Ok(listed)
}

/// The row of an address, locked.
pub(super) async fn find(
    conn: &mut PgConnection,
    list: &List,
    address: &Address,
) -> Result<Option<Row>> {
    let found = match list {
        List::Client(tenant) => {
            sqlx::query_as!(
                Found,
                "select reason, listed_by, listed_at, revision from client_do_not_contact
                 where tenant_id = $1 and address = $2 for no key update",
                tenant.client.uuid(),
                address.as_str(),
            )
            .fetch_optional(conn)
            .await?
        }
        List::Agency(scope) => {
            sqlx::query_as!(
                Found,
                "select reason, listed_by, listed_at, revision from agency_do_not_contact
                 where agency_id = $1 and address = $2 for no key update",
                scope.agency.uuid(),
                address.as_str(),
            )
            .fetch_optional(conn)
            .await?
        }
    };
    Ok(found.map(Row::from))
}

/// Locks the row of an address, made if there was none.
pub(super) async fn lock(
    conn: &mut PgConnection,
    list: &List,
    address: &Address,
    now: DateTime<Utc>,
) -> Result<Row> {
    match list {
        List::Client(tenant) => {
            sqlx::query!(
                "insert into client_do_not_contact (agency_id, tenant_id, address, created_at, updated_at)
                 values ($1, $2, $3, $4, $4) on conflict (tenant_id, address) do nothing",
                tenant.agency.uuid(),
                tenant.client.uuid(),
                address.as_str(),
                now,
            )
            .execute(&mut *conn)
            .await?;
        }
        List::Agency(scope) => {
            sqlx::query!(
                "insert into agency_do_not_contact (agency_id, address, created_at, updated_at)
                 values ($1, $2, $3, $3) on conflict (agency_id, address) do nothing",
                scope.agency.uuid(),
                address.as_str(),
                now,
            )
            .execute(&mut *conn)
            .await?;
        }
    }
    // Rows are never deleted; a blank one is what was just inserted.
    let row = find(conn, list, address).await?;
    Ok(row.unwrap_or(Row {
        listing: None,
        revision: 0,
    }))
}

/// Writes whether it is on the list, under its lock; the new revision.
pub(super) async fn apply(
    conn: &mut PgConnection,
    list: &List,
    address: &Address,
    listing: Option<&Listing>,
    now: DateTime<Utc>,
) -> Result<i64> {
    let reason = listing.map(|listing| listing.reason.as_str());
    let listed_by = listing.map(|listing| listing.listed_by.as_str());
    let listed_at = listing.map(|listing| listing.listed_at);
    let revision = match list {
        List::Client(tenant) => {
            sqlx::query_scalar!(
                "update client_do_not_contact set reason = $3, listed_by = $4, listed_at = $5, revision = revision + 1,
                   updated_at = $6
                 where tenant_id = $1 and address = $2 returning revision",
                tenant.client.uuid(),
                address.as_str(),
                reason,
                listed_by,
                listed_at,
                now,
            )
            .fetch_one(conn)
            .await?
        }
        List::Agency(scope) => {
            sqlx::query_scalar!(
                "update agency_do_not_contact set reason = $3, listed_by = $4, listed_at = $5, revision = revision + 1,
                   updated_at = $6
                 where agency_id = $1 and address = $2 returning revision",
                scope.agency.uuid(),
                address.as_str(),
                reason,
                listed_by,
                listed_at,
                now,
            )
            .fetch_one(conn)
            .await?
        }
    };
    Ok(revision)
}

/// What is on a list, by address.
pub(super) async fn list(
    conn: &mut PgConnection,
    list: &List,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Line>> {
    // What is shown is listed, so all three are set.
    struct Found {
        address: String,
        reason: String,
        listed_by: String,
        listed_at: DateTime<Utc>,
    }
    let found = match list {
        List::Client(tenant) => {
            sqlx::query_as!(
                Found,
                r#"select address, reason as "reason!", listed_by as "listed_by!", listed_at as "listed_at!"
                   from client_do_not_contact
                   where tenant_id = $1 and listed_at is not null and ($2::text is null or address > $2)
                   order by address limit $3"#,
                tenant.client.uuid(),
                after,
                limit,
            )
            .fetch_all(conn)
            .await?
        }
        List::Agency(scope) => {
            sqlx::query_as!(
                Found,
                r#"select address, reason as "reason!", listed_by as "listed_by!", listed_at as "listed_at!"
                   from agency_do_not_contact
                   where agency_id = $1 and listed_at is not null and ($2::text is null or address > $2)
                   order by address limit $3"#,
                scope.agency.uuid(),
                after,
                limit,
            )
            .fetch_all(conn)
            .await?
        }
    };
    let lines = found.into_iter().map(|found| Line {
        address: found.address,
        listing: Listing {
            reason: found.reason,
            listed_by: found.listed_by,
            listed_at: found.listed_at,
        },
    });
    Ok(lines.collect())
}
