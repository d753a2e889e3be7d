//! Everything is bounded, and what is past a bound is told so.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

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

#[tokio::test]
async fn after_a_body_too_large_the_same_client_goes_on() {
    let gateway = start_with(|settings| settings.rates.write = 10_000).await;
    let large = "x".repeat(3 * 1_048_576);
    for _ in 0..50 {
        let request = gateway.owner("POST", "/v1/plans");
        let answer = send(request.body(large.clone())).await;
        answer.assert_problem(413, "payload_too_large");
        assert_eq!(answer.header("connection"), "close");
        assert_eq!(send(gateway.owner("GET", "/v1/plans")).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_listens_still_hears_the_refusal() {
    let gateway = start().await;
    let address = gateway.url.trim_start_matches("http://").to_owned();
    let length = 16 * 1_048_576;
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    let head = format!(
        "POST /v1/plans HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer msk_owner\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the head");
    let body = vec![b'x'; length];
    stream.write_all(&body).await.expect("the whole body");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer).await;
    read.expect("the whole answer and then the end");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("payload_too_large"), "{answer}");
}

#[tokio::test]
async fn a_connection_is_kept_unless_a_body_was_left_unread() {
    let gateway = start_with(|settings| settings.concurrency = 1).await;
    let says = async |request: reqwest::RequestBuilder| {
        let answer = send(request).await;
        (answer.status, answer.header("connection").to_owned())
    };
    let close = |status: u16| (status, "close".to_owned());
    let kept = |status: u16| (status, String::new());
    let body = || "x".repeat(100_000);
    let post = |path: &str| gateway.anonymous("POST", path).body(body());

    // Refused before the body was looked at.
    assert_eq!(says(post("/v1/plans")).await, close(401));
    assert_eq!(says(post("/v1/nothing")).await, close(404));
    assert_eq!(says(post("/healthz")).await, close(405));
    assert_eq!(says(post("/webhooks/stripe")).await, close(401));
    let waiting = tokio::spawn(send(gateway.owner("POST", "/v1/plans").json(&plan("wait"))));
    gateway.backend.arrived.notified().await;
    assert_eq!(says(post("/v1/plans")).await, close(503));
    // Refused, but there was nothing to leave.
    assert_eq!(says(gateway.owner("GET", "/v1/plans")).await, kept(503));
    gateway.backend.go_on.notify_one();
    assert_eq!(waiting.await.expect("an answer").header("connection"), "");
    // Refused for what it said, or for its kind, once it was read.
    assert_eq!(
        says(gateway.owner("POST", "/v1/plans").body(body())).await,
        kept(415)
    );
    let json = gateway.owner("POST", "/v1/plans").json(&json!({}));
    assert_eq!(says(json).await, kept(400));
    assert_eq!(says(gateway.anonymous("GET", "/v1/plans")).await, kept(401));
}
