//! Cards that are declined, that must be authenticated, and what is left behind.

use serde_json::json;

use crate::client::{Simulator, id};

#[tokio::test]
async fn a_declined_card_cannot_be_attached() {
    let stripe = Simulator::start().await;
    let customer = id(&stripe.post("/customers", &[]).await.ok());
    for (card, decline_code) in [
        ("chargeDeclined", "generic_decline"),
        ("chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ] {
        let path = format!("/payment_methods/pm_card_{card}/attach");
        let error = stripe
            .post(&path, &[("customer", &customer)])
            .await
            .error(402);
        assert_eq!(error["type"], "card_error");
        assert_eq!(
            (&error["code"], &error["decline_code"]),
            (&json!("card_declined"), &json!(decline_code))
        );
        assert!(error["request_log_url"].is_string());
    }
    assert_eq!(stripe.ledger().await["payment_methods"], json!([]));
}

#[tokio::test]
async fn error_if_incomplete_leaves_nothing_behind() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe
        .customer_with_card("pm_card_chargeCustomerFail")
        .await;
    let price = stripe.price(5_000).await;
    let strict = [("payment_behavior", "error_if_incomplete")];
    let error = stripe
        .subscribe(&customer, &price, &strict)
        .await
        .error(402);
    assert_eq!(error["decline_code"], "generic_decline");
    let ledger = stripe.ledger().await;
    for kind in ["subscriptions", "invoices", "charges", "payment_intents"] {
        assert_eq!(ledger[kind], json!([]), "{kind}");
    }
    let lenient = stripe.subscribe(&customer, &price, &[]).await.ok();
    assert_eq!(lenient["status"], "incomplete");
}

#[tokio::test]
async fn a_declined_confirmation_is_remembered_in_the_intent() {
    let stripe = Simulator::start().await;
    let form = [
        ("amount", "1000"),
        ("currency", "usd"),
        ("payment_method", "pm_card_chargeDeclined"),
        ("confirm", "true"),
    ];
    let error = stripe.post("/payment_intents", &form).await.error(402);
    let intent = error["payment_intent"]["id"]
        .as_str()
        .expect("the intent")
        .to_owned();
    let kept = stripe.get(&format!("/payment_intents/{intent}")).await.ok();
    assert_eq!(kept["status"], "requires_payment_method");
    assert_eq!(kept["last_payment_error"]["code"], "card_declined");
    let retried = stripe
        .post(
            &format!("/payment_intents/{intent}/confirm"),
            &[("payment_method", "pm_card_visa")],
        )
        .await
        .ok();
    assert_eq!(retried["status"], "succeeded");
    let ledger = stripe.ledger().await;
    assert_eq!(ledger["charges"].as_array().map(Vec::len), Some(1));
    assert_eq!(ledger["failed_charges"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn three_d_secure_waits_for_the_customer_and_then_activates() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe
        .customer_with_card("pm_card_threeDSecure2Required")
        .await;
    let price = stripe.price(5_000).await;
    let made = stripe
        .subscribe(
            &customer,
            &price,
            &[("expand[]", "latest_invoice.payments")],
        )
        .await
        .ok();
    assert_eq!(made["status"], "incomplete");
    let intent = made["latest_invoice"]["payments"]["data"][0]["payment"]["payment_intent"]
        .as_str()
        .expect("an intent");
    let waiting = stripe.get(&format!("/payment_intents/{intent}")).await.ok();
    assert_eq!(
        (&waiting["status"], &waiting["next_action"]["type"]),
        (&json!("requires_action"), &json!("use_stripe_sdk"))
    );
    stripe
        .control(
            "POST",
            &format!("/stripe/payment_intents/{intent}/authenticate"),
            json!({}),
        )
        .await
        .ok();
    assert_eq!(
        stripe
            .get(&format!("/subscriptions/{}", id(&made)))
            .await
            .ok()["status"],
        "active"
    );
}

#[tokio::test]
async fn without_a_payment_method_nothing_is_made() {
    let stripe = Simulator::start().await;
    let customer = id(&stripe.post("/customers", &[]).await.ok());
    let price = stripe.price(5_000).await;
    let error = stripe.subscribe(&customer, &price, &[]).await.error(400);
    assert_eq!(error["code"], "resource_missing");
    let foreign = stripe.customer_with_card("pm_card_visa").await.1;
    let error = stripe
        .subscribe(&customer, &price, &[("default_payment_method", &foreign)])
        .await
        .error(400);
    assert_eq!(error["param"], "default_payment_method");
    assert_eq!(stripe.ledger().await["subscriptions"], json!([]));
}
