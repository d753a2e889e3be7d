//! Every call of the saga goes wrong in every way: before its effect, after it, with an error that Stripe keeps. In the end
//! Stripe and our rows agree, and money was taken once or not at all.

use futures_util::StreamExt;
use mainstay_proto::billing::v1::{SagaState, SubscriptionStatus};
use mainstay_rpc::{ErrorReason, Problem};

use crate::stage::{Stage, pro};

/// What the saga changes at Stripe, in order.
const CHANGES: [&str; 6] = [
    "customers.create",
    "products.create",
    "prices.create",
    "payment_methods.attach",
    "subscriptions.create",
    "invoices.pay",
];

/// Each run has a database and a billing process of its own; two cores bear three of them. Tasks of their own, because
/// dropping a database blocks.
async fn few_at_a_time<F>(runs: impl IntoIterator<Item = F>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runs = futures_util::stream::iter(runs).map(tokio::spawn);
    let mut ended = runs.buffer_unordered(3);
    while let Some(run) = ended.next().await {
        run.expect("a run holds");
    }
}

/// Subscribes while this fault is set; gives the subscription's status when its saga is at rest.
async fn subscribe_with(
    operation: &str,
    kind: &str,
    value: u64,
    count: u64,
) -> (Stage, SubscriptionStatus) {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.fault(operation, kind, value, count).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let _ = stage.subscribe(order).await;
    let saga = stage.newest_saga().await;
    stage.at_rest(&saga).await;
    assert!(stage.struck().await > 0, "{operation} {kind} struck");
    let mut connection = stage.database.admin().await;
    let (id,): (uuid::Uuid,) = sqlx::query_as("select id from billing.subscription")
        .fetch_one(&mut connection)
        .await
        .expect("one subscription");
    let id = mainstay_types::SubscriptionId::from_uuid(id).to_string();
    let status = stage.subscription(&id).await.status();
    (stage, status)
}

async fn is_active_and_paid_once(stage: &Stage, status: SubscriptionStatus, what: &str) {
    assert_eq!(status, SubscriptionStatus::Active, "{what}");
    assert_eq!(stage.live_at_stripe().await, 1, "{what}");
    assert_eq!(stage.ledger("customers").await.len(), 1, "{what}");
    assert_eq!(stage.taken_at_stripe().await, 99_700, "{what}");
    let told = stage
        .identity
        .stored(&stage.client.to_string())
        .expect("told");
    assert_eq!(told.subscription_status, "active", "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_call_that_never_reached_stripe_is_made_again() {
    // More often than the HTTP stack tries by itself.
    let runs = CHANGES.map(|operation| {
        Box::pin(async move {
            let (stage, status) = subscribe_with(operation, "drop", 0, 4).await;
            is_active_and_paid_once(&stage, status, operation).await;
        })
    });
    few_at_a_time(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_call_that_timed_out_after_its_effect_has_it_once() {
    let runs = CHANGES.map(|operation| {
        Box::pin(async move {
            let (stage, status) = subscribe_with(operation, "timeout_after_effect", 30, 1).await;
            is_active_and_paid_once(&stage, status, operation).await;
        })
    });
    few_at_a_time(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn an_error_that_stripe_keeps_under_the_key_ends_with_nothing_charged_and_a_free_client() {
    let runs = CHANGES.map(|operation| {
        Box::pin(async move {
            let (stage, status) = subscribe_with(operation, "status", 500, 1).await;
            assert_eq!(status, SubscriptionStatus::Failed, "{operation}");
            assert_eq!(stage.live_at_stripe().await, 0, "{operation}");
            assert_eq!(stage.taken_at_stripe().await, 0, "{operation}");
            let saga = stage.saga(&stage.newest_saga().await).await;
            assert_eq!(saga.state(), SagaState::Compensated, "{operation}");
        })
    });
    few_at_a_time(runs).await;
}

#[tokio::test]
async fn stripe_too_busy_is_waited_for() {
    let (stage, status) = subscribe_with("*", "status", 429, 9).await;
    is_active_and_paid_once(&stage, status, "429").await;
}

#[tokio::test]
async fn undoing_that_fails_is_tried_until_it_is_done() {
    for operation in ["subscriptions.cancel", "invoices.void"] {
        let stage = Stage::start().await;
        let plan = stage.plan(pro()).await;
        stage.fault(operation, "status", 500, 2).await;
        let order = stage.order(&plan, Some("pm_card_chargeCustomerFail"));
        let _ = stage.subscribe(order).await;
        let standing = stage.at_rest(&stage.newest_saga().await).await;
        let refusal = standing.refusal.expect("declined");
        assert_eq!(
            refusal.reason(),
            ErrorReason::PaymentDeclined,
            "the first reason stays"
        );
        assert_eq!(stage.live_at_stripe().await, 0, "{operation}");
        let invoices = stage.ledger("invoices").await;
        assert!(
            invoices.iter().all(|invoice| invoice["status"] != "open"),
            "{operation}"
        );
    }
}

#[tokio::test]
async fn identity_away_after_the_payment_is_waited_for() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let away = || Problem::unavailable("identity restarts");
    // The channel tries three times by itself.
    stage.identity.refuse_puts([away(), away(), away(), away()]);
    let subscribed = stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await;
    let subscribed = subscribed.expect("subscribed");
    stage.at_rest(subscribed.saga_id()).await;
    let subscription = stage.subscription(subscribed.id()).await;
    is_active_and_paid_once(&stage, subscription.status(), "identity").await;
}

#[tokio::test]
async fn a_definitive_no_after_the_payment_gives_the_money_back() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let gone = Problem::new(ErrorReason::ClientNotActive, "The client was canceled.");
    stage.identity.refuse_puts([gone]);
    let refused = stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.reason(), ErrorReason::ClientNotActive);
    assert_eq!(stage.live_at_stripe().await, 0);
    let charges = stage.ledger("charges").await;
    assert_eq!(charges.len(), 1);
    assert_eq!(charges[0]["amount_refunded"], charges[0]["amount"]);
    assert_eq!(stage.taken_at_stripe().await, 0);

    let saga = stage.saga(&stage.newest_saga().await).await;
    assert_eq!(saga.state(), SagaState::Compensated);
    let undone: Vec<&str> = saga
        .steps
        .iter()
        .filter(|step| step.direction.as_deref() == Some("undo"))
        .filter_map(|step| step.name.as_deref())
        .collect();
    let expected = [
        "activate",
        "confirm_payment",
        "create_stripe_subscription",
        "grant_trial",
        "hold_coupon",
        "reserve_place",
    ];
    assert_eq!(undone, expected);
}
