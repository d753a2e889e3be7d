//! Forms of websites: taken by token from the pages that are named, whose browsers may read the answer.

use mainstay_proto::integrations::v1::{ListVerificationSecretsResponse, Webhook};
use serde_json::json;

use crate::harness::{Answer, Harness, send, start, start_with};

const PATH: &str = "/webhooks/forms/tok_1";
const PAGE: &str = "https://acme.test";
const FORM: &str = "application/x-www-form-urlencoded";

fn know(gateway: &Harness) {
    let known = ListVerificationSecretsResponse {
        secrets: Vec::new(),
        account: "frm_1".to_owned(),
        allowed_origins: vec![PAGE.to_owned()],
        ..Default::default()
    };
    let key = ("forms".to_owned(), "tok_1".to_owned());
    let mut endpoints = gateway.backend.endpoints.lock().expect("a lock");
    endpoints.insert(key, known);
}

fn stored(gateway: &Harness) -> Vec<Webhook> {
    let batches = gateway.backend.batches.lock().expect("a lock");
    batches.iter().flatten().cloned().collect()
}

async fn submit(gateway: &Harness, path: &str, origin: &str, kind: &str, body: &str) -> Answer {
    let request = gateway.anonymous("POST", path).header("content-type", kind);
    let request = match origin {
        "" => request,
        origin => request.header("origin", origin),
    };
    send(request.body(body.to_owned())).await
}

#[tokio::test]
async fn a_form_is_stored_under_its_own_id_or_under_what_it_says() {
    let gateway = start().await;
    know(&gateway);
    let json = "application/json; charset=utf-8";
    let own = json!({"event_id": "lead-7", "email": "mike@acme.test"}).to_string();
    for (kind, body) in [
        (json, own.as_str()),
        (FORM, "event_id=lead-8&email=mike%40acme.test"),
        (FORM, "email=mike%40acme.test"),
        (FORM, "email=mike%40acme.test"),
        (FORM, "email=anna%40acme.test"),
    ] {
        let answer = submit(&gateway, PATH, PAGE, kind, body).await;
        assert_eq!(
            (answer.status, &answer.json),
            (200, &json!({"received": true}))
        );
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert!(answer.header("vary").contains("Origin"), "{answer:?}");
    }
    let kept = stored(&gateway);
    assert_eq!(
        [
            &kept[0].provider,
            &kept[0].account,
            &kept[0].event_key,
            &kept[0].r#type
        ],
        ["forms", "frm_1", "lead-7", "form.submitted"]
    );
    assert_eq!(kept[0].body, own.into_bytes());
    assert_eq!(kept[1].event_key, "lead-8");
    assert_eq!(
        kept[2].event_key, kept[3].event_key,
        "the same within an hour"
    );
    assert_ne!(kept[3].event_key, kept[4].event_key);
}

#[tokio::test]
async fn a_form_from_elsewhere_is_401_and_leaves_nothing() {
    let gateway = start().await;
    know(&gateway);
    for (path, origin) in [
        (PATH, ""),
        (PATH, "null"),
        (PATH, "https://evil.test"),
        (PATH, "https://acme.test.evil.test"),
        ("/webhooks/forms/tok_2", PAGE),
    ] {
        let answer = submit(&gateway, path, origin, FORM, "a=1").await;
        answer.assert_problem(401, "signature_invalid");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
    }
    for (kind, body, status, code) in [
        ("application/json", "[1]", 400, "invalid_request"),
        (
            "application/json",
            r#"{"event_id": 7}"#,
            400,
            "invalid_request",
        ),
        (FORM, "", 400, "invalid_request"),
        ("text/plain", "a", 415, "unsupported_media_type"),
    ] {
        let answer = submit(&gateway, PATH, PAGE, kind, body).await;
        answer.assert_problem(status, code);
        // The page may read why.
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
    }
    assert!(stored(&gateway).is_empty());
}

#[tokio::test]
async fn a_browser_that_asks_first_is_told_by_the_endpoint_whatever_the_settings_say() {
    for origins in [vec![], vec!["https://app.agency.test".to_owned()]] {
        let gateway = start_with(|settings| settings.cors_origins = origins.clone()).await;
        know(&gateway);
        let ask = async |path: &str, origin: &str| {
            let request = gateway.anonymous("OPTIONS", path).header("origin", origin);
            let request = request.header("access-control-request-method", "POST");
            send(request).await
        };
        let answer = ask(PATH, PAGE).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert_eq!(answer.header("access-control-allow-methods"), "POST");
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "content-type"
        );
        for (path, origin) in [(PATH, "https://evil.test"), ("/webhooks/forms/tok_2", PAGE)] {
            let answer = ask(path, origin).await;
            answer.assert_problem(401, "signature_invalid");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
        let answer = send(gateway.anonymous("GET", PATH)).await;
        answer.assert_problem(405, "method_not_allowed");
    }
}
