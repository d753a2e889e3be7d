//! Subscriptions, invoices, refunds and time.

use serde_json::{Value, json};

use crate::client::{Simulator, id};

const DAY: i64 = 86_400;

#[tokio::test]
async fn subscribing_with_a_good_card_takes_the_money_once_and_is_active() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(99_700).await;
    let more = [
        ("metadata[mainstay_saga_id]", "saga_1"),
        ("expand[]", "latest_invoice.payments"),
        ("expand[]", "latest_invoice.confirmation_secret"),
    ];
    let subscription = stripe.subscribe(&customer, &price, &more).await.ok();
    assert_eq!(subscription["status"], "active");
    let invoice = &subscription["latest_invoice"];
    assert_eq!(
        (&invoice["status"], &invoice["amount_paid"]),
        (&json!("paid"), &json!(99_700))
    );
    for gone in ["payment_intent", "charge", "paid"] {
        assert!(
            invoice.get(gone).is_none(),
            "{gone} has not been on an invoice since basil"
        );
    }
    assert_eq!(invoice["payments"]["data"][0]["status"], "paid");
    assert!(invoice["confirmation_secret"]["client_secret"].is_string());
    assert!(
        subscription.get("current_period_end").is_none(),
        "periods live on the items"
    );
    assert!(subscription["items"]["data"][0]["current_period_end"].is_i64());
    let ledger = stripe.ledger().await;
    assert_eq!(ledger["charges"].as_array().map(Vec::len), Some(1));
    assert_eq!(ledger["charges"][0]["amount"], 99_700);
    assert_eq!(ledger["charges"][0]["customer"], customer.as_str());
    assert_eq!(
        ledger["subscriptions"][0]["metadata"]["mainstay_saga_id"],
        "saga_1"
    );
}

#[tokio::test]
async fn a_trial_costs_nothing_until_it_ends_and_then_renews_by_the_month() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let trial = stripe
        .subscribe(&customer, &price, &[("trial_period_days", "14")])
        .await
        .ok();
    assert_eq!(trial["status"], "trialing");
    assert_eq!(stripe.ledger().await["charges"], json!([]));
    stripe.advance(13 * DAY).await;
    assert_eq!(stripe.ledger().await["charges"], json!([]));
    stripe.advance(DAY + 1).await;
    let after = stripe
        .get(&format!("/subscriptions/{}", id(&trial)))
        .await
        .ok();
    assert_eq!(after["status"], "active");
    assert_eq!(
        after["items"]["data"][0]["current_period_start"],
        trial["trial_end"]
    );
    assert_eq!(
        stripe.ledger().await["charges"].as_array().map(Vec::len),
        Some(1)
    );
    stripe.advance(62 * DAY).await;
    assert_eq!(
        stripe.ledger().await["charges"].as_array().map(Vec::len),
        Some(3)
    );
    let invoices = stripe
        .get(&format!("/invoices?subscription={}", id(&trial)))
        .await
        .ok();
    let reasons: Vec<&str> = invoices["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|i| i["billing_reason"].as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "subscription_cycle",
            "subscription_cycle",
            "subscription_cycle",
            "subscription_create"
        ]
    );
}

#[tokio::test]
async fn an_unpaid_first_invoice_expires_the_subscription_after_23_hours() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let made = stripe
        .subscribe(
            &customer,
            &price,
            &[("payment_behavior", "default_incomplete")],
        )
        .await
        .ok();
    assert_eq!(made["status"], "incomplete");
    stripe.advance(22 * 3600).await;
    assert_eq!(
        stripe
            .get(&format!("/subscriptions/{}", id(&made)))
            .await
            .ok()["status"],
        "incomplete"
    );
    stripe.advance(3601).await;
    assert_eq!(
        stripe
            .get(&format!("/subscriptions/{}", id(&made)))
            .await
            .ok()["status"],
        "incomplete_expired"
    );
    let invoice = made["latest_invoice"].as_str().expect("an invoice");
    assert_eq!(
        stripe.get(&format!("/invoices/{invoice}")).await.ok()["status"],
        "void"
    );
    assert_eq!(stripe.ledger().await["charges"], json!([]));
}

#[tokio::test]
async fn confirming_the_first_payment_activates_an_incomplete_subscription() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let more = [
        ("payment_behavior", "default_incomplete"),
        ("expand[]", "latest_invoice.payments"),
    ];
    let made = stripe.subscribe(&customer, &price, &more).await.ok();
    let intent = made["latest_invoice"]["payments"]["data"][0]["payment"]["payment_intent"]
        .as_str()
        .expect("an intent");
    let confirmed = stripe
        .post(&format!("/payment_intents/{intent}/confirm"), &[])
        .await
        .ok();
    assert_eq!(confirmed["status"], "succeeded");
    assert_eq!(
        stripe
            .get(&format!("/subscriptions/{}", id(&made)))
            .await
            .ok()["status"],
        "active"
    );
}

#[tokio::test]
async fn a_failing_renewal_is_retried_eight_times_and_then_cancels() {
    let stripe = Simulator::start().await;
    let (customer, good) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    let bad = id(&stripe
        .post(
            "/payment_methods/pm_card_chargeCustomerFail/attach",
            &[("customer", &customer)],
        )
        .await
        .ok());
    let path = format!("/subscriptions/{}", id(&made));
    stripe
        .post(&path, &[("default_payment_method", &bad)])
        .await
        .ok();
    stripe.advance(31 * DAY + 1).await;
    let late = stripe.get(&path).await.ok();
    assert_eq!(late["status"], "past_due");
    let invoice = late["latest_invoice"]
        .as_str()
        .expect("an invoice")
        .to_owned();
    stripe
        .post(&path, &[("default_payment_method", &good)])
        .await
        .ok();
    stripe.advance(2 * DAY).await;
    assert_eq!(
        stripe.get(&path).await.ok()["status"],
        "active",
        "a good card heals it at the next attempt"
    );
    assert_eq!(
        stripe.get(&format!("/invoices/{invoice}")).await.ok()["status"],
        "paid"
    );

    stripe
        .post(&path, &[("default_payment_method", &bad)])
        .await
        .ok();
    stripe.advance(45 * DAY).await;
    let ended = stripe.get(&path).await.ok();
    assert_eq!(ended["status"], "canceled");
    assert_eq!(ended["cancellation_details"]["reason"], "payment_failed");
    let ledger = stripe.ledger().await;
    assert_eq!(ledger["charges"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn canceling_now_and_at_period_end_end_it_once() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let first = id(&stripe.subscribe(&customer, &price, &[]).await.ok());
    let canceled = stripe
        .delete(&format!(
            "/subscriptions/{first}?invoice_now=true&prorate=true"
        ))
        .await
        .ok();
    assert_eq!(canceled["status"], "canceled");
    assert_eq!(
        stripe
            .delete(&format!("/subscriptions/{first}"))
            .await
            .error(404)["code"],
        "resource_missing"
    );

    let second = id(&stripe.subscribe(&customer, &price, &[]).await.ok());
    let path = format!("/subscriptions/{second}");
    let waiting = stripe
        .post(&path, &[("cancel_at_period_end", "true")])
        .await
        .ok();
    assert_eq!(
        (&waiting["status"], &waiting["cancel_at_period_end"]),
        (&json!("active"), &json!(true))
    );
    stripe.advance(32 * DAY).await;
    let over = stripe.get(&path).await.ok();
    assert_eq!(over["status"], "canceled");
    assert_eq!(
        over["ended_at"],
        waiting["items"]["data"][0]["current_period_end"]
    );
    let listed = stripe
        .get(&format!("/subscriptions?customer={customer}"))
        .await
        .ok();
    assert_eq!(
        listed["data"],
        json!([]),
        "canceled ones are not listed unless asked for"
    );
    let all = stripe
        .get(&format!("/subscriptions?customer={customer}&status=all"))
        .await
        .ok();
    assert_eq!(all["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn refunds_never_exceed_the_charge() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(10_000).await;
    stripe.subscribe(&customer, &price, &[]).await.ok();
    let charge = id(&stripe.ledger().await["charges"][0]);
    stripe
        .post("/refunds", &[("charge", &charge), ("amount", "7000")])
        .await
        .ok();
    let refused = stripe
        .post("/refunds", &[("charge", &charge), ("amount", "3001")])
        .await
        .error(400);
    assert_eq!(refused["code"], "amount_too_large");
    let intent = stripe.ledger().await["charges"][0]["payment_intent"]
        .as_str()
        .expect("an intent")
        .to_owned();
    let rest = stripe
        .post("/refunds", &[("payment_intent", &intent)])
        .await
        .ok();
    assert_eq!(rest["amount"], 3_000);
    let again = stripe
        .post("/refunds", &[("charge", &charge)])
        .await
        .error(400);
    assert_eq!(again["code"], "charge_already_refunded");
    let charge = stripe
        .get(&format!("/charges/{charge}?expand[]=refunds"))
        .await
        .ok();
    assert_eq!(
        (&charge["refunded"], &charge["amount_refunded"]),
        (&json!(true), &json!(10_000))
    );
    assert_eq!(charge["refunds"]["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_coupon_of_one_redemption_serves_one_subscription_and_one_invoice() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(10_000).await;
    let coupon = [
        ("id", "SAVE20"),
        ("percent_off", "20"),
        ("duration", "once"),
        ("max_redemptions", "1"),
    ];
    stripe.post("/coupons", &coupon).await.ok();
    let discounted = [
        ("discounts[0][coupon]", "SAVE20"),
        ("expand[]", "latest_invoice"),
    ];
    let made = stripe.subscribe(&customer, &price, &discounted).await.ok();
    assert_eq!(made["latest_invoice"]["amount_paid"], 8_000);
    let refused = stripe
        .subscribe(&customer, &price, &discounted)
        .await
        .error(400);
    assert_eq!(refused["code"], "coupon_expired");
    stripe.advance(32 * DAY).await;
    let amounts: Vec<i64> = charges(&stripe.ledger().await);
    assert_eq!(amounts, [8_000, 10_000]);
}

#[tokio::test]
async fn an_upgrade_bills_the_difference_of_the_time_that_is_left() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let (small, large) = (stripe.price(3_000).await, stripe.price(9_000).await);
    let made = stripe.subscribe(&customer, &small, &[]).await.ok();
    let item = id(&made["items"]["data"][0]);
    let (start, end) = (
        made["items"]["data"][0]["current_period_start"]
            .as_i64()
            .expect("a start"),
        made["items"]["data"][0]["current_period_end"]
            .as_i64()
            .expect("an end"),
    );
    let middle = (start + (end - start) / 2).to_string();
    let change = [
        ("items[0][id]", item.as_str()),
        ("items[0][price]", large.as_str()),
        ("proration_behavior", "always_invoice"),
        ("proration_date", middle.as_str()),
    ];
    stripe
        .post(&format!("/subscriptions/{}", id(&made)), &change)
        .await
        .ok();
    assert_eq!(
        charges(&stripe.ledger().await),
        [3_000, 3_000],
        "half of 9000 less half of 3000"
    );
}

fn charges(ledger: &Value) -> Vec<i64> {
    ledger["charges"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|charge| charge["amount"].as_i64())
        .collect()
}
