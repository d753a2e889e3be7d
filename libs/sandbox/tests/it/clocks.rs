//! Stripe's test clocks, and what the last failed attempt leads to.
//!
//! Deliberately absent: the simulators' own clock, which `billing` and `changes` move.

use serde_json::{Value, json};

use crate::client::{Simulator, id};

const DAY: i64 = 86_400;

async fn clock_at(stripe: &Simulator, second: i64) -> String {
    let form = [("frozen_time", second.to_string()), ("name", "A".into())];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    id(&stripe.post("/test_helpers/test_clocks", &form).await.ok())
}

async fn advance(stripe: &Simulator, clock: &str, to: i64) -> Value {
    let path = format!("/test_helpers/test_clocks/{clock}");
    let form = [("frozen_time", to.to_string())];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let under_way = stripe.post(&format!("{path}/advance"), &form).await.ok();
    assert_eq!(under_way["status"], "advancing");
    stripe
        .until(&format!("/stripe/v1{path}"), |clock| {
            clock["status"] == "ready"
        })
        .await
}

async fn subscriber(stripe: &Simulator, clock: &str, card: &str) -> (String, Value) {
    let customer = id(&stripe
        .post("/customers", &[("test_clock", clock)])
        .await
        .ok());
    let method = id(&stripe
        .post(
            &format!("/payment_methods/{card}/attach"),
            &[("customer", &customer)],
        )
        .await
        .ok());
    let default = [("invoice_settings[default_payment_method]", method.as_str())];
    stripe
        .post(&format!("/customers/{customer}"), &default)
        .await
        .ok();
    let price = stripe.price(5_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    (customer, made)
}

#[tokio::test]
async fn a_customer_of_a_test_clock_lives_in_its_time_and_nobody_else_does() {
    let stripe = Simulator::start().await;
    let (start, elsewhere) = (
        1_700_000_000,
        stripe.customer_with_card("pm_card_visa").await.0,
    );
    let clock = clock_at(&stripe, start).await;
    let (customer, made) = subscriber(&stripe, &clock, "pm_card_visa").await;
    assert_eq!(
        (&made["created"], &made["test_clock"]),
        (&json!(start), &json!(clock))
    );
    let ready = advance(&stripe, &clock, start + 65 * DAY).await;
    assert_eq!(ready["frozen_time"], start + 65 * DAY);
    let invoices = stripe
        .get(&format!("/invoices?customer={customer}"))
        .await
        .ok();
    let created: Vec<i64> = invoices["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|invoice| invoice["created"].as_i64())
        .collect();
    assert_eq!(created, [start + 61 * DAY, start + 30 * DAY, start]);
    assert_eq!(invoices["data"][0]["status"], "paid");
    let told = stripe
        .get("/events?type=test_helpers.test_clock.ready")
        .await
        .ok();
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1));

    let listed = stripe.get("/customers").await.ok();
    assert_eq!(listed["data"][0]["id"], elsewhere.as_str());
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    let listed = stripe
        .get(&format!("/customers?test_clock={clock}"))
        .await
        .ok();
    assert_eq!(listed["data"][0]["id"], customer.as_str());
    assert_eq!(stripe.get("/subscriptions").await.ok()["data"], json!([]));

    let path = format!("/test_helpers/test_clocks/{clock}");
    stripe
        .post(&format!("{path}/advance"), &[("frozen_time", "1000")])
        .await
        .error(400);
    assert_eq!(stripe.delete(&path).await.ok()["deleted"], true);
    stripe
        .get(&format!("/customers/{customer}"))
        .await
        .error(404);
    assert_eq!(stripe.ledger().await["charges"], json!([]));
}

#[tokio::test]
async fn the_last_failed_attempt_cancels_or_leaves_unpaid_as_the_dashboard_says() {
    let stripe = Simulator::start().await;
    let start = 1_700_000_000;
    for (setting, status) in [
        ("mark_unpaid", "unpaid"),
        ("leave_past_due", "past_due"),
        ("cancel", "canceled"),
    ] {
        let set = json!({ "failed_payments": setting });
        stripe.control("PUT", "/stripe/settings", set).await.ok();
        let clock = clock_at(&stripe, start).await;
        let (customer, made) = subscriber(&stripe, &clock, "pm_card_visa").await;
        let failing = id(&stripe
            .post(
                "/payment_methods/pm_card_chargeCustomerFail/attach",
                &[("customer", &customer)],
            )
            .await
            .ok());
        let path = format!("/subscriptions/{}", id(&made));
        stripe
            .post(&path, &[("default_payment_method", &failing)])
            .await
            .ok();
        advance(&stripe, &clock, start + 30 * DAY + 3_600).await;
        let late = stripe.get(&path).await.ok();
        assert_eq!(late["status"], "past_due");
        let invoice = late["latest_invoice"].as_str().expect("an invoice");
        let invoice = stripe.get(&format!("/invoices/{invoice}")).await.ok();
        assert_eq!(
            invoice["next_payment_attempt"],
            start + 31 * DAY,
            "a day after the renewal"
        );
        advance(&stripe, &clock, start + 46 * DAY).await;
        assert_eq!(stripe.get(&path).await.ok()["status"], status);
        if status == "unpaid" {
            advance(&stripe, &clock, start + 62 * DAY).await;
            let path = format!("/invoices?subscription={}&limit=1", id(&made));
            assert_eq!(
                stripe.get(&path).await.ok()["data"][0]["status"],
                "draft",
                "nobody asks an unpaid one for money"
            );
        }
    }
    let wrong = json!({ "failed_payments": "shout" });
    let answer = stripe.control("PUT", "/stripe/settings", wrong).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_clock_that_was_advancing_when_the_process_died_gets_there_after_the_restart() {
    let directory = std::env::temp_dir().join(format!("mainstay-clock-{}", std::process::id()));
    let stripe = Simulator::start_in(directory.clone()).await;
    let start = 1_700_000_000;
    let clock = clock_at(&stripe, start).await;
    let (customer, _) = subscriber(&stripe, &clock, "pm_card_visa").await;
    let form = [("frozen_time", (start + 400 * DAY).to_string())];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    stripe
        .post(&format!("/test_helpers/test_clocks/{clock}/advance"), &form)
        .await
        .ok();
    stripe.stop().await;
    let stripe = Simulator::start_in(directory.clone()).await;
    stripe
        .until(
            &format!("/stripe/v1/test_helpers/test_clocks/{clock}"),
            |clock| clock["status"] == "ready",
        )
        .await;
    let invoices = stripe
        .get(&format!("/invoices?limit=100&customer={customer}"))
        .await
        .ok();
    assert_eq!(invoices["data"].as_array().map(Vec::len), Some(14));
    stripe.stop().await;
    std::fs::remove_dir_all(directory).expect("the directory goes");
}
