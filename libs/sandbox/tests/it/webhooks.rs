//! Webhooks: who gets them, signed how, and again until they are taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;

use crate::client::{Simulator, id};

/// One delivery as it arrived.
struct Received {
    headers: HeaderMap,
    body: String,
    event: Value,
}

/// A receiver that answers 503 to the first `refusals` deliveries.
struct Receiver {
    url: String,
    arrived: mpsc::UnboundedReceiver<Received>,
}

impl Receiver {
    async fn start(refusals: usize) -> Receiver {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        Self::start_on(listener, refusals)
    }

    fn start_on(listener: tokio::net::TcpListener, refusals: usize) -> Receiver {
        let (tell, arrived) = mpsc::unbounded_channel();
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let state = Arc::new((tell, AtomicUsize::new(refusals)));
        type Shared = Arc<(mpsc::UnboundedSender<Received>, AtomicUsize)>;
        let hook = async |State(state): State<Shared>, headers: HeaderMap, body: String| {
            let refuse = state
                .1
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
            if refuse {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            let event = serde_json::from_str(&body).expect("JSON");
            let _ = state.0.send(Received {
                headers,
                body,
                event,
            });
            StatusCode::OK
        };
        let router = axum::Router::new()
            .route("/hook", axum::routing::post(hook))
            .with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { url, arrived }
    }

    async fn next(&mut self) -> Received {
        self.arrived.recv().await.expect("a delivery")
    }

    async fn take(&mut self, count: usize) -> Vec<Received> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }
}

fn signed(secret: &str, received: &Received) -> bool {
    let header = received.headers["stripe-signature"].to_str().expect("text");
    let parts: HashMap<&str, &str> = header
        .split(',')
        .filter_map(|part| part.split_once('='))
        .collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(format!("{}.{}", parts["t"], received.body).as_bytes());
    hex::encode(mac.finalize().into_bytes()) == parts["v1"]
}

#[tokio::test]
async fn a_registered_endpoint_gets_every_event_signed_and_with_its_trace() {
    let stripe = Simulator::start().await;
    let mut receiver = Receiver::start(0).await;
    let endpoint = json!({ "url": receiver.url, "secret": "whsec_mine" });
    stripe
        .control("PUT", "/stripe/webhook_endpoint", endpoint)
        .await
        .ok();
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let made = stripe
        .post_with_headers(
            "/customers",
            &[("name", "Acme")],
            &[("traceparent", traceparent), ("idempotency-key", "k")],
        )
        .await
        .ok();
    let received = receiver.next().await;
    assert!(signed("whsec_mine", &received));
    assert_eq!(received.headers["traceparent"], traceparent);
    let event = &received.event;
    assert_eq!(event["type"], "customer.created");
    assert_eq!(event["api_version"], "2026-09-30.endive");
    assert_eq!(event["data"]["object"]["id"], made["id"]);
    assert_eq!(event["request"]["idempotency_key"], "k");
    let kept = stripe.get(&format!("/events/{}", id(event))).await.ok();
    assert_eq!(kept["data"], event["data"]);
}

#[tokio::test]
async fn a_subscription_tells_its_whole_story() {
    let stripe = Simulator::start().await;
    let mut receiver = Receiver::start(0).await;
    stripe
        .control(
            "PUT",
            "/stripe/webhook_endpoint",
            json!({ "url": receiver.url, "secret": "s" }),
        )
        .await
        .ok();
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(1_000).await;
    let made = id(&stripe.subscribe(&customer, &price, &[]).await.ok());
    stripe.delete(&format!("/subscriptions/{made}")).await.ok();
    let charge = id(&stripe.ledger().await["charges"][0]);
    stripe.post("/refunds", &[("charge", &charge)]).await.ok();
    let listed = stripe.get("/events?limit=100").await.ok();
    let count = listed["data"].as_array().map_or(0, Vec::len);
    let mut types: Vec<String> = receiver
        .take(count)
        .await
        .iter()
        .map(|r| r.event["type"].as_str().unwrap_or_default().to_owned())
        .collect();
    types.sort();
    for expected in [
        "charge.refunded",
        "charge.succeeded",
        "customer.created",
        "customer.subscription.created",
        "customer.subscription.deleted",
        "customer.updated",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice_payment.paid",
        "payment_intent.created",
        "payment_intent.succeeded",
        "payment_method.attached",
        "price.created",
        "product.created",
        "refund.created",
    ] {
        assert!(
            types.iter().any(|found| found == expected),
            "{expected} not in {types:?}"
        );
    }
    let only = stripe
        .get("/events?type=customer.subscription.*")
        .await
        .ok();
    assert_eq!(only["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_refused_delivery_comes_again_until_it_is_taken() {
    let stripe = Simulator::start().await;
    let mut receiver = Receiver::start(2).await;
    let form = [
        ("url", receiver.url.as_str()),
        ("enabled_events[]", "customer.created"),
    ];
    let endpoint = stripe.post("/webhook_endpoints", &form).await.ok();
    let secret = endpoint["secret"].as_str().expect("told once").to_owned();
    assert!(
        stripe
            .get(&format!("/webhook_endpoints/{}", id(&endpoint)))
            .await
            .ok()
            .get("secret")
            .is_none()
    );
    stripe
        .post("/products", &[("name", "not asked for")])
        .await
        .ok();
    stripe.post("/customers", &[]).await.ok();
    let received = receiver.next().await;
    assert!(signed(&secret, &received));
    assert_eq!(received.event["type"], "customer.created");
    stripe
        .until("/_/stripe/deliveries", |body| body["data"] == json!([]))
        .await;
    let delivered = stripe
        .get("/events?delivery_success=true&type=customer.created")
        .await
        .ok();
    assert_eq!(delivered["data"][0]["pending_webhooks"], 0);
}

#[tokio::test]
async fn what_was_not_delivered_is_delivered_after_a_restart_to_the_endpoint_registered_anew() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("undelivered-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let stripe = Simulator::start_in(directory.clone()).await;
    // Nobody listens there: bound once to have a port of our own, then given up.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("an address");
    let endpoint = json!({ "url": format!("http://{nobody}/hook"), "secret": "old", "name": "up" });
    stripe
        .control("PUT", "/stripe/webhook_endpoint", endpoint)
        .await
        .ok();
    let made = id(&stripe.post("/customers", &[]).await.ok());
    stripe.stop().await;

    let stripe = Simulator::start_in(directory.clone()).await;
    let mut receiver = Receiver::start(0).await;
    let endpoint = json!({ "url": receiver.url, "secret": "new", "name": "up" });
    stripe
        .control("PUT", "/stripe/webhook_endpoint", endpoint)
        .await
        .ok();
    let received = receiver.next().await;
    assert_eq!(received.event["data"]["object"]["id"], made.as_str());
    assert!(signed("new", &received));
    let endpoints = stripe.get("/webhook_endpoints").await.ok();
    assert_eq!(
        endpoints["data"].as_array().map(Vec::len),
        Some(1),
        "the same name is the same endpoint"
    );
    stripe.stop().await;
    let _ = std::fs::remove_dir_all(&directory);
}

#[tokio::test]
async fn webhook_faults_duplicate_hold_back_and_withhold() {
    let stripe = Simulator::start().await;
    let mut receiver = Receiver::start(0).await;
    stripe
        .control(
            "PUT",
            "/stripe/webhook_endpoint",
            json!({ "url": receiver.url, "secret": "s" }),
        )
        .await
        .ok();
    stripe
        .fault(json!({ "kind": "never_webhook", "operation": "customer.created", "count": 1 }))
        .await;
    let silent = id(&stripe.post("/customers", &[]).await.ok());
    stripe
        .fault(json!({ "kind": "duplicate_webhook", "operation": "customers.create", "count": 1 }))
        .await;
    stripe.post("/customers", &[]).await.ok();
    let twice = receiver.take(2).await;
    assert_eq!(twice[0].event["id"], twice[1].event["id"]);
    let known = stripe.get("/events?type=customer.created").await.ok();
    let told = |event: &Value| event["data"]["object"]["id"] == silent.as_str();
    let retrievable = known["data"].as_array().into_iter().flatten().any(told);
    assert!(
        retrievable,
        "an event that nobody was told of can be asked for"
    );

    stripe.control("DELETE", "/faults", json!({})).await;
    stripe
        .fault(json!({ "kind": "reorder_webhooks", "operation": "payment_intents.*", "value": 600_000 }))
        .await;
    let form = [
        ("amount", "1000"),
        ("currency", "usd"),
        ("payment_method", "pm_card_visa"),
        ("confirm", "true"),
    ];
    stripe.post("/payment_intents", &form).await.ok();
    let held = stripe
        .control("GET", "/stripe/deliveries", json!({}))
        .await
        .ok();
    let mut held = held["data"].as_array().cloned().unwrap_or_default();
    held.sort_by_key(|delivery| delivery["due_in_ms"].as_i64());
    let order: Vec<&str> = held
        .iter()
        .filter_map(|delivery| delivery["type"].as_str())
        .collect();
    assert_eq!(
        order,
        [
            "payment_intent.succeeded",
            "charge.succeeded",
            "payment_intent.created"
        ]
    );
    // Registered anew, the endpoint gets what was outstanding without waiting for it to fall due.
    stripe
        .control(
            "PUT",
            "/stripe/webhook_endpoint",
            json!({ "url": receiver.url, "secret": "s" }),
        )
        .await
        .ok();
    receiver.take(3).await;
}
