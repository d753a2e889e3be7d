//! The life of a subscription after it was started: changed on request, paid by a payer who must act, refused by a service
//! downstream, and ended in its time.
//! Deliberately absent: each way a step can break; `proofs.rs`.

use std::time::Instant;

use mainstay_billing::saga::EngineLimits;
use mainstay_billing::saga::end_grace::{self, EndGrace};
use mainstay_proto::billing::v1::{
    CancelSubscriptionRequest, CancelWhen, ConfirmPaymentIntentRequest, CreatePlanRequest,
    PauseSubscriptionRequest, ReactivateSubscriptionRequest, ResumeSubscriptionRequest, SagaState,
    Subscription, SubscriptionStatus,
};
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_runtime::Clock;
use mainstay_testkit::PATIENCE;
use mainstay_types::{SagaId, Tenant};
use serde_json::json;

use crate::stage::{Stage, pro, problem};

async fn subscribed() -> (Stage, Subscription) {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let subscription = stage.subscribe(order).await.expect("subscribed");
    (stage, subscription)
}

async fn cancel(stage: &Stage, id: &str, when: CancelWhen) -> Result<Subscription, Problem> {
    let request = CancelSubscriptionRequest {
        client_id: stage.client.to_string(),
        subscription_id: id.to_owned(),
        when: Some(when.into()),
    };
    let mut service = stage.subscriptions();
    let answer = service.cancel_subscription(stage.owner(request)).await;
    answer.map(tonic::Response::into_inner).map_err(problem)
}

fn grants(stage: &Stage) -> (usize, usize) {
    let client = stage.client.to_string();
    let features = |granted: Option<mainstay_proto::common::v1::Entitlements>| {
        granted.map_or(0, |granted| granted.features.len())
    };
    (
        features(
            stage
                .identity
                .stored(&client)
                .and_then(|told| told.entitlements),
        ),
        features(
            stage
                .messaging
                .stored(&client)
                .and_then(|told| told.entitlements),
        ),
    )
}

#[tokio::test]
async fn canceled_now_it_ends_at_stripe_and_grants_nothing_and_the_client_may_come_back() {
    let (stage, subscription) = subscribed().await;
    assert_eq!(grants(&stage), (1, 1));
    let ended = cancel(&stage, subscription.id(), CancelWhen::Now)
        .await
        .expect("canceled");
    assert_eq!(ended.status(), SubscriptionStatus::Canceled);
    assert!(ended.canceled_at.is_some() && ended.change_saga_id.is_none());
    assert_eq!(stage.live_at_stripe().await, 0);
    assert_eq!(grants(&stage), (0, 0));
    let again = cancel(&stage, subscription.id(), CancelWhen::Now).await;
    assert_eq!(
        again.expect_err("it has ended").reason(),
        ErrorReason::SubscriptionState
    );
}

#[tokio::test]
async fn canceled_with_the_period_it_serves_until_then_and_can_be_reactivated() {
    let (stage, subscription) = subscribed().await;
    let ending = cancel(&stage, subscription.id(), CancelWhen::PeriodEnd)
        .await
        .expect("ending");
    assert_eq!(ending.status(), SubscriptionStatus::Active);
    assert!(ending.cancel_at_period_end());
    assert_eq!(grants(&stage), (1, 1));
    let request = ReactivateSubscriptionRequest {
        client_id: stage.client.to_string(),
        subscription_id: subscription.id().to_owned(),
    };
    let mut service = stage.subscriptions();
    let back = service.reactivate_subscription(stage.owner(request)).await;
    let back = back.expect("reactivated").into_inner();
    assert!(!back.cancel_at_period_end());
    assert_eq!(
        stage.ledger("subscriptions").await[0]["cancel_at_period_end"],
        false
    );
}

#[tokio::test]
async fn paused_it_collects_and_grants_nothing_until_it_is_resumed() {
    let (stage, subscription) = subscribed().await;
    let (client_id, subscription_id) = (stage.client.to_string(), subscription.id().to_owned());
    let request = PauseSubscriptionRequest {
        client_id: client_id.clone(),
        subscription_id: subscription_id.clone(),
        resumes_at: None,
    };
    let mut service = stage.subscriptions();
    let paused = service.pause_subscription(stage.owner(request)).await;
    assert_eq!(
        paused.expect("paused").into_inner().status(),
        SubscriptionStatus::Paused
    );
    assert_eq!(grants(&stage), (0, 0));
    stage
        .simulator("clock/advance", json!({ "seconds": 40 * 86_400 }))
        .await;
    assert_eq!(
        stage.taken_at_stripe().await,
        99_700,
        "nothing is collected meanwhile"
    );
    let request = ResumeSubscriptionRequest {
        client_id,
        subscription_id,
    };
    let resumed = service.resume_subscription(stage.owner(request)).await;
    assert_eq!(
        resumed.expect("resumed").into_inner().status(),
        SubscriptionStatus::Active
    );
    assert_eq!(grants(&stage), (1, 1));
}

#[tokio::test]
async fn while_one_change_runs_another_is_told_which() {
    let (stage, subscription) = subscribed().await;
    stage
        .fault("subscriptions.update", "latency", 60_000, 1)
        .await;
    let first = {
        let request = CancelSubscriptionRequest {
            client_id: stage.client.to_string(),
            subscription_id: subscription.id().to_owned(),
            when: Some(CancelWhen::PeriodEnd.into()),
        };
        let (mut service, request) = (stage.subscriptions(), stage.owner(request));
        tokio::spawn(async move { service.cancel_subscription(request).await })
    };
    while stage.struck().await == 0 {
        tokio::task::yield_now().await;
    }
    let busy = cancel(&stage, subscription.id(), CancelWhen::Now)
        .await
        .expect_err("one at a time");
    assert_eq!(busy.reason(), ErrorReason::SubscriptionBusy);
    stage.mend().await;
    first.await.expect("no panic").expect("the first goes on");
}

#[tokio::test]
async fn a_payer_who_authenticates_is_served_and_one_who_cannot_is_told_and_charged_nothing() {
    for succeeds in [true, false] {
        let stage = Stage::start().await;
        let plan = stage.plan(pro()).await;
        let order = stage.order(&plan, Some("pm_card_threeDSecure2Required"));
        let waiting = stage.subscribe(order).await.expect("accepted");
        assert_eq!(waiting.status(), SubscriptionStatus::Incomplete);
        let action = waiting
            .payer_action
            .clone()
            .expect("what the payer has to do");
        assert!(action.client_secret.is_some());
        assert_eq!(
            stage.saga(waiting.saga_id()).await.state(),
            SagaState::Waiting
        );
        assert_eq!(grants(&stage), (0, 0));

        let intent = action.payment_intent_id().to_owned();
        let path = format!("stripe/payment_intents/{intent}/authenticate");
        stage.simulator(&path, json!({ "succeed": succeeds })).await;
        let request = ConfirmPaymentIntentRequest {
            client_id: stage.client.to_string(),
            payment_intent_id: intent,
        };
        let mut service = stage.subscriptions();
        let confirmed = service.confirm_payment_intent(stage.owner(request)).await;
        match succeeds {
            true => {
                let active = confirmed.expect("paid").into_inner();
                assert_eq!(active.status(), SubscriptionStatus::Active);
                assert!(active.payer_action.is_none());
                assert_eq!(stage.taken_at_stripe().await, 99_700);
                assert_eq!(grants(&stage), (1, 1));
            }
            false => {
                let declined = problem(confirmed.expect_err("declined"));
                assert_eq!(declined.reason(), ErrorReason::PaymentDeclined);
                assert_eq!(stage.taken_at_stripe().await, 0);
                assert_eq!(stage.live_at_stripe().await, 0);
            }
        }
    }
}

#[tokio::test]
async fn a_payment_that_is_waited_for_can_be_given_up() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_threeDSecure2Required"));
    let waiting = stage.subscribe(order).await.expect("accepted");
    let ended = cancel(&stage, waiting.id(), CancelWhen::Now)
        .await
        .expect("given up");
    assert_eq!(ended.status(), SubscriptionStatus::Failed);
    assert_eq!(stage.live_at_stripe().await, 0);
    let order = stage.order(&plan, Some("pm_card_visa"));
    stage.subscribe(order).await.expect("the place is free");
}

#[tokio::test]
async fn a_payment_nobody_authenticates_in_time_ends_with_stripes_subscription() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_threeDSecure2Required"));
    let waiting = stage.subscribe(order).await.expect("accepted");
    stage
        .simulator("clock/advance", json!({ "seconds": 24 * 3_600 }))
        .await;
    let events = stage.stripe_events().await;
    let expired = events.iter().rev().find(|event| {
        event["type"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("customer.subscription."))
    });
    stage
        .deliver(expired.expect("an event"))
        .await
        .expect("delivered");
    stage.at_rest(waiting.saga_id()).await;
    let ended = stage.subscription(waiting.id()).await;
    assert_eq!(ended.status(), SubscriptionStatus::Failed);
    assert!(ended.failure_reason().contains("in time"), "{ended:?}");
    assert_eq!(stage.taken_at_stripe().await, 0);
}

#[tokio::test]
async fn what_messaging_refuses_is_refunded_and_canceled_with_its_reason() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage
        .messaging
        .hold(&stage.client.to_string(), "complaints of carriers");
    let order = stage.order(&plan, Some("pm_card_visa"));
    let refused = stage.subscribe(order).await.expect_err("refused");
    assert_eq!(refused.reason(), ErrorReason::SendingOnHold);
    assert!(
        refused.detail().contains("complaints of carriers"),
        "{refused}"
    );
    let saga = stage.newest_saga().await;
    stage.at_rest(&saga).await;
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Compensated);
    assert_eq!(stage.live_at_stripe().await, 0);
    let charges = stage.ledger("charges").await;
    assert_eq!(charges.len(), 1, "it was paid, and");
    assert_eq!(stage.taken_at_stripe().await, 0, "given back");
    assert_eq!(grants(&stage), (0, 0));
    let failed = stage
        .subscription(&stage.newest_subscription(stage.client).await)
        .await;
    assert!(failed.failure_reason().contains("complaints of carriers"));
}

#[tokio::test]
async fn while_messaging_is_down_nothing_is_refunded_and_the_saga_completes_when_it_is_back() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.messaging.set_down(true);
    let order = stage.order(&plan, Some("pm_card_visa"));
    let asked = {
        let (mut service, request) = (stage.subscriptions(), stage.owner(order));
        tokio::spawn(async move { service.create_subscription(request).await })
    };
    while stage.messaging.turned_away() < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        stage.taken_at_stripe().await,
        99_700,
        "nothing is given back"
    );
    stage.messaging.set_down(false);
    let answer = asked
        .await
        .expect("no panic")
        .expect("accepted or done")
        .into_inner();
    stage.at_rest(answer.saga_id()).await;
    assert_eq!(
        stage.saga(answer.saga_id()).await.state(),
        SagaState::Completed
    );
    assert_eq!(stage.taken_at_stripe().await, 99_700);
    assert_eq!(grants(&stage), (1, 1));
}

#[tokio::test]
async fn a_trial_is_given_once_to_a_client_and_once_to_a_card() {
    let stage = Stage::start().await;
    let plan = stage
        .plan(CreatePlanRequest {
            trial_days: Some(14),
            ..pro()
        })
        .await;
    let first = stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await
        .expect("on trial");
    assert_eq!(first.status(), SubscriptionStatus::Trialing);
    assert_eq!(stage.taken_at_stripe().await, 0);
    cancel(&stage, first.id(), CancelWhen::Now)
        .await
        .expect("canceled");
    let second = stage
        .subscribe(stage.order(&plan, Some("pm_card_mastercard")))
        .await;
    assert_eq!(
        second.expect("sold").status(),
        SubscriptionStatus::Active,
        "the client had its trial"
    );
    assert_eq!(stage.taken_at_stripe().await, 99_700);

    let other = stage.another_client();
    let order = stage.order_of(other, &plan, Some("pm_card_visa"));
    let same_card = stage.subscribe(order).await.expect("sold");
    assert_eq!(
        same_card.status(),
        SubscriptionStatus::Active,
        "the card had its trial"
    );
    let third = stage.another_client();
    let order = stage.order_of(third, &plan, Some("pm_card_amex"));
    let fresh = stage.subscribe(order).await.expect("on trial");
    assert_eq!(fresh.status(), SubscriptionStatus::Trialing);
}

#[tokio::test]
async fn a_pause_that_ends_in_the_past_is_refused_by_name() {
    let (stage, subscription) = subscribed().await;
    let request = PauseSubscriptionRequest {
        client_id: stage.client.to_string(),
        subscription_id: subscription.id().to_owned(),
        resumes_at: Some(prost_types::Timestamp {
            seconds: 1_000,
            nanos: 0,
        }),
    };
    let mut service = stage.subscriptions();
    let refused = service.pause_subscription(stage.owner(request)).await;
    let refused = problem(refused.expect_err("it lies behind"));
    assert_eq!(refused.reason(), ErrorReason::InvalidRequest);
    assert!(refused.to_string().contains("resumes_at") || !refused.detail().is_empty());
}

#[tokio::test]
async fn a_grace_is_waited_out_and_then_nothing_is_granted_until_it_is_paid() {
    let (mut stage, subscription) = subscribed().await;
    stage.kill_billing();
    let ends_at = chrono::DateTime::from_timestamp(2_000_000_000, 0).expect("a time");
    let (clock, hand) = Clock::fixed(ends_at - chrono::TimeDelta::hours(1));
    let (engine, worker) = stage.engine(EngineLimits::default(), None, clock).await;
    let sql =
        format!("update billing.subscription set status = 'past_due', grace_ends_at = '{ends_at}'");
    stage.database.execute(&sql).await;

    let tenant = Tenant {
        agency: stage.agency,
        client: stage.client,
    };
    let input = EndGrace {
        subscription: subscription.id().parse().expect("an id"),
        ends_at,
    };
    let saga = SagaId::generate();
    let mut tx = worker.tenant(tenant).await.expect("a connection");
    let started = engine.start(tx.conn(), tenant, end_grace::NAME, saga, &input);
    let started = started.await.expect("it is written");
    tx.commit().await.expect("committed");
    engine.launch(started);
    let until = Instant::now() + PATIENCE;
    let standing = engine.wait(saga, until).await.expect("a saga");
    assert!(standing.waiting, "{standing:?}");
    assert_eq!(grants(&stage), (1, 1), "in its grace it is served");

    hand.set(ends_at);
    let sql = "update billing.saga set next_run_at = now() where state = 'waiting'";
    stage.database.execute(sql).await;
    engine.take_over().await.expect("a database");
    let standing = engine.wait_for_rest(saga, until).await.expect("a saga");
    assert!(standing.completed, "{standing:?}");
    assert_eq!(grants(&stage), (0, 0));
}
