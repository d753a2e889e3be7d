//! Deletes what has expired, in small batches, table by table, as the migrations registered it (`call expires(…)`).
//! Deliberately absent: archives and legal holds of domain data; those are their owners'.

use mainstay_db::{Result, Worker};
use sqlx::AssertSqlSafe;

const BATCH: u64 = 1000;
const BATCHES: u32 = 20;

/// One round over all tables of the schema; what is left over waits for the next. Gives how many rows went.
///
/// # Errors
/// Whatever the database says.
pub async fn purge(worker: &Worker) -> Result<u64> {
    let mut connection = worker.connection().await?;
    let tables = sqlx::query!("select table_name, only_when from retention order by table_name")
        .fetch_all(connection.conn())
        .await?;
    let mut deleted = 0;
    for table in tables {
        // Both come from our own migrations. Locked rows are someone's: next time.
        let name = format!("\"{}\"", table.table_name.replace('"', "\"\""));
        let statement = format!(
            "delete from {name} where ctid = any (array(
               select ctid from {name} where expires_at < now() and ({}) limit {BATCH} for update skip locked))",
            table.only_when
        );
        for _ in 0..BATCHES {
            let rows = sqlx::query(AssertSqlSafe(statement.clone()))
                .execute(connection.conn())
                .await?
                .rows_affected();
            deleted += rows;
            if rows < BATCH {
                break;
            }
        }
    }
    Ok(deleted)
}
