//! Everything is bounded, and what is past a bound is told so.

use std::time::Duration;

use serde_json::json;

use crate::harness::{send, start, start_with};

fn plan(name: &str) -> serde_json::Value {
    json!({"name": name, "prices": [{"currency": "usd", "interval": "month", "amount_minor": 1}]})
}

#[tokio::test]
async fn a_body_past_the_limit_is_413() {
    let gateway = start().await;
    let large = "x".repeat(1_048_577);
    let json =
        |request: reqwest::RequestBuilder| request.header("content-type", "application/json");
    let answer = send(json(gateway.owner("POST", "/v1/plans")).body(large.clone())).await;
    answer.assert_problem(413, "payload_too_large");
    // One byte below the limit is only no JSON.
    let answer = send(json(gateway.owner("POST", "/v1/plans")).body("x".repeat(1_048_575))).await;
    answer.assert_problem(400, "invalid_request");
}

#[tokio::test]
async fn past_the_concurrency_limit_requests_are_shed_and_probes_answer() {
    let gateway = start_with(|settings| settings.concurrency = 1).await;
    let waiting = tokio::spawn(send(gateway.owner("POST", "/v1/plans").json(&plan("wait"))));
    gateway.backend.arrived.notified().await;
    let answer = send(gateway.owner("GET", "/v1/plans")).await;
    answer.assert_problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(send(gateway.anonymous("GET", "/healthz")).await.status, 200);
    assert_eq!(send(gateway.anonymous("GET", "/readyz")).await.status, 200);
    gateway.backend.go_on.notify_one();
    assert_eq!(waiting.await.expect("an answer").status, 201);
    assert_eq!(send(gateway.owner("GET", "/v1/plans")).await.status, 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_504() {
    let gateway =
        start_with(|settings| settings.request_timeout = Duration::from_millis(400)).await;
    let answer = send(gateway.owner("POST", "/v1/plans").json(&plan("never"))).await;
    answer.assert_problem(504, "deadline_exceeded");
}

#[tokio::test]
async fn a_credential_past_its_rate_is_429_and_told_when_to_come_back() {
    let gateway = start_with(|settings| settings.rates.write = 1).await;
    let first = send(gateway.owner("POST", "/v1/plans").json(&plan("Pro"))).await;
    assert_eq!(first.status, 201);
    let mut refused = None;
    for _ in 0..20 {
        let answer = send(gateway.owner("POST", "/v1/plans").json(&plan("Pro"))).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty writes take less than twenty seconds");
    refused.assert_problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "1");
    // Reads are another class.
    assert_eq!(send(gateway.owner("GET", "/v1/plans")).await.status, 200);
}

#[tokio::test]
async fn guessing_credentials_is_limited_by_address() {
    let gateway = start_with(|settings| settings.rates.auth = 5).await;
    let guesses = (0..40).map(|guess| {
        send(
            gateway
                .anonymous("GET", "/v1/plans")
                .bearer_auth(format!("msk_{guess}")),
        )
    });
    let answers = futures_util::future::join_all(guesses).await;
    assert!(answers.iter().any(|answer| answer.status == 429));
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.status, 401 | 429))
    );
    assert_eq!(send(gateway.owner("GET", "/v1/plans")).await.status, 200);
}

#[tokio::test]
async fn only_listed_origins_may_call_from_a_browser() {
    let gateway =
        start_with(|settings| settings.cors_origins = vec!["https://app.acme.test".to_owned()])
            .await;
    let preflight = |origin: &'static str| {
        gateway
            .anonymous("OPTIONS", "/v1/plans")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
    };
    let answer = send(preflight("https://app.acme.test")).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.acme.test"
    );
    let answer = send(preflight("https://evil.test")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}
