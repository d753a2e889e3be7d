//! Coordinators die, hang and meet: whatever happens, a saga ends, once.

use std::time::Instant;

use mainstay_billing::saga::Engine;
use mainstay_proto::billing::v1::{SagaState, SubscriptionStatus};
use mainstay_testkit::PATIENCE;
use mainstay_types::SagaId;

use crate::stage::{Stage, pro};

/// Calls of the saga at which its process is killed: while the call is under way at Stripe.
const CALLS: [&str; 7] = [
    "customers.create",
    "products.create",
    "prices.create",
    "payment_methods.attach",
    "subscriptions.create",
    "invoices.pay",
    "subscriptions.retrieve",
];

/// Lets the leases of a dead process expire.
async fn expire_leases(stage: &Stage) {
    let sql = "update billing.saga set leased_until = now() - interval '1 second' where lease_owner is not null";
    stage.database.execute(sql).await;
}

async fn take_over(engine: &Engine, saga: &str) -> usize {
    let took = engine.take_over().await.expect("a database");
    let id: SagaId = saga.parse().expect("an id");
    let until = Instant::now() + PATIENCE;
    let standing = engine.wait(id, until).await.expect("a saga");
    assert!(standing.at_rest);
    took
}

/// Subscribes and kills billing while this call is held at Stripe, after its effect.
async fn killed_during(operation: &str) -> (Stage, String) {
    let mut stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.fault(operation, "timeout_after_effect", 60, 1).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let asked = {
        let mut subscriptions = stage.subscriptions();
        let request = stage.owner(order);
        tokio::spawn(async move { subscriptions.create_subscription(request).await })
    };
    while stage.struck().await == 0 {
        tokio::task::yield_now().await;
    }
    stage.kill_billing();
    assert!(
        asked.await.expect("no panic").is_err(),
        "its caller hears nothing"
    );
    stage.mend().await;
    expire_leases(&stage).await;
    let saga = stage.newest_saga().await;
    (stage, saga)
}

#[tokio::test]
async fn a_saga_killed_during_any_call_is_ended_by_another_coordinator() {
    for operation in CALLS {
        let (mut stage, saga) = killed_during(operation).await;
        let engine = stage.coordinator().await;
        assert_eq!(take_over(&engine, &saga).await, 1, "{operation}");
        stage.start_billing().await;
        let ended = stage.saga(&saga).await;
        assert_eq!(
            ended.state(),
            SagaState::Completed,
            "{operation}: {ended:?}"
        );
        assert_eq!(stage.live_at_stripe().await, 1, "{operation}");
        assert_eq!(stage.ledger("customers").await.len(), 1, "{operation}");
        assert_eq!(stage.taken_at_stripe().await, 99_700, "{operation}");
        let told = stage
            .identity
            .stored(&stage.client.to_string())
            .expect("told");
        assert_eq!(told.subscription_status, "active", "{operation}");
    }
}

#[tokio::test]
async fn a_saga_that_many_coordinators_see_is_taken_by_one() {
    let (mut stage, saga) = killed_during("subscriptions.create").await;
    let (one, two, three) = (
        stage.coordinator().await,
        stage.coordinator().await,
        stage.coordinator().await,
    );
    let (a, b, c) = tokio::join!(
        take_over(&one, &saga),
        take_over(&two, &saga),
        take_over(&three, &saga)
    );
    assert_eq!(a + b + c, 1);
    stage.start_billing().await;
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Completed);
    assert_eq!(stage.taken_at_stripe().await, 99_700);
}

#[tokio::test]
async fn a_coordinator_that_slept_through_its_lease_cannot_write() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    // Held after its effect, so that the first coordinator hears of it only after the second has taken over.
    stage
        .fault("subscriptions.create", "timeout_after_effect", 60, 1)
        .await;
    let asked = stage.subscribe(stage.order(&plan, Some("pm_card_visa")));
    let overtaking = async {
        while stage.struck().await == 0 {
            tokio::task::yield_now().await;
        }
        expire_leases(&stage).await;
        let saga = stage.newest_saga().await;
        let other = stage.coordinator().await;
        take_over(&other, &saga).await;
        let fence = "select fence from billing.saga";
        assert!(stage.database.count(fence).await >= 2);
        stage.mend().await;
        saga
    };
    let (answer, saga) = tokio::join!(asked, overtaking);
    let answer = answer.expect("the caller is told how it stands, whoever did it");
    stage.at_rest(&saga).await;
    let ended = stage.saga(&saga).await;
    assert_eq!(ended.state(), SagaState::Completed);
    assert!(
        ended
            .steps
            .iter()
            .all(|step| step.outcome.as_deref() == Some("done")),
        "{ended:?}"
    );
    assert_eq!(
        stage.subscription(answer.id()).await.status(),
        SubscriptionStatus::Active
    );
    let activated =
        "select count(*) from billing.outbox_event where type = 'billing.subscription.activated'";
    assert_eq!(stage.database.count(activated).await, 1);
    assert_eq!(stage.live_at_stripe().await, 1);
    assert_eq!(stage.taken_at_stripe().await, 99_700);
}

#[tokio::test]
async fn a_process_that_starts_takes_over_what_a_dead_one_left() {
    let (mut stage, saga) = killed_during("invoices.pay").await;
    stage.start_billing().await;
    stage.at_rest(&saga).await;
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Completed);
    assert_eq!(stage.taken_at_stripe().await, 99_700);
}
