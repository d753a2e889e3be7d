//! REST to gRPC and back.

use serde_json::json;

use crate::{
    backend::{CLIENT, PLAN, STRANGER},
    harness::{send, start},
};

fn plan(name: &str) -> serde_json::Value {
    json!({"name": name, "prices": [{"currency": "usd", "interval": "month", "amount_minor": 99700}]})
}

#[tokio::test]
async fn a_created_plan_is_answered_201_with_every_field() {
    let gateway = start().await;
    let answer = send(gateway.owner("POST", "/v1/plans").json(&plan("Pro"))).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json["id"], PLAN);
    assert_eq!(answer.json["state"], "active");
    assert_eq!(answer.json["version"], 1);
    assert!(answer.json["created_at"].is_null() && answer.json["prices"] == json!([]));
    assert!(answer.header("x-request-id").starts_with("req_"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn trace_request_id_key_and_deadline_go_along() {
    let gateway = start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = send(
        gateway
            .owner("POST", "/v1/plans")
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .header("x-request-id", "mine-1")
            .header("idempotency-key", "key-1")
            .json(&plan("Pro")),
    )
    .await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert!(
        answer
            .header("traceparent")
            .starts_with(&format!("00-{trace}-"))
    );
    let backend = &gateway.backend;
    assert_eq!(backend.saw("x-request-id"), "mine-1");
    assert_eq!(backend.saw("idempotency-key"), "key-1");
    assert!(
        backend
            .saw("traceparent")
            .starts_with(&format!("00-{trace}-"))
    );
    assert!(!backend.saw("grpc-timeout").is_empty());
    assert!(!backend.saw("x-mainstay-service").is_empty());
}

#[tokio::test]
async fn a_credential_that_is_missing_or_wrong_is_401() {
    let gateway = start().await;
    for request in [
        gateway.anonymous("GET", "/v1/plans"),
        gateway
            .anonymous("GET", "/v1/plans")
            .bearer_auth("msk_wrong"),
        gateway
            .anonymous("GET", "/v1/plans")
            .header("authorization", "Basic abc"),
        gateway
            .anonymous("GET", "/v1/plans")
            .header("authorization", "Bearer "),
        // Who you are comes before what you sent.
        gateway.anonymous("POST", "/v1/plans").body("{"),
    ] {
        let answer = send(request).await;
        answer.assert_problem(401, "unauthenticated");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    let answer = send(
        gateway
            .anonymous("GET", "/v1/plans")
            .bearer_auth("msk_later"),
    )
    .await;
    answer.assert_problem(503, "unavailable");
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_missing_permission_is_403_and_names_it() {
    let gateway = start().await;
    let answer = send(
        gateway
            .anonymous("POST", "/v1/plans")
            .bearer_auth("msk_reader")
            .json(&plan("Pro")),
    )
    .await;
    answer.assert_problem(403, "permission_denied");
    assert_eq!(answer.json["permission"], "billing.plans.create");
}

#[tokio::test]
async fn another_agencys_client_is_answered_as_one_that_does_not_exist() {
    let gateway = start().await;
    let answer = send(gateway.owner("GET", &format!("/v1/clients/{STRANGER}"))).await;
    answer.assert_problem(404, "not_found");
    let answer = send(gateway.owner("GET", &format!("/v1/clients/{CLIENT}"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_services_refusal_keeps_its_reason_words_and_typed_detail() {
    let gateway = start().await;
    let answer = send(gateway.owner("POST", "/v1/plans").json(&plan("taken"))).await;
    answer.assert_problem(409, "plan_name_taken");
    assert_eq!(answer.json["detail"], "There is a plan called taken.");
    assert_eq!(answer.json["existing_id"], PLAN);
    assert_eq!(answer.json["instance"], "/v1/plans");

    let answer = send(gateway.owner("POST", "/v1/plans").json(&plan("busy"))).await;
    answer.assert_problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "7");
    assert_eq!(answer.json["retry_after_seconds"], 7);
}

#[tokio::test]
async fn a_service_that_came_too_late_to_look_at_a_good_credential_is_no_401() {
    let gateway = start().await;
    let answer = send(gateway.owner("POST", "/v1/plans").json(&plan("too late"))).await;
    answer.assert_problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn an_if_match_that_is_no_etag_is_named_also_when_it_is_no_text() {
    let gateway = start().await;
    let change = json!({"name": "Acme & Co"});
    for wrong in [&b"v 1"[..], b"\xd7\xf8", b""] {
        let header = http::HeaderValue::from_bytes(wrong).expect("a header");
        let request = gateway.owner("PATCH", &format!("/v1/clients/{CLIENT}"));
        let answer = send(request.header("if-match", header).json(&change)).await;
        answer.assert_problem(400, "invalid_request");
        assert_eq!(answer.json["errors"][0]["field"], "If-Match");
    }
}

#[tokio::test]
async fn a_bug_carries_only_the_trace_id() {
    let gateway = start().await;
    for (verb, path, body) in [
        ("POST", "/v1/plans", plan("bug")),
        ("POST", "/v1/plans", plan("panic")),
        (
            "POST",
            "/v1/clients",
            json!({"name": "A", "email": "a@b.test", "time_zone": "UTC"}),
        ),
    ] {
        let answer = send(gateway.owner(verb, path).json(&body)).await;
        answer.assert_problem(500, "internal");
        assert!(answer.json["detail"].is_null(), "{answer:?}");
        assert!(!answer.text.contains("secrets") && !answer.text.contains("fire"));
    }
}

#[tokio::test]
async fn malformed_requests_name_every_field_at_fault() {
    let gateway = start().await;
    let body = json!({"name": "", "prices": [{"currency": "USD", "interval": "week", "amount_minor": 1.5}], "colour": 1,
        "entitlements": {"limits": {"messages": {"beyond": "never"}}}});
    let answer = send(gateway.owner("POST", "/v1/plans").json(&body)).await;
    answer.assert_problem(400, "invalid_request");
    let mut fields = answer.fields();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "colour",
            "entitlements.limits.messages.beyond",
            "name",
            "prices[0].amount_minor",
            "prices[0].currency",
            "prices[0].interval"
        ]
    );

    let answer = send(gateway.owner("GET", &format!("/v1/plans/{CLIENT}?page=1&version=0"))).await;
    answer.assert_problem(400, "invalid_request");
    let mut fields = answer.fields();
    fields.sort_unstable();
    assert_eq!(fields, ["page", "plan_id", "version"]);

    let answer = send(gateway.owner("GET", "/v1/plans?page_size=100000")).await;
    assert_eq!(answer.fields(), ["page_size"]);

    for body in ["{", "[]", "{} {}", "null"] {
        let answer = send(
            gateway
                .owner("POST", "/v1/plans")
                .header("content-type", "application/json")
                .body(body),
        )
        .await;
        answer.assert_problem(400, "invalid_request");
        assert_eq!(answer.fields(), [""]);
    }
    let answer = send(
        gateway
            .owner("POST", "/v1/plans")
            .header("idempotency-key", "a b")
            .json(&plan("Pro")),
    )
    .await;
    answer.assert_problem(400, "invalid_request");
    assert_eq!(answer.fields(), ["Idempotency-Key"]);
}

#[tokio::test]
async fn paths_verbs_and_media_that_are_not_there_are_told_so() {
    let gateway = start().await;
    for path in ["/v1/nothing", "/v1/plans/", "/v2/plans", "/v1"] {
        send(gateway.owner("GET", path))
            .await
            .assert_problem(404, "not_found");
    }
    let answer = send(gateway.owner("DELETE", "/v1/plans")).await;
    answer.assert_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET, HEAD, POST");
    let answer = send(gateway.owner("POST", "/v1/health")).await;
    answer.assert_problem(405, "method_not_allowed");
    assert!(answer.header("allow").contains("GET"), "{answer:?}");

    let answer = send(gateway.owner("OPTIONS", "/v1/plans")).await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (204, "GET, HEAD, POST")
    );
    let answer = send(gateway.owner("HEAD", "/v1/plans")).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));

    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
    ] {
        let answer = send(
            gateway
                .owner("POST", "/v1/plans")
                .header("content-type", kind)
                .body("{}"),
        )
        .await;
        answer.assert_problem(415, "unsupported_media_type");
    }
    let answer = send(
        gateway
            .owner("POST", "/v1/plans")
            .header("content-type", "application/json; charset=UTF-8")
            .body(plan("Pro").to_string()),
    )
    .await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn a_saga_that_still_runs_is_answered_202() {
    let gateway = start().await;
    let path = format!("/v1/clients/{CLIENT}/subscriptions");
    let mut body = json!({"plan_id": PLAN, "currency": "usd", "interval": "month"});
    let answer = send(gateway.owner("POST", &path).json(&body)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    body["coupon_code"] = "LATER".into();
    let answer = send(gateway.owner("POST", &path).json(&body)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn the_etag_of_an_answer_guards_the_next_change() {
    let gateway = start().await;
    let path = format!("/v1/clients/{CLIENT}");
    let read = send(gateway.owner("GET", &path)).await;
    assert_eq!(read.header("etag"), "\"v7\"");
    let change = json!({"name": "Acme & Co"});
    let answer = send(
        gateway
            .owner("PATCH", &path)
            .header("if-match", read.header("etag"))
            .json(&change),
    )
    .await;
    assert_eq!(
        (answer.status, &answer.json["name"]),
        (200, &change["name"])
    );
    let answer = send(
        gateway
            .owner("PATCH", &path)
            .header("if-match", "\"v6\"")
            .json(&change),
    )
    .await;
    answer.assert_problem(412, "etag_mismatch");
}

#[tokio::test]
async fn many_requests_of_one_credential_ask_identity_once() {
    let gateway = start().await;
    let requests = (0..40).map(|_| send(gateway.owner("GET", "/v1/plans")));
    let answers = futures_util::future::join_all(requests).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let exchanges = gateway
        .backend
        .exchanges
        .load(std::sync::atomic::Ordering::SeqCst);
    // One for each second that the forty took; they are sent at once.
    assert!(exchanges < 10, "{exchanges}");
}

#[tokio::test]
async fn a_stop_answers_what_is_in_hand() {
    let gateway = start().await;
    let request = gateway.owner("POST", "/v1/plans").json(&plan("wait"));
    let waiting = tokio::spawn(send(request));
    gateway.backend.arrived.notified().await;
    gateway.shutdown.trigger();
    gateway.backend.go_on.notify_one();
    assert_eq!(waiting.await.expect("an answer").status, 201);
    gateway
        .gateway
        .await
        .expect("it ends")
        .expect("without an error");
}
