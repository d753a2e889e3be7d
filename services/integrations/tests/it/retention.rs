//! Webhooks are let go of by the week, and never one that must be kept.

use mainstay_integrations::webhook::{self, Emptied, rules};
use mainstay_testkit::TestDatabase;
use mainstay_types::WebhookEventId;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

const WEEK_MS: u128 = 7 * 24 * 60 * 60 * 1000;

/// The id of something that came in so many weeks before `newest`.
fn weeks_before(newest: WebhookEventId, weeks: u128) -> Uuid {
    Uuid::from_u128(newest.uuid().as_u128() - ((weeks * WEEK_MS) << 80))
}

async fn put(database: &TestDatabase, id: Uuid) {
    let row = format!(
        "insert into integrations.webhook_event (id, slot, provider, account, event_key, type, content_type, body, received_at)
         values ('{id}', integrations.webhook_slot('{id}'), 'stripe', 'default', '{id}', 'invoice.paid', 'application/json', '{{}}', now())"
    );
    database.execute(&row).await;
}

async fn rows(database: &TestDatabase) -> i64 {
    database
        .count("select count(*) from integrations.webhook_event")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_lies_in_the_week_of_its_id_and_in_no_other() {
    let database = TestDatabase::new().await;
    let id = WebhookEventId::generate().uuid();
    put(&database, id).await;
    let moved = "update integrations.webhook_event set slot = (slot + 1) % 16";
    let refused = sqlx::query(moved)
        .execute(&mut database.admin().await)
        .await;
    let refused = refused.expect_err("another week");
    let refused = refused
        .as_database_error()
        .and_then(|error| error.constraint());
    assert_eq!(refused, Some("webhook_event_sound_check"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_past_its_retention_is_emptied_whole_and_the_others_stay() {
    let database = TestDatabase::new().await;
    let worker = database.database("integrations").await.worker();
    let newest = WebhookEventId::generate();
    for weeks in 0..=u128::from(rules::WEEKS_KEPT) {
        put(&database, weeks_before(newest, weeks)).await;
    }
    assert_eq!(
        webhook::empty_old_weeks(&worker, newest)
            .await
            .expect("swept"),
        Emptied::default()
    );
    let outdated = weeks_before(newest, u128::from(rules::WEEKS_KEPT) + 1);
    put(&database, outdated).await;
    put(&database, Uuid::from_u128(outdated.as_u128() + 1)).await;
    assert_eq!(
        webhook::empty_old_weeks(&worker, newest)
            .await
            .expect("swept"),
        Emptied { weeks: 1, rows: 0 }
    );
    assert_eq!(
        rows(&database).await,
        14,
        "the thirteen weeks and the present one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_came_round_again_loses_only_what_is_old() {
    let database = TestDatabase::new().await;
    let worker = database.database("integrations").await.worker();
    let newest = WebhookEventId::generate();
    // The job had not run for weeks: sixteen weeks on, the same partition is written to again.
    put(&database, weeks_before(newest, 16)).await;
    put(&database, newest.uuid()).await;
    assert_eq!(
        webhook::empty_old_weeks(&worker, newest)
            .await
            .expect("swept"),
        Emptied { weeks: 0, rows: 1 }
    );
    assert_eq!(
        database
            .count(&format!(
                "select count(*) from integrations.webhook_event where id = '{}'",
                newest.uuid()
            ))
            .await,
        1
    );
    assert_eq!(rows(&database).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moment_has_its_partition() {
    let database = TestDatabase::new().await;
    let newest = WebhookEventId::generate();
    for weeks in 0..16 {
        put(&database, weeks_before(newest, weeks)).await;
    }
    let slots = "select count(distinct tableoid) from integrations.webhook_event";
    assert_eq!(
        database.count(slots).await,
        16,
        "none is missing, and none is a default"
    );
    let defaults = "select count(*) from pg_partitioned_table where partdefid <> 0 and partrelid = 'integrations.webhook_event'::regclass";
    assert_eq!(database.count(defaults).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_remembered_longer_than_any_sender_repeats_it() {
    let database = TestDatabase::new().await;
    let worker = database.database("integrations").await.worker();
    let webhook = webhook::NewWebhook {
        key: webhook::Key {
            provider: "stripe".into(),
            account: "default".into(),
            event_key: "evt_1".into(),
        },
        kind: "invoice.paid".into(),
        content_type: "application/json".into(),
        body: b"{}".as_slice().into(),
        received_at: chrono::DateTime::UNIX_EPOCH,
        traceparent: None,
    };
    let stored = webhook::store(&worker, vec![webhook], chrono::DateTime::UNIX_EPOCH)
        .await
        .expect("stored");
    assert!(!stored[0].duplicate);
    // Stripe repeats for thirty days; the row itself stays fourteen weeks at most.
    let long = "select count(*) from integrations.webhook_dedup where expires_at > now() + interval '14 weeks'";
    assert_eq!(database.count(long).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_looked_for_in_its_own_week_alone() {
    let database = TestDatabase::new().await;
    let id = WebhookEventId::generate().uuid();
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "explain select body from integrations.webhook_event where id = '{id}' and slot = integrations.webhook_slot('{id}')"
    )))
    .fetch_all(&mut database.admin().await)
    .await
    .expect("a plan");
    let partitions = plan
        .iter()
        .filter(|line| line.contains("webhook_event_slot_"))
        .count();
    assert!(
        partitions == 1 && plan[0].contains("Index Scan"),
        "{plan:#?}"
    );
}
