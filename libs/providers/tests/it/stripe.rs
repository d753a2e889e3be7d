//! Stripe over the stack: what goes over the wire, and what failures prove.

use mainstay_providers::stripe::{StripeApi, StripeFailure};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use stripe_client_core::{
    IdempotencyKey, RequestBuilder, RequestStrategy, StripeMethod, StripeRequest,
};

use crate::server::{Reply, Server, say};

#[derive(Debug, Deserialize, PartialEq)]
struct Object {
    id: String,
}

fn object(id: &str) -> Object {
    Object { id: id.to_owned() }
}

/// As async-stripe's generated requests are.
#[derive(Serialize)]
struct CreateCustomer {
    email: &'static str,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    mainstay_client_id: &'static str,
}

const CREATE: CreateCustomer = CreateCustomer {
    email: "a@b.test",
    metadata: Metadata {
        mainstay_client_id: "cli_1",
    },
};

impl StripeRequest for CreateCustomer {
    type Output = ();

    fn build(&self) -> RequestBuilder {
        RequestBuilder::new(StripeMethod::Post, "/customers").form(self)
    }
}

async fn api(script: impl IntoIterator<Item = Reply>) -> (StripeApi, Server) {
    let server = Server::start(script.into_iter().collect::<Vec<_>>()).await;
    let api = StripeApi::new(
        "billing",
        &format!("{}/stripe/", server.base),
        &SecretString::from("sk_test_1234567890"),
    )
    .expect("an api");
    (api, server)
}

#[tokio::test]
async fn a_request_goes_out_as_stripe_expects_it() {
    let (api, server) = api([say(
        200,
        r#"{"id":"cus_1","object":"customer","new_field":[]}"#,
    )])
    .await;
    assert_eq!(
        api.send::<Object>(&CREATE, Some("saga_1-create_customer"))
            .await,
        Ok(object("cus_1"))
    );
    let asked = server.asked().remove(0);
    assert!(
        asked.starts_with("POST /stripe/v1/customers HTTP/1.1\r\n"),
        "{asked}"
    );
    for line in [
        "authorization: Bearer sk_test_1234567890\r\n",
        "idempotency-key: saga_1-create_customer\r\n",
        "stripe-version: 2026-09-30.endive\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
    ] {
        assert!(asked.contains(line), "{line} in {asked}");
    }
    let body = asked.split("\r\n\r\n").nth(1).expect("a body");
    assert!(
        body.contains("email=a@b.test") && body.contains("metadata[mainstay_client_id]=cli_1"),
        "{body}"
    );
    assert!(!format!("{api:?}").contains("sk_test"));
}

#[tokio::test]
async fn a_repeat_carries_the_same_key() {
    let (api, server) = api([Reply::HangUp, say(500, "{}"), say(200, r#"{"id":"cus_1"}"#)]).await;
    assert_eq!(
        api.send::<Object>(&CREATE, Some("k1")).await,
        Ok(object("cus_1"))
    );
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(
        asked
            .iter()
            .all(|asked| asked.contains("idempotency-key: k1\r\n"))
    );
}

#[tokio::test]
async fn stripe_may_forbid_the_repeat() {
    let (api, server) = api([Reply::Say(
        500,
        "stripe-should-retry: false\r\nrequest-id: req_7\r\n",
        "{}".to_owned(),
    )])
    .await;
    let Err(StripeFailure::Unknown { request_id, .. }) =
        api.send::<Object>(&CREATE, Some("k1")).await
    else {
        panic!("unknown")
    };
    assert_eq!(request_id.as_deref(), Some("req_7"));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn without_a_key_nothing_is_repeated() {
    let (api, server) = api([say(500, "{}")]).await;
    assert!(matches!(
        api.send::<Object>(&CREATE, None).await,
        Err(StripeFailure::Unknown { .. })
    ));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_running_request_with_our_key_is_not_taken_for_a_refusal() {
    let body = r#"{"error":{"type":"invalid_request_error","code":"idempotency_key_in_use","message":"in use"}}"#;
    let (api, _) = api([say(409, body)]).await;
    assert!(matches!(
        api.send::<Object>(&CREATE, Some("k1")).await,
        Err(StripeFailure::Unknown { .. })
    ));
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let page = |ids: &[&str], more: bool| {
        let data: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
        say(
            200,
            format!(
                r#"{{"object":"list","data":[{}],"has_more":{more}}}"#,
                data.join(",")
            ),
        )
    };
    let (api, server) = api([page(&["a", "b"], true), page(&["c"], false)]).await;
    let (all, more) = api
        .list_all::<Object>("/customers", &[("email", "a@b.test")], 1000)
        .await
        .expect("a list");
    assert_eq!(
        (all, more),
        (vec![object("a"), object("b"), object("c")], false)
    );
    let asked = server.asked();
    assert!(
        asked[0].starts_with("GET /stripe/v1/customers?email=a@b.test&limit=100 "),
        "{}",
        asked[0]
    );
    assert!(asked[1].contains("starting_after=b"), "{}", asked[1]);
}

#[tokio::test]
async fn async_stripes_own_way_of_sending_uses_the_callers_key_and_no_other() {
    let (api, server) = api([say(200, "null"), say(200, "null")]).await;
    let key = IdempotencyKey::new("saga_2-create_customer").expect("a key");
    CREATE
        .customize()
        .request_strategy(RequestStrategy::Idempotent(key))
        .send(&api)
        .await
        .expect("sent");
    CREATE
        .customize()
        .request_strategy(RequestStrategy::Retry(5))
        .send(&api)
        .await
        .expect("sent");
    let asked = server.asked();
    assert!(asked[0].contains("idempotency-key: saga_2-create_customer\r\n"));
    assert!(!asked[1].contains("idempotency-key"));
}
