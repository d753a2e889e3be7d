//! Errors, lists, search and expansion.

use serde_json::{Value, json};

use crate::client::{Simulator, id};

#[tokio::test]
async fn errors_are_stripes() {
    let stripe = Simulator::start().await;
    let unauthenticated = stripe
        .send(stripe.request("GET", "/stripe/v1/customers"))
        .await;
    assert!(
        unauthenticated
            .header("request-id")
            .is_some_and(|id| id.starts_with("req_"))
    );
    assert_eq!(unauthenticated.error(401)["type"], "invalid_request_error");
    let live = stripe
        .send(
            stripe
                .request("GET", "/stripe/v1/customers")
                .bearer_auth("sk_live_x"),
        )
        .await;
    live.error(401);
    let unknown = stripe
        .post("/customers", &[("emial", "x")])
        .await
        .error(400);
    assert_eq!(
        (&unknown["code"], &unknown["param"]),
        (&json!("parameter_unknown"), &json!("emial"))
    );
    let nested = stripe
        .post("/subscriptions", &[("items[0][prize]", "x")])
        .await
        .error(400);
    assert_eq!(nested["param"], "items[0][prize]");
    let missing = stripe
        .post("/prices", &[("unit_amount", "1")])
        .await
        .error(400);
    assert_eq!(
        (&missing["code"], &missing["param"]),
        (&json!("parameter_missing"), &json!("currency"))
    );
    let integer = stripe
        .post("/prices", &[("currency", "usd"), ("unit_amount", "1.5")])
        .await
        .error(400);
    assert_eq!(integer["code"], "parameter_invalid_integer");
    let gone = stripe.get("/customers/cus_none").await.error(404);
    assert_eq!(
        (&gone["code"], &gone["param"]),
        (&json!("resource_missing"), &json!("id"))
    );
    stripe.get("/nonsense").await.error(404);
    let json_body = stripe
        .request("POST", "/stripe/v1/customers")
        .bearer_auth("sk_test_x")
        .json(&json!({ "email": "x" }));
    stripe.send(json_body).await.error(400);
    let large = stripe
        .request("POST", "/stripe/v1/customers")
        .bearer_auth("sk_test_x")
        .body("a=".to_owned() + &"b".repeat(1 << 20));
    stripe.send(large).await.error(413);
}

#[tokio::test]
async fn a_configured_key_is_the_only_one_accepted() {
    let config = mainstay_sandbox::SandboxConfig {
        data_dir: None,
        stripe_secret_key: Some("sk_test_mine".into()),
    };
    let stripe = Simulator::start_with(config).await;
    stripe.get("/customers").await.error(401);
    stripe
        .send(
            stripe
                .request("GET", "/stripe/v1/customers")
                .bearer_auth("sk_test_mine"),
        )
        .await
        .ok();
    stripe
        .send(
            stripe
                .request("GET", "/stripe/v1/customers")
                .basic_auth("sk_test_mine", Some("")),
        )
        .await
        .ok();
}

#[tokio::test]
async fn lists_page_in_both_directions_without_loss() {
    let stripe = Simulator::start().await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(id(&stripe
            .post("/customers", &[("name", &number.to_string())])
            .await
            .ok()));
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut path = "/customers?limit=3".to_owned();
    loop {
        let page = stripe.get(&path).await.ok();
        seen.extend(ids(&page));
        if page["has_more"] == false {
            break;
        }
        path = format!(
            "/customers?limit=3&starting_after={}",
            seen.last().expect("a page")
        );
    }
    assert_eq!(seen, made);
    let back = stripe
        .get(&format!("/customers?limit=3&ending_before={}", made[5]))
        .await
        .ok();
    assert_eq!(
        (ids(&back), &back["has_more"]),
        (made[2..5].to_vec(), &json!(true))
    );
    stripe.get("/customers?limit=101").await.error(400);
    let cursor = stripe
        .get("/customers?starting_after=cus_none")
        .await
        .error(400);
    assert_eq!(cursor["code"], "resource_missing");
    let future = stripe.get("/customers?created[gt]=9999999999").await.ok();
    assert_eq!(future["data"], json!([]));
}

#[tokio::test]
async fn search_finds_by_metadata_what_a_lost_answer_made() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(1_000).await;
    let made = id(&stripe
        .subscribe(
            &customer,
            &price,
            &[("metadata[mainstay_saga_id]", "saga_9")],
        )
        .await
        .ok());
    stripe
        .subscribe(
            &customer,
            &price,
            &[("metadata[mainstay_saga_id]", "saga_10")],
        )
        .await
        .ok();
    let query =
        "/subscriptions/search?query=metadata['mainstay_saga_id']:'saga_9'%20AND%20status:'active'";
    let found = stripe.get(query).await.ok();
    assert_eq!(
        (&found["object"], ids(&found)),
        (&json!("search_result"), vec![made])
    );
    stripe
        .get("/subscriptions/search?query=metadata")
        .await
        .error(400);
    stripe.get("/subscriptions/search").await.error(400);
}

#[tokio::test]
async fn expansion_replaces_ids_and_refuses_what_is_no_longer_there() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(1_000).await;
    let made = id(&stripe.subscribe(&customer, &price, &[]).await.ok());
    let expanded = stripe
        .get(&format!(
            "/subscriptions/{made}?expand[]=customer&expand[]=latest_invoice"
        ))
        .await
        .ok();
    assert_eq!(expanded["customer"]["object"], "customer");
    assert_eq!(expanded["latest_invoice"]["object"], "invoice");
    let listed = stripe
        .get("/subscriptions?expand[]=data.customer")
        .await
        .ok();
    assert_eq!(listed["data"][0]["customer"]["id"], customer.as_str());
    let refused = stripe
        .get(&format!(
            "/subscriptions/{made}?expand[]=latest_invoice.payment_intent"
        ))
        .await
        .error(400);
    assert_eq!(refused["param"], "expand");
}

fn ids(page: &Value) -> Vec<String> {
    page["data"]
        .as_array()
        .into_iter()
        .flatten()
        .map(id)
        .collect()
}
