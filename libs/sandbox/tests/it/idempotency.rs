//! Idempotency keys, and what the faults do to callers who rely on them.

use serde_json::json;

use crate::client::Simulator;

const FORM: [(&str, &str); 1] = [("email", "owner@acme.test")];

#[tokio::test]
async fn the_same_key_gets_the_first_answer_and_makes_one_object() {
    let stripe = Simulator::start().await;
    let first = stripe.post_with_key("/customers", &FORM, "key-1").await;
    let again = stripe.post_with_key("/customers", &FORM, "key-1").await;
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("original-request"), first.header("request-id"));
    assert_eq!(first.body, again.body);
    assert_eq!(
        stripe.ledger().await["customers"].as_array().map(Vec::len),
        Some(1)
    );
    let other = stripe
        .post_with_key("/customers", &[("email", "else@acme.test")], "key-1")
        .await
        .error(400);
    assert_eq!(other["type"], "idempotency_error");
    let elsewhere = stripe
        .post_with_key("/products", &[("name", "x")], "key-1")
        .await
        .error(400);
    assert_eq!(elsewhere["type"], "idempotency_error");
}

#[tokio::test]
async fn a_500_is_stored_and_replayed_while_429_and_validation_leave_the_key_free() {
    let stripe = Simulator::start().await;
    stripe.fault(json!({ "provider": "stripe", "operation": "customers.create", "kind": "status", "value": 500, "count": 1 })).await;
    stripe
        .post_with_key("/customers", &FORM, "key-500")
        .await
        .error(500);
    let again = stripe.post_with_key("/customers", &FORM, "key-500").await;
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (500, Some("true"))
    );

    stripe.fault(json!({ "provider": "stripe", "operation": "customers.*", "kind": "status", "value": 429, "count": 1 })).await;
    let error = stripe
        .post_with_key("/customers", &FORM, "key-429")
        .await
        .error(429);
    assert_eq!(error["code"], "rate_limit");
    stripe
        .post_with_key("/customers", &FORM, "key-429")
        .await
        .ok();

    stripe
        .post_with_key("/customers", &[("emial", "x")], "key-400")
        .await
        .error(400);
    stripe
        .post_with_key("/customers", &FORM, "key-400")
        .await
        .ok();
    assert_eq!(
        stripe.ledger().await["customers"].as_array().map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn a_decline_is_replayed_without_a_second_attempt() {
    let stripe = Simulator::start().await;
    let form = [
        ("amount", "1000"),
        ("currency", "usd"),
        ("payment_method", "pm_card_chargeDeclined"),
        ("confirm", "true"),
    ];
    let first = stripe
        .post_with_key("/payment_intents", &form, "key-1")
        .await;
    let again = stripe
        .post_with_key("/payment_intents", &form, "key-1")
        .await;
    assert_eq!((first.status, again.status), (402, 402));
    assert_eq!(first.body, again.body);
    assert_eq!(
        stripe.ledger().await["failed_charges"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn a_key_in_use_is_refused_until_the_first_request_is_done() {
    let stripe = Simulator::start().await;
    stripe.fault(json!({ "kind": "latency", "operation": "customers.create", "value": 600_000, "count": 1 })).await;
    let slow = tokio::spawn(stripe.post_later("/customers", &FORM, "key-1").send());
    stripe.until_fired("latency", 1).await;
    let error = stripe
        .post_with_key("/customers", &FORM, "key-1")
        .await
        .error(409);
    assert_eq!(error["code"], "idempotency_key_in_use");
    stripe.control("DELETE", "/faults", json!({})).await;
    let slow = slow.await.expect("joined").expect("answered");
    assert_eq!(slow.status(), 200);
    assert_eq!(
        stripe
            .post_with_key("/customers", &FORM, "key-1")
            .await
            .header("idempotent-replayed"),
        Some("true")
    );
}

#[tokio::test]
async fn fifty_at_once_with_one_key_make_one_object() {
    let stripe = Simulator::start().await;
    let requests = (0..50).map(|_| stripe.post_with_key("/customers", &FORM, "key-1"));
    let answers = futures_util::future::join_all(requests).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 200 || answer.status == 409),
        "{answers:?}"
    );
    assert!(answers.iter().any(|answer| answer.status == 200));
    assert_eq!(
        stripe.ledger().await["customers"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn a_timeout_after_the_effect_is_cleared_up_by_the_same_key() {
    let stripe = Simulator::start().await;
    stripe.fault(json!({ "kind": "timeout_after_effect", "operation": "customers.create", "value": 600, "count": 1 })).await;
    let held = tokio::spawn(stripe.post_later("/customers", &FORM, "key-1").send());
    stripe.until_fired("timeout_after_effect", 1).await;
    let ledger = stripe
        .until("/_/stripe/ledger", |ledger| {
            ledger["customers"] != json!([])
        })
        .await;
    held.abort();
    let retried = stripe.post_with_key("/customers", &FORM, "key-1").await;
    assert_eq!(retried.header("idempotent-replayed"), Some("true"));
    assert_eq!(retried.ok()["id"], ledger["customers"][0]["id"]);
    assert_eq!(
        stripe.ledger().await["customers"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn stopping_lets_go_of_held_connections_with_their_answers() {
    let stripe = Simulator::start().await;
    stripe
        .fault(json!({ "kind": "timeout_after_effect", "operation": "customers.create", "value": 600 }))
        .await;
    let held = tokio::spawn(stripe.post_later("/customers", &FORM, "key-1").send());
    stripe.until_fired("timeout_after_effect", 1).await;
    stripe.stop().await;
    let answer = held.await.expect("joined").expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_dropped_connection_has_no_effect_and_no_answer() {
    let stripe = Simulator::start().await;
    stripe
        .fault(json!({ "kind": "drop", "operation": "customers.create", "count": 1 }))
        .await;
    let outcome = stripe.post_later("/customers", &FORM, "key-1").send().await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(stripe.ledger().await["customers"], json!([]));
    stripe
        .post_with_key("/customers", &FORM, "key-1")
        .await
        .ok();
}

#[tokio::test]
async fn keys_are_forgotten_after_a_day_and_may_not_be_long() {
    let stripe = Simulator::start().await;
    stripe
        .post_with_key("/customers", &FORM, "key-1")
        .await
        .ok();
    stripe.advance(24 * 3600).await;
    let fresh = stripe.post_with_key("/customers", &FORM, "key-1").await;
    assert_eq!(
        (fresh.status, fresh.header("idempotent-replayed")),
        (200, None)
    );
    stripe
        .post_with_key("/customers", &FORM, &"k".repeat(255))
        .await
        .ok();
    stripe
        .post_with_key("/customers", &FORM, &"k".repeat(256))
        .await
        .error(400);
}
