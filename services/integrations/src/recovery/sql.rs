//! All queries of reading again. Times are the database's, which go with the world's: providers know no other clock.
//! Deliberately absent: storing what is missing ([`crate::webhook::store`]).

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::{Result, Worker};
use mainstay_types::{AgencyId, ProviderAccountId};

use super::Due;
use super::rules::{PROVIDER, Window};

/// Takes accounts that are due, and puts them off: whoever is killed meanwhile reads them again the next time.
pub(super) async fn claim(worker: &Worker, limit: i64, after: TimeDelta) -> Result<Vec<Due>> {
    let mut connection = worker.connection().await?;
    let rows = sqlx::query!(
        r#"with due as (
             select token_hash from provider_endpoint where read_due_at <= now() order by read_due_at limit $1
             for update skip locked
           )
           update provider_endpoint e set read_due_at = now() + make_interval(secs => $2)
           from due where e.token_hash = due.token_hash
           returning e.agency_id as "agency: AgencyId", e.account_id as "account: ProviderAccountId", e.created_at,
             e.read_through, now() as "now!""#,
        limit,
        after.as_seconds_f64(),
    )
    .fetch_all(connection.conn())
    .await?;
    let due = rows.into_iter().map(|row| Due {
        agency: row.agency,
        account: row.account,
        window: Window {
            from: row.created_at,
            read_through: row.read_through,
            until: row.now - after,
        },
    });
    Ok(due.collect())
}

/// Notes until where an account was read.
pub(super) async fn read_through(
    worker: &Worker,
    account: ProviderAccountId,
    until: DateTime<Utc>,
) -> Result<()> {
    let mut connection = worker.connection().await?;
    sqlx::query!(
        "update provider_endpoint set read_through = greatest(read_through, $2) where account_id = $1",
        account.uuid(),
        until,
    )
    .execute(connection.conn())
    .await?;
    Ok(())
}

/// Notes that there is nothing to be read of an account.
pub(super) async fn never_again(worker: &Worker, account: ProviderAccountId) -> Result<()> {
    let mut connection = worker.connection().await?;
    sqlx::query!(
        "update provider_endpoint set read_due_at = 'infinity' where account_id = $1",
        account.uuid(),
    )
    .execute(connection.conn())
    .await?;
    Ok(())
}

/// Which of these the inbox has, or had within the time that it remembers.
pub(super) async fn known(
    worker: &Worker,
    account: &str,
    keys: &[&str],
) -> Result<HashSet<String>> {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let mut connection = worker.connection().await?;
    let known = sqlx::query_scalar!(
        "select event_key from webhook_dedup where provider = $1 and account = $2 and event_key = any ($3)",
        PROVIDER,
        account,
        &keys,
    )
    .fetch_all(connection.conn())
    .await?;
    Ok(known.into_iter().collect())
}
