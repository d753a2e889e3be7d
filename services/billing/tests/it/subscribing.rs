//! A client subscribes: what it gets, what it pays, and what it is told when it does not.

use futures_util::future::join_all;
use mainstay_proto::billing::v1::{
    ListInvoicesRequest, ListSubscriptionsRequest, SagaState, SubscriptionStatus,
};
use mainstay_proto::errors::v1::{ObjectExists, PaymentDeclined, StateConflict};
use mainstay_rpc::ErrorReason;

use crate::stage::{Stage, pro, problem};

#[tokio::test]
async fn a_paid_subscription_is_active_and_identity_knows_what_it_grants() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let subscription = stage.subscribe(order).await.expect("subscribed");

    assert_eq!(subscription.status(), SubscriptionStatus::Active);
    assert_eq!(subscription.plan_version, Some(1));
    assert!(subscription.current_period_end_at.is_some());
    let saga = stage.saga(subscription.saga_id()).await;
    assert_eq!(saga.state(), SagaState::Completed);
    let steps: Vec<&str> = saga
        .steps
        .iter()
        .filter_map(|step| step.name.as_deref())
        .collect();
    assert_eq!(steps.first(), Some(&"reserve_place"));
    assert_eq!(steps.last(), Some(&"apply_limits"));

    let told = stage
        .identity
        .stored(&stage.client.to_string())
        .expect("told");
    assert_eq!(told.subscription_status, "active");
    assert_eq!(told.entitlements.expect("granted").features, ["ai_replies"]);
    let at_stripe = stage.ledger("subscriptions").await;
    assert_eq!(at_stripe.len(), 1);
    assert_eq!(
        at_stripe[0]["metadata"]["mainstay_client_id"],
        stage.client.to_string()
    );
    assert_eq!(
        at_stripe[0]["metadata"]["mainstay_saga_id"],
        subscription.saga_id()
    );
    assert_eq!(stage.taken_at_stripe().await, 99_700);
}

#[tokio::test]
async fn a_declined_card_leaves_nothing_live_and_the_client_may_try_again() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    for card in ["pm_card_chargeDeclined", "pm_card_chargeCustomerFail"] {
        let refused = stage.subscribe(stage.order(&plan, Some(card))).await;
        let refused = refused.expect_err("declined");
        assert_eq!(
            refused.reason(),
            ErrorReason::PaymentDeclined,
            "{card}: {refused}"
        );
        let declined = refused.data_as::<PaymentDeclined>().expect("its detail");
        assert!(declined.decline_code.is_some(), "{card}");
        assert_eq!(stage.live_at_stripe().await, 0, "{card}");
        assert_eq!(stage.taken_at_stripe().await, 0, "{card}");
    }
    let open = stage.ledger("invoices").await;
    assert!(
        open.iter().all(|invoice| invoice["status"] != "open"),
        "{open:?}"
    );

    let list = ListSubscriptionsRequest {
        client_id: stage.client.to_string(),
        ..Default::default()
    };
    let failed = stage
        .subscriptions()
        .list_subscriptions(stage.owner(list))
        .await;
    let failed = failed.expect("a list").into_inner().data;
    assert_eq!(failed.len(), 2);
    for one in failed {
        assert_eq!(one.status(), SubscriptionStatus::Failed);
        assert!(one.failure_reason.is_some_and(|reason| reason.len() > 10));
        let saga = stage.saga(one.saga_id.as_deref().unwrap_or_default()).await;
        assert_eq!(saga.state(), SagaState::Compensated);
    }
    assert_eq!(stage.identity.puts(), 0, "nothing was granted");
    let again = stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await;
    assert_eq!(
        again.expect("subscribed").status(),
        SubscriptionStatus::Active
    );
    assert_eq!(stage.taken_at_stripe().await, 99_700);
}

#[tokio::test]
async fn a_trial_takes_no_money_and_is_good_until_it_ends() {
    let stage = Stage::start().await;
    let mut request = pro();
    request.trial_days = Some(14);
    let plan = stage.plan(request).await;
    let subscription = stage
        .subscribe(stage.order(&plan, None))
        .await
        .expect("subscribed");
    assert_eq!(subscription.status(), SubscriptionStatus::Trialing);
    assert_eq!(subscription.paid_through_at, subscription.trial_end_at);
    assert!(subscription.trial_end_at.is_some());
    assert_eq!(stage.taken_at_stripe().await, 0);
    let told = stage
        .identity
        .stored(&stage.client.to_string())
        .expect("told");
    assert_eq!(told.subscription_status, "trialing");
    assert_eq!(told.paid_through_at, subscription.trial_end_at);
}

#[tokio::test]
async fn what_can_be_refused_before_money_moves_is_refused_then() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let with = |change: fn(&mut mainstay_proto::billing::v1::CreateSubscriptionRequest)| {
        let mut order = order.clone();
        change(&mut order);
        order
    };
    let cases = [
        (
            with(|o| o.coupon_code = Some("SAVE20".into())),
            ErrorReason::CouponInactive,
        ),
        (
            with(|o| o.currency = Some("eur".into())),
            ErrorReason::PlanPriceMissing,
        ),
        (
            with(|o| o.interval = Some(2)),
            ErrorReason::PlanPriceMissing,
        ),
        (
            with(|o| o.payment_method_id = None),
            ErrorReason::InvalidRequest,
        ),
        (
            with(|o| o.plan_id = Some(mainstay_types::PlanId::generate().to_string())),
            ErrorReason::NotFound,
        ),
    ];
    for (order, reason) in cases {
        let refused = stage.subscribe(order).await.expect_err("refused");
        assert_eq!(refused.reason(), reason, "{refused}");
    }
    stage.identity.suspend(&stage.client.to_string());
    let refused = stage.subscribe(order.clone()).await.expect_err("refused");
    assert_eq!(refused.reason(), ErrorReason::ClientNotActive);
    let state = refused
        .data_as::<StateConflict>()
        .expect("its detail")
        .state;
    assert_eq!(state, "suspended");
    stage.identity.refuse_checks();
    let refused = stage.subscribe(order).await.expect_err("refused");
    assert_eq!(refused.reason(), ErrorReason::ClientNotActive);
    assert!(
        stage.ledger("customers").await.is_empty(),
        "Stripe was not asked"
    );
    assert_eq!(
        stage
            .database
            .count("select count(*) from billing.saga")
            .await,
        0
    );
}

#[tokio::test]
async fn fifty_posts_with_one_key_are_one_subscription_and_fifty_equal_answers() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let posts = (0..50).map(|_| async {
        let request = stage.keyed("click", order.clone());
        stage.subscriptions().create_subscription(request).await
    });
    let answers: Vec<_> = join_all(posts).await;
    let first = answers[0].as_ref().expect("subscribed").get_ref().clone();
    assert_eq!(first.status(), SubscriptionStatus::Active);
    for answer in &answers {
        assert_eq!(answer.as_ref().expect("subscribed").get_ref(), &first);
    }
    assert_eq!(stage.ledger("subscriptions").await.len(), 1);
    assert_eq!(stage.taken_at_stripe().await, 99_700);

    let mut other = order;
    other.payment_method_id = Some("pm_card_mastercard".to_owned());
    let reused = stage
        .subscriptions()
        .create_subscription(stage.keyed("click", other))
        .await;
    let reused = problem(reused.expect_err("another request"));
    assert_eq!(reused.reason(), ErrorReason::IdempotencyKeyReused);
}

#[tokio::test]
async fn a_decline_is_told_again_to_who_repeats_with_the_same_key() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_chargeCustomerFail"));
    let ask = || stage.subscriptions();
    let mut problems = Vec::new();
    for _ in 0..2 {
        let refused = ask()
            .create_subscription(stage.keyed("once", order.clone()))
            .await;
        problems.push(problem(refused.expect_err("declined")).to_string());
    }
    assert_eq!(problems[0], problems[1]);
    assert_eq!(
        stage.ledger("subscriptions").await.len(),
        1,
        "it was tried once"
    );
}

#[tokio::test]
async fn fifty_posts_without_a_key_are_one_subscription_and_forty_nine_conflicts() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let posts = (0..50).map(|_| stage.subscribe(stage.order(&plan, Some("pm_card_visa"))));
    let (made, refused): (Vec<_>, Vec<_>) =
        join_all(posts).await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    let made = made.into_iter().next().and_then(Result::ok).expect("one");
    for refused in refused {
        let refused = refused.expect_err("refused");
        assert_eq!(
            refused.reason(),
            ErrorReason::SubscriptionExists,
            "{refused}"
        );
        let exists = refused.data_as::<ObjectExists>().expect("its detail");
        assert_eq!(exists.existing_id, made.id);
    }
    assert_eq!(stage.ledger("subscriptions").await.len(), 1);
    assert_eq!(stage.taken_at_stripe().await, 99_700);
}

#[tokio::test]
async fn two_clients_who_buy_the_same_plan_at_once_share_its_price_at_stripe() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let orders = (0..8).map(|_| {
        let client = mainstay_types::ClientId::generate();
        stage.identity.add(&client.to_string());
        let mut order = stage.order(&plan, Some("pm_card_visa"));
        order.client_id = client.to_string();
        stage.subscribe(order)
    });
    for subscribed in join_all(orders).await {
        assert_eq!(
            subscribed.expect("subscribed").status(),
            SubscriptionStatus::Active
        );
    }
    assert_eq!(stage.live_at_stripe().await, 8);
    let prices = stage
        .database
        .count("select count(distinct stripe_price_id) from billing.stripe_price")
        .await;
    assert_eq!(prices, 1);
}

#[tokio::test]
async fn a_client_without_invoices_has_an_empty_list() {
    let stage = Stage::start().await;
    let list = ListInvoicesRequest {
        client_id: stage.client.to_string(),
        ..Default::default()
    };
    let list = stage.invoices().list_invoices(stage.owner(list)).await;
    assert!(list.expect("a list").into_inner().data.is_empty());
}
