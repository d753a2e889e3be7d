//! What the database holds of one agency, as one digest a table: to prove that a foreign request moved nothing.

use std::collections::BTreeMap;

use mainstay_types::AgencyId;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

/// Columns that move by themselves, with the time: until where a provider was read, and when it is read next.
const BY_ITSELF: [&str; 2] = ["read_through", "read_due_at"];

/// One digest for each table that has an `agency_id`, of the agency's rows.
pub async fn agency_rows(
    database_url: &str,
    agency: AgencyId,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut connection = PgConnection::connect(database_url).await?;
    let tables = sqlx::query(
        "select n.nspname::text as schema, c.relname::text as name
           from pg_class c
           join pg_namespace n on n.oid = c.relnamespace
           join pg_attribute a on a.attrelid = c.oid and a.attname = 'agency_id' and not a.attisdropped
          where c.relkind in ('r', 'p') and not c.relispartition
            and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'",
    )
    .fetch_all(&mut connection)
    .await?;
    let mut digests = BTreeMap::new();
    for table in tables {
        let (schema, name): (String, String) = (table.try_get("schema")?, table.try_get("name")?);
        // Names come from the catalogue, quoted; the agency is a bound value.
        let statement = format!(
            "select count(*)::text || ':' || coalesce(md5(string_agg(held, '|' order by held)), '-')
               from (select (to_jsonb(t) - $2)::text as held from \"{schema}\".\"{name}\" t where agency_id = $1) t"
        );
        let digest: String = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(agency.uuid())
            .bind(BY_ITSELF)
            .fetch_one(&mut connection)
            .await?;
        digests.insert(format!("{schema}.{name}"), digest);
    }
    Ok(digests)
}

/// The same, once nothing of the agency is under way any more: no job, no event, no audit row waits to be handed on.
pub async fn agency_rows_at_rest(
    database_url: &str,
    agency: AgencyId,
) -> anyhow::Result<BTreeMap<String, String>> {
    crate::world::until("nothing of the agency is under way", async || {
        let rows = agency_rows(database_url, agency).await?;
        let waits = |table: &str| {
            ["job", "outbox_delivery", "audit_outbox"]
                .iter()
                .any(|name| table.ends_with(&format!(".{name}")))
        };
        let mut at_rest = true;
        for (table, digest) in rows.iter().filter(|(table, _)| waits(table)) {
            at_rest &= digest.starts_with("0:") || later(database_url, table, agency).await?;
        }
        Ok(at_rest.then_some(rows))
    })
    .await
}

/// Whether all that waits there are timers, for when whoever looks is gone.
async fn later(database_url: &str, table: &str, agency: AgencyId) -> anyhow::Result<bool> {
    if !table.ends_with(".job") {
        return Ok(false);
    }
    let mut connection = PgConnection::connect(database_url).await?;
    let due = format!(
        "select exists (select from {table} where agency_id = $1 and run_at < now() + interval '1 hour')"
    );
    let due: bool = sqlx::query_scalar(AssertSqlSafe(due))
        .bind(agency.uuid())
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(!due)
}
