//! Checkout sessions, payment links and setup intents: what somebody does on a page of Stripe's.
//!
//! Deliberately absent: the page.

use serde_json::{Value, json};

use crate::client::{Simulator, id};

async fn complete(stripe: &Simulator, session: &str, body: Value) -> crate::client::Answer {
    let path = format!("/stripe/checkout_sessions/{session}/complete");
    stripe.control("POST", &path, body).await
}

async fn told(stripe: &Simulator, event_type: &str) -> usize {
    let events = stripe.get(&format!("/events?type={event_type}")).await.ok();
    events["data"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn a_session_becomes_a_subscription_of_somebody_new() {
    let stripe = Simulator::start().await;
    let price = stripe.price(5_000).await;
    let form = [
        ("mode", "subscription"),
        ("line_items[0][price]", price.as_str()),
        ("line_items[0][quantity]", "2"),
        ("client_reference_id", "client_7"),
        ("customer_email", "owner@acme.test"),
        (
            "subscription_data[metadata][mainstay_client_id]",
            "client_7",
        ),
        ("metadata[k]", "v"),
        ("success_url", "https://app.acme.test/ok"),
        ("expand[]", "line_items"),
    ];
    let session = stripe.post("/checkout/sessions", &form).await.ok();
    assert_eq!(
        (&session["status"], &session["payment_status"]),
        (&json!("open"), &json!("unpaid"))
    );
    assert_eq!(session["line_items"]["data"][0]["amount_total"], 10_000);
    let declined = json!({ "payment_method": "pm_card_chargeCustomerFail" });
    let refused = complete(&stripe, &id(&session), declined).await;
    assert_eq!(refused.status, 409);
    assert_eq!(stripe.ledger().await["customers"], json!([]));

    let payer = json!({ "payment_method": "pm_card_threeDSecure2Required", "name": "Ann" });
    let done = complete(&stripe, &id(&session), payer.clone()).await.ok();
    assert_eq!(
        (&done["status"], &done["payment_status"], &done["url"]),
        (&json!("complete"), &json!("paid"), &Value::Null)
    );
    assert_eq!(done["customer_details"]["email"], "owner@acme.test");
    let subscription = done["subscription"].as_str().expect("a subscription");
    let made = stripe
        .get(&format!("/subscriptions/{subscription}"))
        .await
        .ok();
    assert_eq!(
        (&made["status"], &made["metadata"]["mainstay_client_id"]),
        (&json!("active"), &json!("client_7"))
    );
    assert_eq!(told(&stripe, "checkout.session.completed").await, 1);
    let ledger = stripe.ledger().await;
    assert_eq!(
        ledger["charges"][0]["metadata"]["mainstay_client_id"], "client_7",
        "the ledger tells whose charge it is"
    );
    assert_eq!(complete(&stripe, &id(&session), payer).await.status, 409);
}

#[tokio::test]
async fn a_payment_may_be_settled_later_or_never() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    for (succeed, event_type, status) in [
        (true, "checkout.session.async_payment_succeeded", "paid"),
        (false, "checkout.session.async_payment_failed", "unpaid"),
    ] {
        let form = [
            ("mode", "payment"),
            ("customer", customer.as_str()),
            ("line_items[0][price_data][currency]", "usd"),
            ("line_items[0][price_data][unit_amount]", "700"),
            ("line_items[0][price_data][product_data][name]", "Setup"),
            ("line_items[0][quantity]", "1"),
            ("success_url", "https://app.acme.test/ok"),
        ];
        let session = id(&stripe.post("/checkout/sessions", &form).await.ok());
        let payer = json!({ "payment_method": "pm_card_visa", "async": true });
        let done = complete(&stripe, &session, payer).await.ok();
        assert_eq!(
            (&done["status"], &done["payment_status"]),
            (&json!("complete"), &json!("unpaid"))
        );
        let settle = format!("/stripe/checkout_sessions/{session}/settle");
        let settled = stripe
            .control("POST", &settle, json!({ "succeed": succeed }))
            .await
            .ok();
        assert_eq!(settled["payment_status"], status);
        assert_eq!(told(&stripe, event_type).await, 1);
    }
    let charges = stripe.ledger().await["charges"].clone();
    assert_eq!(charges.as_array().map(Vec::len), Some(1));
    assert_eq!(charges[0]["amount"], 700);
}

#[tokio::test]
async fn a_session_expires_by_itself_or_when_told_to() {
    let stripe = Simulator::start().await;
    let price = stripe.price(5_000).await;
    let form = [
        ("mode", "subscription"),
        ("line_items[0][price]", price.as_str()),
        ("line_items[0][quantity]", "1"),
        ("success_url", "https://app.acme.test/ok"),
    ];
    let told_to = id(&stripe.post("/checkout/sessions", &form).await.ok());
    let by_itself = id(&stripe.post("/checkout/sessions", &form).await.ok());
    let path = format!("/checkout/sessions/{told_to}/expire");
    assert_eq!(stripe.post(&path, &[]).await.ok()["status"], "expired");
    stripe.post(&path, &[]).await.error(400);
    stripe.advance(86_401).await;
    let expired = stripe
        .get(&format!("/checkout/sessions/{by_itself}"))
        .await
        .ok();
    assert_eq!(expired["status"], "expired");
    assert_eq!(told(&stripe, "checkout.session.expired").await, 2);
    let listed = stripe.get("/checkout/sessions?status=expired").await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2));
    stripe
        .post("/checkout/sessions", &[("mode", "subscription")])
        .await
        .error(400);
}

#[tokio::test]
async fn everybody_who_follows_a_payment_link_gets_a_session_of_his_own() {
    let stripe = Simulator::start().await;
    let price = stripe.price(5_000).await;
    let form = [
        ("line_items[0][price]", price.as_str()),
        ("line_items[0][quantity]", "1"),
        ("metadata[mainstay_client_id]", "client_9"),
        (
            "subscription_data[metadata][mainstay_client_id]",
            "client_9",
        ),
    ];
    let link = stripe.post("/payment_links", &form).await.ok();
    let open = format!("/stripe/payment_links/{}/open", id(&link));
    let mut sessions = Vec::new();
    for reference in ["a", "b"] {
        let body = json!({ "client_reference_id": reference });
        let session = stripe.control("POST", &open, body).await.ok();
        assert_eq!(
            (&session["payment_link"], &session["mode"]),
            (&link["id"], &json!("subscription"))
        );
        assert_eq!(session["metadata"]["mainstay_client_id"], "client_9");
        sessions.push(id(&session));
    }
    assert_ne!(sessions[0], sessions[1]);
    let payer = json!({ "payment_method": "pm_card_visa", "email": "new@acme.test" });
    let done = complete(&stripe, &sessions[1], payer).await.ok();
    assert_eq!(done["payment_status"], "paid");
    assert_eq!(
        stripe.ledger().await["customers"][0]["email"],
        "new@acme.test"
    );
    stripe
        .post(
            &format!("/payment_links/{}", id(&link)),
            &[("active", "false")],
        )
        .await
        .ok();
    assert_eq!(stripe.control("POST", &open, json!({})).await.status, 409);
    assert_eq!(
        stripe.get("/payment_links?active=true").await.ok()["data"],
        json!([])
    );
}

#[tokio::test]
async fn a_card_that_was_set_up_is_not_asked_about_again() {
    let stripe = Simulator::start().await;
    let customer = id(&stripe.post("/customers", &[]).await.ok());
    let form = [
        ("customer", customer.as_str()),
        ("payment_method", "pm_card_authenticationRequiredOnSetup"),
        ("confirm", "true"),
    ];
    let intent = stripe.post("/setup_intents", &form).await.ok();
    assert_eq!(intent["status"], "requires_action");
    let path = format!("/stripe/setup_intents/{}/authenticate", id(&intent));
    let ready = stripe
        .control("POST", &path, json!({ "succeed": true }))
        .await
        .ok();
    assert_eq!(ready["status"], "succeeded");
    let method = ready["payment_method"].as_str().expect("a card");
    let price = stripe.price(5_000).await;
    let more = [("default_payment_method", method)];
    let made = stripe.subscribe(&customer, &price, &more).await.ok();
    assert_eq!(made["status"], "active");
    let form = [
        ("payment_method", "pm_card_chargeDeclined"),
        ("confirm", "true"),
    ];
    let declined = stripe.post("/setup_intents", &form).await.error(402);
    assert_eq!(
        declined["setup_intent"]["status"],
        "requires_payment_method"
    );
    assert_eq!(told(&stripe, "setup_intent.setup_failed").await, 1);
}
