//! A claim costs the same however long the queue is and whatever the planner believes of it (ADR 0015).
//! Deliberately absent: the queues themselves. This one is made here, and is claimed from as each of them is.

use mainstay_db::{Database, DatabaseConfig, WorkerTx};
use mainstay_testkit::TestDatabase;

use crate::walls::billing;

const WAITING: i64 = 5_000;
const CLAIMED: i64 = 8;

/// So that the plan of the first time is the plan of the second.
async fn one_connection(test: &TestDatabase) -> Database {
    let config = DatabaseConfig {
        worker_connections: 1,
        ..test.config("billing")
    };
    Database::connect(&config).await.unwrap()
}

/// Takes the next few in the order of their index.
async fn take(tx: &mut WorkerTx) -> Vec<i64> {
    sqlx::query_scalar(
        "select place from waiting where lane = 1 and due_at <= now() order by due_at, place limit $1
         for update skip locked",
    )
    .bind(CLAIMED)
    .fetch_all(tx.conn())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_claim_reads_what_it_takes_and_not_all_that_waits() {
    let (test, _) = billing().await;
    let database = one_connection(&test).await;
    test.execute(&format!(
        "create table billing.waiting (place bigint primary key, lane smallint not null, due_at timestamptz not null)
           with (autovacuum_enabled = false);
         create index waiting_due_idx on billing.waiting (lane, due_at, place);
         grant select, update on billing.waiting to {};
         analyze billing.waiting",
        test.role("billing", "worker")
    ))
    .await;
    let worker = database.worker();
    let mut tx = worker.claim().await.unwrap();
    assert!(take(&mut tx).await.is_empty());
    tx.commit().await.unwrap();

    // A backlog comes more quickly than anybody tells the planner.
    test.execute(&format!(
        "insert into billing.waiting
           select n, 1, now() - interval '1 day' + n * interval '1 second' from generate_series(1, {WAITING}) n"
    ))
    .await;
    let mut tx = worker.claim().await.unwrap();
    let first: Vec<i64> = (1..=CLAIMED).collect();
    assert_eq!(take(&mut tx).await, first);
    let read: i64 = sqlx::query_scalar(
        "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'waiting'",
    )
    .fetch_one(tx.conn())
    .await
    .unwrap();
    assert!(read <= 4 * CLAIMED, "{read} rows read for {CLAIMED}");
    tx.rollback().await.unwrap();
}

/// A plan is kept, and was made while there was little to read: as a saga's step looks for its row (ADR 0025).
#[tokio::test]
async fn what_was_planned_in_a_small_table_reads_no_more_in_a_large_one() {
    let (test, _) = billing().await;
    let database = one_connection(&test).await;
    test.execute(&format!(
        "create table billing.step (saga bigint primary key, tries integer not null default 0)
           with (autovacuum_enabled = false);
         insert into billing.step select n from generate_series(1, 3) n;
         grant select, update on billing.step to {};
         analyze billing.step",
        test.role("billing", "worker")
    ))
    .await;
    let worker = database.worker();
    let mut read = 0_i64;
    for saga in [1_i64, 5_000] {
        test.execute(&format!(
            "insert into billing.step select n from generate_series(4, {saga}) n"
        ))
        .await;
        let mut tx = worker.tx().await.unwrap();
        sqlx::query(
            "with held as materialized (select $1::bigint as id)
             update step set tries = tries + 1 from held where step.saga = held.id",
        )
        .bind(saga)
        .execute(tx.conn())
        .await
        .unwrap();
        read = sqlx::query_scalar(
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'step'",
        )
        .fetch_one(tx.conn())
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }
    // Once to find it, once to write it; read whole, it would be five thousand.
    assert!(read <= 2, "{read} rows read for one step");
}
