//! Connections that are lent again at once, before the pool has them back (ADR 0028).
//! Deliberately absent: what a cancelled request leaves on a connection; the storm in `cancellation` looks for that.

use std::{collections::HashSet, time::Duration};

use mainstay_db::{Database, DatabaseConfig, Error, Worker};
use mainstay_testkit::{TestDatabase, in_time};

async fn database(test: &TestDatabase, connections: u32, rest: Duration) -> Database {
    let config = DatabaseConfig {
        worker_connections: connections,
        rest,
        ..test.config("billing")
    };
    Database::connect(&config).await.unwrap()
}

const LONG: Duration = Duration::from_secs(3600);

/// Which process of PostgreSQL answers.
async fn backend(worker: &Worker) -> Result<i32, Error> {
    let mut tx = worker.tx().await?;
    let pid = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(tx.conn())
        .await?;
    tx.commit().await?;
    Ok(pid)
}

/// So many at once, and then all of them given back.
async fn borrow_at_once(worker: &Worker, count: usize) {
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(worker.tx().await.unwrap());
    }
    for tx in open {
        tx.commit().await.unwrap();
    }
}

fn warm(database: &Database) -> u32 {
    database.status()[1].warm
}

async fn until_none_is_warm(database: &Database) {
    let none = async {
        while warm(database) > 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time("none is kept warm", none).await;
}

#[tokio::test]
async fn whoever_needs_one_at_a_time_has_the_same_each_time() {
    let test = TestDatabase::new().await;
    let database = database(&test, 8, LONG).await;
    let worker = database.worker();
    borrow_at_once(&worker, 4).await;
    assert_eq!(warm(&database), 4);
    let mut backends = HashSet::new();
    for _ in 0..20 {
        backends.insert(backend(&worker).await.unwrap());
    }
    assert_eq!(backends.len(), 1);
    // A statement that failed is rolled back, and its connection is as good as any.
    let mut tx = worker.tx().await.unwrap();
    sqlx::query("select 1 / 0")
        .execute(tx.conn())
        .await
        .unwrap_err();
    drop(tx);
    for _ in 0..20 {
        backend(&worker).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_given_what_comes_back() {
    let test = TestDatabase::new().await;
    let database = database(&test, 2, LONG).await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let worker = database.worker();
            tokio::spawn(async move {
                for _ in 0..50 {
                    backend(&worker).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let status = database.status()[1];
    assert_eq!((status.open, status.limit), (2, 2));
}

#[tokio::test]
async fn a_restart_of_the_server_is_felt_once_and_not_by_each_connection() {
    let test = TestDatabase::new().await;
    let database = database(&test, 8, LONG).await;
    let worker = database.worker();
    borrow_at_once(&worker, 6).await;
    let ended = test
        .count(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and application_name = 'mainstay-billing-worker'",
        )
        .await;
    assert!(ended >= 6);
    let felt = backend(&worker).await.unwrap_err();
    assert!(felt.is_unavailable(), "{felt:?}");
    until_none_is_warm(&database).await;
    for _ in 0..8 {
        backend(&worker).await.unwrap();
    }
}

#[tokio::test]
async fn the_pool_has_back_what_nobody_borrows() {
    let test = TestDatabase::new().await;
    // Longer than three loans take, so that they do rest.
    let database = database(&test, 8, Duration::from_secs(1)).await;
    borrow_at_once(&database.worker(), 3).await;
    until_none_is_warm(&database).await;
    assert!(database.status()[1].open >= 3);
}

#[tokio::test]
async fn what_is_closed_keeps_nothing_open() {
    let test = TestDatabase::new().await;
    let database = database(&test, 8, LONG).await;
    let worker = database.worker();
    borrow_at_once(&worker, 3).await;
    in_time("it is closed", database.close()).await;
    assert!(backend(&worker).await.is_err());
    let open = "select count(*) from pg_stat_activity
                where datname = current_database() and application_name like 'mainstay-billing-%'";
    // The server ends a process a moment after its connection.
    let ended = async { while test.count(open).await > 0 {} };
    in_time("the server has ended them", ended).await;
}

#[tokio::test]
async fn a_database_may_outlive_its_runtime() {
    let test = TestDatabase::new().await;
    let config = test.config("billing");
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let database = runtime.block_on(async {
            let database = Database::connect(&config).await.unwrap();
            borrow_at_once(&database.worker(), 2).await;
            database
        });
        drop(runtime);
        assert_eq!(warm(&database), 2);
        drop(database);
    });
    thread.join().unwrap();
}
