//! Whoever pays a link becomes a client, once; whoever is one already is never sold two.

use futures_util::future::join_all;
use mainstay_proto::billing::v1::{Plan, StripeEventOutcome};
use serde_json::Value;

use crate::stage::{Stage, pro};

/// A session at Stripe for the plan, with these on its metadata.
async fn session(stage: &Stage, plan: &Plan, more: &[(&str, &str)]) -> String {
    let agency = stage.agency.to_string();
    let mut form = vec![
        ("mode", "subscription"),
        ("success_url", "https://agency.test/thanks"),
        ("line_items[0][quantity]", "1"),
        ("line_items[0][price_data][currency]", "usd"),
        ("line_items[0][price_data][unit_amount]", "99700"),
        ("line_items[0][price_data][recurring][interval]", "month"),
        ("line_items[0][price_data][product_data][name]", "Pro"),
        ("metadata[mainstay_agency_id]", &agency),
        ("metadata[mainstay_plan_id]", plan.id()),
        ("metadata[mainstay_currency]", "usd"),
        ("metadata[mainstay_interval]", "month"),
    ];
    form.extend_from_slice(more);
    let made = stage.at_stripe("/stripe/v1/checkout/sessions", &form).await;
    made["id"].as_str().expect("an id").to_owned()
}

const NEW: (&str, &str) = ("metadata[mainstay_kind]", "new_client");

async fn pay(stage: &Stage, session: &str, more: &[(&str, &str)]) {
    let path = format!("/_/stripe/checkout_sessions/{session}/complete");
    let mut form = vec![
        ("payment_method", "pm_card_visa"),
        ("email", "ana@roof.test"),
        ("name", "Ana Roof"),
    ];
    form.extend_from_slice(more);
    stage.at_stripe(&path, &form).await;
}

async fn event(stage: &Stage, kind: &str) -> Value {
    let events = stage.stripe_events().await;
    let found = events.iter().rev().find(|event| event["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}")).clone()
}

async fn told(stage: &Stage, event_type: &str) -> i64 {
    let sql = format!("select count(*) from billing.outbox_event where type = '{event_type}'");
    stage.database.count(&sql).await
}

#[tokio::test]
async fn whoever_pays_a_link_is_let_in_once_however_often_it_is_told() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let session = session(&stage, &plan, &[NEW]).await;
    pay(&stage, &session, &[]).await;
    let completed = event(&stage, "checkout.session.completed").await;
    // The same event, and another one about the same session.
    let mut other = completed.clone();
    other["id"] = "evt_other".into();
    other["type"] = "checkout.session.async_payment_succeeded".into();
    let all = [&completed, &other, &completed, &other, &completed];
    let outcomes = join_all(all.into_iter().map(|event| stage.deliver(event))).await;
    let applied = outcomes
        .iter()
        .map(|handled| handled.as_ref().expect("handled").outcome())
        .filter(|outcome| *outcome == StripeEventOutcome::Applied);
    assert_eq!(applied.count(), 2, "each event once");

    stage.at_rest(&stage.newest_saga().await).await;
    let [(origin, client)] = stage.identity.onboarded().try_into().expect("one client");
    assert_eq!(origin, format!("stripe_checkout/{session}"));
    let sagas = "select count(*) from billing.saga where definition = 'onboard_client' and state = 'completed'";
    assert_eq!(stage.database.count(sagas).await, 1);
    let told_to_identity = stage.identity.stored(&client).expect("told");
    assert_eq!(told_to_identity.subscription_status, "active");
    assert!(told_to_identity.paid_through_at.is_some());
    let active = "select count(*) from billing.subscription where status = 'active'";
    assert_eq!(stage.database.count(active).await, 1);
    let taken = "select sum(amount_captured_minor)::bigint from billing.payment";
    assert_eq!(
        stage.database.count(taken).await,
        99_700,
        "mirrored at once"
    );
    let subscriptions = stage.ledger("subscriptions").await;
    assert_eq!(
        subscriptions[0]["metadata"]["mainstay_client_id"],
        client.as_str()
    );
    assert_eq!(told(&stage, "billing.client.onboarded").await, 1);
    // Everything else that Stripe told meanwhile finds its client now.
    let left = stage.deliver_all().await;
    assert!(!left.is_empty());
    assert_eq!(stage.database.count(taken).await, 99_700);
}

#[tokio::test]
async fn a_client_with_a_subscription_that_pays_for_another_gets_its_money_back() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let first = stage.subscribe(order).await.expect("subscribed");
    let client = stage.client.to_string();
    let named = [("metadata[mainstay_client_id]", client.as_str())];
    let session = session(&stage, &plan, &named).await;
    pay(&stage, &session, &[]).await;
    assert_eq!(stage.live_at_stripe().await, 2);
    assert_eq!(stage.taken_at_stripe().await, 2 * 99_700);
    let completed = event(&stage, "checkout.session.completed").await;
    stage.deliver(&completed).await.expect("handled");
    stage.at_rest(&stage.newest_saga().await).await;
    assert_eq!(stage.live_at_stripe().await, 1, "never two");
    assert_eq!(stage.taken_at_stripe().await, 99_700);
    let kept = stage.subscription(first.id()).await;
    assert_eq!(kept.status(), first.status());
    let what = "billing.client.second_subscription_refunded";
    assert_eq!(told(&stage, what).await, 1, "and not silently");
}

#[tokio::test]
async fn a_session_paid_later_waits_for_its_money() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let session = session(&stage, &plan, &[NEW]).await;
    pay(&stage, &session, &[("async", "true")]).await;
    let completed = event(&stage, "checkout.session.completed").await;
    let handled = stage.deliver(&completed).await.expect("handled");
    assert_eq!(handled.outcome(), StripeEventOutcome::Applied);
    let waiting = "select count(*) from billing.checkout_session where state = 'awaiting_payment'";
    assert_eq!(stage.database.count(waiting).await, 1);
    assert!(stage.identity.onboarded().is_empty(), "not paid, not in");

    let path = format!("/_/stripe/checkout_sessions/{session}/settle");
    stage.at_stripe(&path, &[("succeed", "true")]).await;
    let paid = event(&stage, "checkout.session.async_payment_succeeded").await;
    stage.deliver(&paid).await.expect("handled");
    stage.at_rest(&stage.newest_saga().await).await;
    assert_eq!(stage.identity.onboarded().len(), 1);
    let paid = "select count(*) from billing.checkout_session where state = 'paid'";
    assert_eq!(stage.database.count(paid).await, 1);
}

#[tokio::test]
async fn a_session_that_failed_or_expired_is_noted_and_lets_nobody_in() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let failing = session(&stage, &plan, &[NEW]).await;
    pay(&stage, &failing, &[("async", "true")]).await;
    let path = format!("/_/stripe/checkout_sessions/{failing}/settle");
    stage.at_stripe(&path, &[("succeed", "false")]).await;
    let failed = event(&stage, "checkout.session.async_payment_failed").await;
    let left = session(&stage, &plan, &[NEW]).await;
    let path = format!("/stripe/v1/checkout/sessions/{left}/expire");
    stage.at_stripe(&path, &[]).await;
    let expired = event(&stage, "checkout.session.expired").await;
    for event in [&failed, &expired] {
        let handled = stage.deliver(event).await.expect("handled");
        assert_eq!(handled.outcome(), StripeEventOutcome::Applied);
    }
    let noted = "select count(distinct state) from billing.checkout_session where state in ('payment_failed', 'expired')";
    assert_eq!(stage.database.count(noted).await, 2);
    assert!(stage.identity.onboarded().is_empty());
    // One that nobody of ours made is kept and counted.
    let mut foreign = expired.clone();
    foreign["id"] = "evt_foreign".into();
    let form = [
        ("mode", "subscription"),
        ("success_url", "https://other.test"),
        ("line_items[0][quantity]", "1"),
        ("line_items[0][price_data][currency]", "usd"),
        ("line_items[0][price_data][unit_amount]", "500"),
        ("line_items[0][price_data][recurring][interval]", "month"),
        ("line_items[0][price_data][product_data][name]", "Other"),
    ];
    let other = stage.at_stripe("/stripe/v1/checkout/sessions", &form).await;
    foreign["data"]["object"] = other;
    let handled = stage.deliver(&foreign).await.expect("handled");
    assert_eq!(handled.outcome(), StripeEventOutcome::Ignored);
}
