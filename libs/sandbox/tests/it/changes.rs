//! What may happen to a running subscription: it is paused, it resumes, it ends, it is told about ahead of time.
//!
//! Deliberately absent: upgrades and cancellation in their plain form, which `billing` tells.

use serde_json::{Value, json};

use crate::client::{Simulator, id};

const DAY: i64 = 86_400;

async fn statuses(stripe: &Simulator, subscription: &str) -> Vec<String> {
    let path = format!("/invoices?subscription={subscription}&limit=100");
    let invoices = stripe.get(&path).await.ok();
    let mut statuses: Vec<String> = invoices["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|invoice| invoice["status"].as_str())
        .map(str::to_owned)
        .collect();
    statuses.reverse();
    statuses
}

async fn told(stripe: &Simulator, event_type: &str) -> usize {
    let events = stripe
        .get(&format!("/events?limit=100&type={event_type}"))
        .await
        .ok();
    events["data"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn while_collection_is_paused_the_status_stays_and_the_invoices_do_what_was_asked() {
    let stripe = Simulator::start().await;
    let price = stripe.price(5_000).await;
    for (behavior, meanwhile) in [
        ("void", "void"),
        ("keep_as_draft", "draft"),
        ("mark_uncollectible", "uncollectible"),
    ] {
        let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
        let made = stripe.subscribe(&customer, &price, &[]).await.ok();
        let path = format!("/subscriptions/{}", id(&made));
        let now = stripe.control("GET", "/clock", json!({})).await.ok()["now"].clone();
        let resumes_at = (now.as_i64().expect("a second") + 40 * DAY).to_string();
        let pause = [
            ("pause_collection[behavior]", behavior),
            ("pause_collection[resumes_at]", resumes_at.as_str()),
        ];
        let paused = stripe.post(&path, &pause).await.ok();
        assert_eq!(
            (&paused["status"], &paused["pause_collection"]["behavior"]),
            (&json!("active"), &json!(behavior))
        );
        stripe.advance(39 * DAY).await;
        assert_eq!(
            stripe.get(&path).await.ok()["pause_collection"]["behavior"],
            behavior
        );
        stripe.advance(2 * DAY).await;
        let resumed = stripe.get(&path).await.ok();
        assert_eq!(
            (&resumed["status"], &resumed["pause_collection"]),
            (&json!("active"), &Value::Null)
        );
        let updates = stripe
            .get("/events?limit=100&type=customer.subscription.updated")
            .await
            .ok();
        let of_resumption = |event: &&Value| {
            event["data"]["object"]["id"] == made["id"]
                && event["data"]["previous_attributes"]["pause_collection"]["behavior"] == behavior
        };
        let updates = updates["data"].as_array().into_iter().flatten();
        assert_eq!(updates.filter(of_resumption).count(), 1);
        stripe.advance(25 * DAY).await;
        assert_eq!(
            statuses(&stripe, &id(&made)).await,
            ["paid", meanwhile, "paid"],
            "{behavior}"
        );
        stripe.delete(&path).await.ok();
    }
    let past = [
        ("pause_collection[behavior]", "void"),
        ("pause_collection[resumes_at]", "1000"),
    ];
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    stripe
        .post(&format!("/subscriptions/{}", id(&made)), &past)
        .await
        .error(400);
}

#[tokio::test]
async fn a_trial_without_a_card_pauses_and_resumes_when_it_is_paid() {
    let stripe = Simulator::start().await;
    let customer = id(&stripe.post("/customers", &[]).await.ok());
    let price = stripe.price(5_000).await;
    let more = [
        ("trial_period_days", "14"),
        (
            "trial_settings[end_behavior][missing_payment_method]",
            "pause",
        ),
    ];
    let made = stripe.subscribe(&customer, &price, &more).await.ok();
    let path = format!("/subscriptions/{}", id(&made));
    assert_eq!(
        told(&stripe, "customer.subscription.trial_will_end").await,
        0
    );
    stripe.advance(11 * DAY + 1).await;
    assert_eq!(
        told(&stripe, "customer.subscription.trial_will_end").await,
        1
    );
    stripe.advance(3 * DAY).await;
    assert_eq!(stripe.get(&path).await.ok()["status"], "paused");
    assert_eq!(told(&stripe, "customer.subscription.paused").await, 1);

    let resume = format!("{path}/resume");
    stripe.post(&resume, &[]).await.error(400);
    let method = id(&stripe
        .post(
            "/payment_methods/pm_card_visa/attach",
            &[("customer", &customer)],
        )
        .await
        .ok());
    stripe
        .post(&path, &[("default_payment_method", &method)])
        .await
        .ok();
    let resumed = stripe
        .post(&resume, &[("billing_cycle_anchor", "now")])
        .await
        .ok();
    assert_eq!(resumed["status"], "active");
    assert_eq!(told(&stripe, "customer.subscription.resumed").await, 1);
    assert_eq!(
        stripe.ledger().await["charges"].as_array().map(Vec::len),
        Some(1)
    );
    stripe.post(&resume, &[]).await.error(400);
    stripe.advance(32 * DAY).await;
    assert_eq!(
        stripe.ledger().await["charges"].as_array().map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn a_trial_without_a_card_may_also_end_the_subscription() {
    let stripe = Simulator::start().await;
    let customer = id(&stripe.post("/customers", &[]).await.ok());
    let price = stripe.price(5_000).await;
    let more = [
        ("trial_period_days", "2"),
        (
            "trial_settings[end_behavior][missing_payment_method]",
            "cancel",
        ),
    ];
    let made = stripe.subscribe(&customer, &price, &more).await.ok();
    assert_eq!(
        told(&stripe, "customer.subscription.trial_will_end").await,
        1,
        "shorter than the notice: told at once"
    );
    stripe.advance(2 * DAY + 1).await;
    assert_eq!(
        stripe
            .get(&format!("/subscriptions/{}", id(&made)))
            .await
            .ok()["status"],
        "canceled"
    );
}

#[tokio::test]
async fn a_cancellation_can_be_dated_and_taken_back_until_its_day() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    let path = format!("/subscriptions/{}", id(&made));
    let day = (made["created"].as_i64().expect("a second") + 10 * DAY).to_string();
    let dated = stripe.post(&path, &[("cancel_at", &day)]).await.ok();
    assert_eq!(dated["cancel_at"].to_string(), day);
    let back = stripe.post(&path, &[("cancel_at", "")]).await.ok();
    assert_eq!(
        (&back["cancel_at"], &back["canceled_at"]),
        (&Value::Null, &Value::Null)
    );
    stripe
        .post(&path, &[("cancel_at_period_end", "true")])
        .await
        .ok();
    stripe
        .post(&path, &[("cancel_at_period_end", "false")])
        .await
        .ok();
    stripe.advance(11 * DAY).await;
    assert_eq!(stripe.get(&path).await.ok()["status"], "active");
    let day = (made["created"].as_i64().expect("a second") + 20 * DAY).to_string();
    stripe.post(&path, &[("cancel_at", &day)]).await.ok();
    stripe.advance(10 * DAY).await;
    assert_eq!(stripe.get(&path).await.ok()["status"], "canceled");
}

#[tokio::test]
async fn ending_at_once_with_a_last_invoice_credits_the_time_that_is_left() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    let path = format!("/subscriptions/{}?invoice_now=true&prorate=true", id(&made));
    let ended = stripe.delete(&path).await.ok();
    assert_eq!(ended["status"], "canceled");
    assert_eq!(statuses(&stripe, &id(&made)).await, ["paid", "paid"]);
    let balance = stripe.get(&format!("/customers/{customer}")).await.ok()["balance"].clone();
    // A second or two may have passed.
    assert!(
        balance
            .as_i64()
            .is_some_and(|credit| (-5_000..=-4_999).contains(&credit)),
        "{balance}"
    );
}

#[tokio::test]
async fn ending_a_trial_now_bills_and_moves_the_anchor() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let made = stripe
        .subscribe(&customer, &price, &[("trial_period_days", "14")])
        .await
        .ok();
    let path = format!("/subscriptions/{}", id(&made));
    let ended = stripe
        .post(&path, &[("trial_end", "now"), ("metadata[k]", "v")])
        .await
        .ok();
    assert_eq!(
        (&ended["status"], &ended["metadata"]["k"]),
        (&json!("active"), &json!("v"))
    );
    assert_eq!(
        stripe.ledger().await["charges"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn a_renewal_is_announced_a_week_ahead_and_not_when_it_will_not_come() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    stripe.advance(25 * DAY).await;
    let upcoming = stripe.get("/events?type=invoice.upcoming").await.ok();
    let invoice = &upcoming["data"][0]["data"]["object"];
    assert_eq!(
        (&invoice["amount_due"], &invoice["billing_reason"]),
        (&json!(5_000), &json!("upcoming"))
    );
    assert_eq!(
        invoice["parent"]["subscription_details"]["subscription"],
        made["id"]
    );
    stripe.advance(10 * DAY).await;
    stripe
        .post(
            &format!("/subscriptions/{}", id(&made)),
            &[("cancel_at_period_end", "true")],
        )
        .await
        .ok();
    stripe.advance(31 * DAY).await;
    // The event of a month ago is no longer listed; there is no other.
    assert_eq!(told(&stripe, "invoice.upcoming").await, 0);
}
