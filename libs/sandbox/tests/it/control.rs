//! The `/_/` endpoints.

use serde_json::json;

use crate::client::Simulator;

#[tokio::test]
async fn a_fault_that_makes_no_sense_names_every_field_at_fault() {
    let stripe = Simulator::start().await;
    let body = json!({ "kind": "explode", "provider": "strype", "operatoin": "*", "count": 0, "rate": 2, "value": -1 });
    let answer = stripe.control("POST", "/faults", body).await;
    assert_eq!(answer.status, 400);
    let mut fields: Vec<&str> = answer.body["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|error| error["field"].as_str())
        .collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        ["count", "kind", "operatoin", "provider", "rate", "value"]
    );
    let misspelt = json!({ "kind": "drop", "operation": "subscription.create" });
    let answer = stripe.control("POST", "/faults", misspelt).await;
    assert_eq!(
        (answer.status, &answer.body["errors"][0]["field"]),
        (400, &json!("operation"))
    );
    let route = json!({ "kind": "drop", "operation": "POST /v1/subscriptions", "count": 1 });
    stripe.fault(route).await;
    assert_eq!(
        stripe.control("POST", "/faults", json!([])).await.status,
        400
    );
    assert_eq!(
        stripe
            .control("POST", "/clock/advance", json!({ "seconds": -1 }))
            .await
            .status,
        400
    );
    assert_eq!(
        stripe
            .control("POST", "/clock/advance", json!({ "hours": 1 }))
            .await
            .status,
        400
    );
    assert_eq!(
        stripe
            .control(
                "PUT",
                "/stripe/webhook_endpoint",
                json!({ "url": "nowhere", "secret": "s" })
            )
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn faults_strike_their_operation_as_often_as_asked_and_go_when_deleted() {
    let stripe = Simulator::start().await;
    stripe.fault(json!({ "provider": "stripe", "operation": "products.list", "kind": "status", "value": 503, "count": 2 })).await;
    stripe.get("/customers").await.ok();
    stripe.get("/products").await.error(503);
    stripe.get("/products").await.error(503);
    stripe.get("/products").await.ok();
    stripe
        .fault(json!({ "operation": "*", "kind": "status", "value": 502, "rate": 1.0 }))
        .await;
    stripe.get("/customers").await.error(502);
    let listed = stripe.control("GET", "/faults", json!({})).await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        stripe.control("DELETE", "/faults", json!({})).await.status,
        204
    );
    stripe.get("/customers").await.ok();
}

#[tokio::test]
async fn messages_are_a_list_that_can_be_filtered() {
    let sandbox = mainstay_sandbox::Sandbox::open(mainstay_sandbox::SandboxConfig::default())
        .await
        .expect("open");
    let message = mainstay_sandbox::DeliveredMessage {
        provider: "twilio".into(),
        channel: "sms".into(),
        from: "+15125550100".into(),
        to: "+15125550123".into(),
        body: "Hi".into(),
        sid: "SM1".into(),
        at: 1,
        subject: None,
    };
    sandbox.record_message(&message).expect("recorded");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(sandbox.serve(listener, std::future::pending()));
    let read = async |query: &str| -> serde_json::Value {
        let body = reqwest::get(format!("{base}/_/messages{query}"))
            .await
            .expect("answer")
            .text()
            .await
            .expect("text");
        serde_json::from_str(&body).expect("JSON")
    };
    assert_eq!(read("?to=%2B15125550123").await["data"][0]["body"], "Hi");
    assert_eq!(read("?to=%2B15125550999").await, json!({ "data": [] }));
}
