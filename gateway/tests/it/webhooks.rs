//! Stripe's webhooks: verified over the raw bytes, stored once, answered after the commit.

use std::{
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use crate::harness::{Answer, Harness, send, start, start_with};

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn v1(secret: &str, at: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(format!("{at}.{body}").as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

pub fn signed(secret: &str, at: u64, body: &str) -> String {
    format!("t={at},v1={}", v1(secret, at, body))
}

pub fn event(id: &str) -> String {
    json!({"id": id, "object": "event", "type": "invoice.paid", "data": {"object": {}}}).to_string()
}

pub async fn deliver(gateway: &Harness, path: &str, signature: &str, body: &str) -> Answer {
    send(
        gateway
            .anonymous("POST", path)
            .header("content-type", "application/json")
            .header("stripe-signature", signature)
            .body(body.to_owned()),
    )
    .await
}

#[tokio::test]
async fn a_signed_event_is_stored_with_its_raw_bytes_and_trace() {
    let gateway = start().await;
    let body = event("evt_1");
    let answer = deliver(
        &gateway,
        "/webhooks/stripe",
        &signed("whsec_first", now(), &body),
        &body,
    )
    .await;
    assert_eq!(
        (answer.status, &answer.json),
        (200, &json!({"received": true}))
    );
    let batches = gateway.backend.batches.lock().expect("a lock");
    let stored = &batches[0][0];
    assert_eq!(stored.provider, "stripe");
    assert_eq!(stored.account, "default");
    assert_eq!(
        (stored.event_key.as_str(), stored.r#type.as_str()),
        ("evt_1", "invoice.paid")
    );
    assert_eq!(stored.body, body.as_bytes());
    assert_eq!(
        stored.traceparent.as_deref(),
        Some(answer.header("traceparent"))
    );
}

#[tokio::test]
async fn an_endpoints_own_secret_tells_its_account() {
    let gateway = start().await;
    let body = event("evt_1");
    let at = now();
    let answer = deliver(
        &gateway,
        "/webhooks/stripe/tok_known",
        &signed("whsec_endpoint", at, &body),
        &body,
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        gateway.backend.batches.lock().expect("a lock")[0][0].account,
        "acct_7"
    );
    // The platform's secret does not open an endpoint, and an unknown endpoint answers as a wrong signature does.
    for path in ["/webhooks/stripe/tok_known", "/webhooks/stripe/tok_other"] {
        let answer = deliver(&gateway, path, &signed("whsec_first", at, &body), &body).await;
        answer.assert_problem(401, "signature_invalid");
    }
}

#[tokio::test]
async fn a_signature_that_is_missing_wrong_or_old_is_401_and_nothing_is_stored() {
    let gateway = start().await;
    let body = event("evt_1");
    let at = now();
    let good = v1("whsec_first", at, &body);
    for signature in [
        String::new(),
        "nonsense".to_owned(),
        format!("t={at}"),
        format!("v1={good}"),
        format!("t={at},v1=zz"),
        format!("t={at},v0={good}"),
        format!("t=x,v1={good}"),
        format!("t={},v1={good}", at + 1),
        signed("whsec_other", at, &body),
        signed("whsec_first", at, "other"),
        signed("whsec_first", at - 301, &body),
        signed("whsec_first", at + 330, &body),
    ] {
        let answer = deliver(&gateway, "/webhooks/stripe", &signature, &body).await;
        answer.assert_problem(401, "signature_invalid");
    }
    let answer = send(gateway.anonymous("POST", "/webhooks/stripe").body(body)).await;
    answer.assert_problem(401, "signature_invalid");
    assert!(gateway.backend.batches.lock().expect("a lock").is_empty());
}

#[tokio::test]
async fn any_of_several_signatures_and_secrets_verifies() {
    let gateway = start().await;
    gateway
        .backend
        .secrets
        .lock()
        .expect("a lock")
        .push("whsec_second".to_owned());
    let body = event("evt_1");
    let at = now();
    let signature = format!(
        "t={at},v1={},v1={},v0=ff",
        v1("whsec_old", at, &body),
        v1("whsec_second", at, &body)
    );
    assert_eq!(
        deliver(&gateway, "/webhooks/stripe", &signature, &body)
            .await
            .status,
        200
    );
    assert_eq!(
        deliver(
            &gateway,
            "/webhooks/stripe",
            &signed("whsec_first", at - 240, &body),
            &body
        )
        .await
        .status,
        200
    );
}

#[tokio::test]
async fn a_verified_body_that_is_no_event_is_400() {
    let gateway = start().await;
    for body in [
        "{",
        "[]",
        "{\"id\":\"evt_1\"}",
        "{\"id\":\"\",\"type\":\"x\"}",
        "{\"id\":7,\"type\":\"x\"}",
    ] {
        let answer = deliver(
            &gateway,
            "/webhooks/stripe",
            &signed("whsec_first", now(), body),
            body,
        )
        .await;
        answer.assert_problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_body_past_the_limit_is_413() {
    let gateway = start_with(|settings| settings.body_max_bytes = 2000).await;
    let body = "x".repeat(2001);
    let answer = deliver(
        &gateway,
        "/webhooks/stripe",
        &signed("whsec_first", now(), &body),
        &body,
    )
    .await;
    answer.assert_problem(413, "payload_too_large");
}

#[tokio::test]
async fn what_cannot_be_stored_is_503_so_that_it_comes_again() {
    let gateway = start().await;
    gateway.backend.store_down.store(true, Ordering::SeqCst);
    let body = event("evt_1");
    let signature = signed("whsec_first", now(), &body);
    let answer = deliver(&gateway, "/webhooks/stripe", &signature, &body).await;
    answer.assert_problem(503, "unavailable");
    assert!(!answer.header("retry-after").is_empty());
    gateway.backend.store_down.store(false, Ordering::SeqCst);
    assert_eq!(
        deliver(&gateway, "/webhooks/stripe", &signature, &body)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_burst_shares_commits_and_one_bad_webhook_harms_only_itself() {
    let gateway = start().await;
    let deliveries = (0..100).map(|nth| {
        let gateway = &gateway;
        async move {
            let body = event(&if nth == 50 {
                "evt_bad".to_owned()
            } else {
                format!("evt_{nth}")
            });
            deliver(
                gateway,
                "/webhooks/stripe",
                &signed("whsec_first", now(), &body),
                &body,
            )
            .await
            .status
        }
    });
    let statuses = futures_util::future::join_all(deliveries).await;
    assert_eq!(statuses[50], 503);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 99);
    let batches = gateway.backend.batches.lock().expect("a lock");
    let mut keys: Vec<&str> = batches
        .iter()
        .flatten()
        .map(|webhook| webhook.event_key.as_str())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 99);
    assert!(gateway.backend.secret_asks.load(Ordering::SeqCst) < 10);
}

#[tokio::test]
async fn other_methods_and_paths_of_webhooks_are_problems_too() {
    let gateway = start().await;
    send(gateway.anonymous("GET", "/webhooks/stripe"))
        .await
        .assert_problem(405, "method_not_allowed");
    send(gateway.anonymous("POST", "/webhooks/unknown"))
        .await
        .assert_problem(404, "not_found");
}
