//! One key, one effect, one answer, however many ask at once.

use chrono::TimeDelta;
use mainstay_db::{Database, DatabaseConfig, Error};
use mainstay_jobs::idempotency::{self, Begin, KEPT, Scope};
use mainstay_types::{AgencyScope, Tenant, Visible};
use std::time::Duration;
use uuid::Uuid;

use crate::support::{Bench, noon, tenant};

const HASH: [u8; 32] = [7; 32];

fn scope<'a>(t: Tenant, key: &'a str) -> Scope<'a> {
    Scope {
        agency: t.agency,
        client: Some(t.client),
        principal: "key_1",
        method: "/m/Create",
        key,
    }
}

/// What a handler does: claim the key, make the effect, keep the answer, all in one transaction.
async fn request(database: &Database, t: Tenant, key: &str, answer: &[u8]) -> Begin {
    let mut tx = database.tenant(t).await.unwrap();
    let begun = idempotency::begin(tx.conn(), &scope(t, key), &HASH, noon())
        .await
        .unwrap();
    if begun == Begin::Fresh {
        idempotency::store(tx.conn(), &scope(t, key), answer)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    begun
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_identical_requests_have_one_effect_and_fifty_equal_answers() {
    let bench = Bench::new().await;
    let t = tenant();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50u8 {
        let database = bench.database.clone();
        tasks.spawn(async move { request(&database, t, "k", &[n]).await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|r| **r == Begin::Fresh).count(), 1);
    let replays: Vec<_> = results.into_iter().filter(|r| *r != Begin::Fresh).collect();
    assert!(matches!(replays[0], Begin::Replay(_)));
    assert!(replays.iter().all(|r| *r == replays[0]));
}

#[tokio::test]
async fn a_request_that_failed_leaves_its_key_free() {
    let bench = Bench::new().await;
    let t = tenant();
    let mut tx = bench.database.tenant(t).await.unwrap();
    assert_eq!(
        idempotency::begin(tx.conn(), &scope(t, "k"), &HASH, noon())
            .await
            .unwrap(),
        Begin::Fresh
    );
    drop(tx);
    assert_eq!(request(&bench.database, t, "k", b"a").await, Begin::Fresh);
}

#[tokio::test]
async fn another_request_under_the_same_key_is_a_mismatch() {
    let bench = Bench::new().await;
    let t = tenant();
    request(&bench.database, t, "k", b"a").await;
    let mut tx = bench.database.tenant(t).await.unwrap();
    let other = idempotency::begin(tx.conn(), &scope(t, "k"), &[8; 32], noon())
        .await
        .unwrap();
    assert_eq!(other, Begin::Mismatch);
}

#[tokio::test]
async fn the_same_text_is_another_key_for_another_client_principal_or_method() {
    let bench = Bench::new().await;
    let (t, other) = (tenant(), tenant());
    request(&bench.database, t, "k", b"a").await;
    assert_eq!(
        request(&bench.database, other, "k", b"b").await,
        Begin::Fresh
    );
    let mut tx = bench.database.tenant(t).await.unwrap();
    for other in [
        Scope {
            principal: "key_2",
            ..scope(t, "k")
        },
        Scope {
            method: "/m/Cancel",
            ..scope(t, "k")
        },
        scope(t, "k2"),
    ] {
        assert_eq!(
            idempotency::begin(tx.conn(), &other, &HASH, noon())
                .await
                .unwrap(),
            Begin::Fresh
        );
    }
}

#[tokio::test]
async fn an_agencys_request_has_keys_too_whoever_it_sees() {
    let bench = Bench::new().await;
    let t = tenant();
    let agency = Scope {
        client: None,
        ..scope(t, "k")
    };
    for visible in [Visible::All, Visible::Only(vec![t.client])] {
        let mut tx = bench
            .database
            .agency(&AgencyScope {
                agency: t.agency,
                visible,
            })
            .await
            .unwrap();
        assert_eq!(
            idempotency::begin(tx.conn(), &agency, &HASH, noon())
                .await
                .unwrap(),
            Begin::Fresh
        );
        idempotency::store(tx.conn(), &agency, b"a").await.unwrap();
        assert_eq!(
            idempotency::begin(tx.conn(), &agency, &HASH, noon())
                .await
                .unwrap(),
            Begin::Replay(b"a".to_vec())
        );
    }
}

#[tokio::test]
async fn an_effect_that_is_still_running_is_found_by_its_reference_and_answered_once() {
    let bench = Bench::new().await;
    let t = tenant();
    let saga = Uuid::now_v7();
    let mut tx = bench.database.tenant(t).await.unwrap();
    idempotency::begin(tx.conn(), &scope(t, "k"), &HASH, noon())
        .await
        .unwrap();
    idempotency::refer(tx.conn(), &scope(t, "k"), saga)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        request(&bench.database, t, "k", b"x").await,
        Begin::Pending(Some(saga))
    );

    // The worker that ends the saga answers; a second answer changes nothing.
    for answer in [b"first", b"later"] {
        let mut tx = bench.worker().tenant(t).await.unwrap();
        idempotency::store(tx.conn(), &scope(t, "k"), answer)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(
        request(&bench.database, t, "k", b"x").await,
        Begin::Replay(b"first".to_vec())
    );
}

#[tokio::test]
async fn a_key_is_forgotten_after_two_days() {
    let bench = Bench::new().await;
    let t = tenant();
    request(&bench.database, t, "k", b"a").await;
    let later = async |after| {
        let mut tx = bench.database.tenant(t).await.unwrap();
        idempotency::begin(tx.conn(), &scope(t, "k"), &[9; 32], noon() + after)
            .await
            .unwrap()
    };
    assert_eq!(later(KEPT - TimeDelta::seconds(1)).await, Begin::Mismatch);
    assert_eq!(later(KEPT).await, Begin::Fresh);
}

#[tokio::test]
async fn a_duplicate_that_waits_too_long_is_told_it_is_in_flight() {
    let bench = Bench::new().await;
    let config = DatabaseConfig {
        lock_timeout: Duration::from_millis(50),
        ..bench.test.config("billing")
    };
    let impatient = Database::connect(&config).await.unwrap();
    let t = tenant();
    let mut first = bench.database.tenant(t).await.unwrap();
    idempotency::begin(first.conn(), &scope(t, "k"), &HASH, noon())
        .await
        .unwrap();
    let mut second = impatient.tenant(t).await.unwrap();
    let waited = idempotency::begin(second.conn(), &scope(t, "k"), &HASH, noon()).await;
    assert!(matches!(waited, Err(Error::LockTimeout(_))), "{waited:?}");
}
