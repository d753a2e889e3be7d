//! What a transaction promises to its caller: committed or an error, named constraints, bounded waits, retries of races.

use std::sync::atomic::{AtomicU32, Ordering};

use mainstay_db::{Database, DatabaseConfig, Error, retrying};
use mainstay_types::{AgencyId, ClientId, Tenant};
use std::time::Duration;
use uuid::Uuid;

use crate::walls::billing;

fn tenant() -> Tenant {
    Tenant {
        agency: AgencyId::generate(),
        client: ClientId::generate(),
    }
}

async fn add(database: &Database, t: Tenant, id: Uuid) -> Result<(), Error> {
    let mut tx = database.tenant(t).await?;
    sqlx::query("insert into note (agency_id, tenant_id, id, text) values ($1, $2, $3, 'x')")
        .bind(t.agency.uuid())
        .bind(t.client.uuid())
        .bind(id)
        .execute(tx.conn())
        .await?;
    tx.commit().await
}

#[tokio::test]
async fn a_commit_after_a_failure_that_was_passed_over_is_an_error() {
    let (test, database) = billing().await;
    let t = tenant();
    let mut tx = database.tenant(t).await.unwrap();
    sqlx::query("insert into note (agency_id, tenant_id, id, text) values ($1, $2, $3, 'x')")
        .bind(t.agency.uuid())
        .bind(t.client.uuid())
        .bind(Uuid::now_v7())
        .execute(tx.conn())
        .await
        .unwrap();
    let _passed_over = sqlx::query("select 1 / 0").execute(tx.conn()).await;
    assert!(tx.commit().await.is_err());
    assert_eq!(test.count("select count(*) from billing.note").await, 0);
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing() {
    let (test, database) = billing().await;
    let t = tenant();
    let mut tx = database.tenant(t).await.unwrap();
    sqlx::query("insert into note (agency_id, tenant_id, id, text) values ($1, $2, $3, 'x')")
        .bind(t.agency.uuid())
        .bind(t.client.uuid())
        .bind(Uuid::now_v7())
        .execute(tx.conn())
        .await
        .unwrap();
    drop(tx);
    assert_eq!(test.count("select count(*) from billing.note").await, 0);
}

#[tokio::test]
async fn a_constraint_is_named_and_its_values_are_not_printed() {
    let (_test, database) = billing().await;
    let (t, id) = (tenant(), Uuid::now_v7());
    add(&database, t, id).await.unwrap();
    let error = add(&database, t, id).await.unwrap_err();
    assert_eq!(error.constraint(), Some("note_pkey"));
    assert!(!error.to_string().contains(&id.to_string()));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn waiting_for_a_lock_is_bounded() {
    let (test, _) = billing().await;
    let config = DatabaseConfig {
        lock_timeout: Duration::from_millis(50),
        ..test.config("billing")
    };
    let database = Database::connect(&config).await.unwrap();
    let (t, id) = (tenant(), Uuid::now_v7());
    add(&database, t, id).await.unwrap();
    let lock = "select 1 from note where tenant_id = $1 for update";
    let mut holder = database.tenant(t).await.unwrap();
    sqlx::query(lock)
        .bind(t.client.uuid())
        .execute(holder.conn())
        .await
        .unwrap();
    let mut waiter = database.tenant(t).await.unwrap();
    let refused = sqlx::query(lock)
        .bind(t.client.uuid())
        .execute(waiter.conn())
        .await;
    assert!(matches!(
        Error::from(refused.unwrap_err()),
        Error::LockTimeout(_)
    ));
}

#[tokio::test]
async fn a_lost_race_is_run_again() {
    let (test, database) = billing().await;
    let t = tenant();
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    for id in ids {
        add(&database, t, id).await.unwrap();
    }
    let attempts = AtomicU32::new(0);
    let both_hold_one = tokio::sync::Barrier::new(2);
    // Two transactions want the same two rows, each in its own order: PostgreSQL breaks the deadlock by failing one.
    let touch_both = async |order: [Uuid; 2]| {
        let run = || async {
            let race = attempts.fetch_add(1, Ordering::Relaxed) < 2;
            let mut tx = database.tenant(t).await?;
            for id in order {
                sqlx::query("update note set text = text || 'y' where tenant_id = $1 and id = $2")
                    .bind(t.client.uuid())
                    .bind(id)
                    .execute(tx.conn())
                    .await?;
                if race && id == order[0] {
                    both_hold_one.wait().await;
                }
            }
            tx.commit().await
        };
        retrying::<_, Error, _, _>(run).await.unwrap();
    };
    tokio::join!(touch_both(ids), touch_both([ids[1], ids[0]]));
    assert_eq!(
        attempts.load(Ordering::Relaxed),
        3,
        "one of the two ran twice"
    );
    assert_eq!(
        test.count("select count(*) from billing.note where text = 'xyy'")
            .await,
        2
    );
}

#[tokio::test]
async fn what_loses_every_race_gives_up() {
    let attempts = AtomicU32::new(0);
    let always = || async {
        attempts.fetch_add(1, Ordering::Relaxed);
        Err::<(), Error>(Error::Retryable(sqlx::Error::PoolClosed))
    };
    assert!(retrying(always).await.is_err());
    assert_eq!(attempts.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_server_that_goes_away_is_unavailable_and_then_back() {
    let (test, database) = billing().await;
    let t = tenant();
    let mut tx = database.tenant(t).await.unwrap();
    test.cut_connections().await;
    let error = Error::from(
        sqlx::query("select 1")
            .execute(tx.conn())
            .await
            .unwrap_err(),
    );
    assert!(error.is_unavailable(), "{error:?}");
    drop(tx);
    // The broken connection is not handed on.
    retry_once(&database, t).await;
}

async fn retry_once(database: &Database, t: Tenant) {
    // Idle connections were cut as well: each surfaces once and is gone.
    for _ in 0..database.status()[0].limit {
        match add(database, t, Uuid::now_v7()).await {
            Ok(()) => return,
            Err(error) => assert!(error.is_unavailable(), "{error:?}"),
        }
    }
    panic!("the pool did not recover");
}
