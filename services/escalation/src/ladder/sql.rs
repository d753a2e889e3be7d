//! All queries about ladders.
//! Deliberately absent: steps as rows. A ladder is read and replaced as a whole.

use mainstay_db::Result;
use mainstay_types::Tenant;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Ladder, Own};

/// A client's own.
pub(super) async fn find(conn: &mut PgConnection, tenant: Tenant) -> Result<Option<Own>> {
    let row = sqlx::query!(
        r#"select definition as "definition: Json<Ladder>", revision, updated_at from ladder where tenant_id = $1"#,
        tenant.client.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Own {
        ladder: row.definition.0,
        revision: row.revision,
        updated_at: row.updated_at,
    }))
}

/// The same, and whoever else writes one waits until the transaction ends, also while there is none.
pub(super) async fn lock(conn: &mut PgConnection, tenant: Tenant) -> Result<Option<Own>> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('ladder:' || $1::text, 0))",
        tenant.client.uuid().to_string(),
    )
    .execute(&mut *conn)
    .await?;
    find(conn, tenant).await
}

/// Writes it.
pub(super) async fn put(conn: &mut PgConnection, tenant: Tenant, own: &Own) -> Result<()> {
    sqlx::query!(
        "insert into ladder (agency_id, tenant_id, definition, revision, created_at, updated_at) values ($1, $2, $3, $4, $5, $5)
         on conflict (tenant_id) do update
           set definition = excluded.definition, revision = excluded.revision, updated_at = excluded.updated_at",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        Json(&own.ladder) as Json<&Ladder>,
        own.revision,
        own.updated_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}
