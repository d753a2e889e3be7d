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

async fn first_intent(stripe: &Simulator, subscription: &serde_json::Value) -> String {
    let path = format!(
        "/invoice_payments?invoice={}",
        subscription["latest_invoice"].as_str().expect("an invoice")
    );
    stripe.get(&path).await.ok()["data"][0]["payment"]["payment_intent"]
        .as_str()
        .expect("an intent")
        .to_owned()
}

async fn authenticate(stripe: &Simulator, intent: &str, succeed: bool) {
    let path = format!("/stripe/payment_intents/{intent}/authenticate");
    stripe
        .control("POST", &path, json!({ "succeed": succeed }))
        .await
        .ok();
}

#[tokio::test]
async fn a_holder_who_fails_to_authenticate_may_pay_with_another_card() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe
        .customer_with_card("pm_card_authenticationRequired")
        .await;
    let price = stripe.price(5_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    let intent = first_intent(&stripe, &made).await;
    authenticate(&stripe, &intent, false).await;
    let failed = stripe.get(&format!("/payment_intents/{intent}")).await.ok();
    assert_eq!(
        (&failed["status"], &failed["last_payment_error"]["code"]),
        (
            &json!("requires_payment_method"),
            &json!("payment_intent_authentication_failure")
        )
    );
    let told = stripe
        .get("/events?type=payment_intent.payment_failed")
        .await
        .ok();
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1));
    let path = format!("/subscriptions/{}", id(&made));
    assert_eq!(stripe.get(&path).await.ok()["status"], "incomplete");

    let confirmed = stripe
        .post(
            &format!("/payment_intents/{intent}/confirm"),
            &[("payment_method", "pm_card_visa")],
        )
        .await
        .ok();
    assert_eq!(confirmed["status"], "succeeded");
    assert_eq!(stripe.get(&path).await.ok()["status"], "active");
    let ledger = stripe.ledger().await;
    assert_eq!(ledger["charges"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        ledger["failed_charges"],
        json!([]),
        "the bank was never asked"
    );
}

#[tokio::test]
async fn a_confirmation_with_a_return_url_redirects_and_asking_twice_changes_nothing() {
    let stripe = Simulator::start().await;
    let form = [
        ("amount", "1000"),
        ("currency", "usd"),
        ("payment_method", "pm_card_threeDSecure2Required"),
    ];
    let intent = id(&stripe.post("/payment_intents", &form).await.ok());
    let confirm = format!("/payment_intents/{intent}/confirm");
    let back = [("return_url", "https://app.acme.test/back")];
    let waiting = stripe.post(&confirm, &back).await.ok();
    assert_eq!(waiting["next_action"]["type"], "redirect_to_url");
    assert!(waiting["client_secret"].is_string());
    let again = stripe.post(&confirm, &[]).await.ok();
    assert_eq!(again["next_action"], waiting["next_action"]);
    let told = stripe
        .get("/events?type=payment_intent.requires_action")
        .await
        .ok();
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_renewal_that_needs_the_holder_waits_for_him() {
    let stripe = Simulator::start().await;
    let price = stripe.price(5_000).await;
    let mut made = Vec::new();
    for card in [
        "pm_card_authenticationRequired",
        "pm_card_authenticationRequiredOnSetup",
    ] {
        let (customer, _) = stripe.customer_with_card(card).await;
        let subscription = stripe.subscribe(&customer, &price, &[]).await.ok();
        assert_eq!(subscription["status"], "incomplete", "{card}");
        let intent = first_intent(&stripe, &subscription).await;
        authenticate(&stripe, &intent, true).await;
        made.push(id(&subscription));
    }
    stripe.advance(32 * 86_400).await;
    let every_time = stripe
        .get(&format!("/subscriptions/{}", made[0]))
        .await
        .ok();
    assert_eq!(every_time["status"], "past_due");
    assert_eq!(
        stripe
            .get(&format!("/subscriptions/{}", made[1]))
            .await
            .ok()["status"],
        "active",
        "set up once, works without the holder"
    );
    let intent = first_intent(&stripe, &every_time).await;
    let waiting = stripe.get(&format!("/payment_intents/{intent}")).await.ok();
    assert_eq!(waiting["status"], "requires_action");
    let told = stripe
        .get("/events?type=invoice.payment_action_required")
        .await
        .ok();
    assert!(told["data"].as_array().is_some_and(|told| {
        told.iter()
            .any(|event| event["data"]["object"]["id"] == every_time["latest_invoice"])
    }));
    authenticate(&stripe, &intent, true).await;
    assert_eq!(
        stripe
            .get(&format!("/subscriptions/{}", made[0]))
            .await
            .ok()["status"],
        "active"
    );
}

#[tokio::test]
async fn a_card_is_known_again_by_its_fingerprint() {
    let stripe = Simulator::start().await;
    let mut prints = Vec::new();
    for card in ["pm_card_visa", "pm_card_visa", "pm_card_mastercard"] {
        let (_, method) = stripe.customer_with_card(card).await;
        let method = stripe.get(&format!("/payment_methods/{method}")).await.ok();
        prints.push(method["card"]["fingerprint"].clone());
    }
    assert_eq!(prints[0], prints[1]);
    assert_ne!(prints[0], prints[2]);
}
