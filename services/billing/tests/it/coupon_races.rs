//! Coupons are redeemed as often as they allow: whoever comes at once, gives back or dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use mainstay_billing::coupon::{
    CouponRefusal,
    redemption::{self, Purchase, RedeemError},
};
use mainstay_proto::billing::v1::{Plan, SagaState, SubscriptionStatus};
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_testkit::PATIENCE;
use mainstay_types::{ClientId, Currency, Money, PlanId, SagaId, SubscriptionId, Tenant};
use uuid::Uuid;

use crate::coupons::save20;
use crate::stage::{Stage, pro};

#[tokio::test]
async fn an_undone_subscription_gives_its_place_back_and_whoever_was_refused_gets_it() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let mut last = save20();
    last.max_redemptions = Some(1);
    stage.coupon(last).await;

    // The first holds the last place, at Stripe for a while; its card will be declined.
    stage
        .fault("products.create", "timeout_after_effect", 60, 1)
        .await;
    let first = stage.order_of_another(&plan, "SAVE20", "pm_card_chargeCustomerFail");
    let asked = {
        let mut subscriptions = stage.subscriptions();
        let request = stage.owner(first);
        tokio::spawn(async move { subscriptions.create_subscription(request).await })
    };
    while stage.struck().await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.held_or_redeemed("reserved").await, 1);
    let read = stage.read_coupon("SAVE20").await.expect("a coupon");
    assert_eq!(read.times_redeemed, Some(1), "what is reserved counts");
    let second = stage.order_of_another(&plan, "SAVE20", "pm_card_visa");
    let refused = stage.subscribe(second.clone()).await.expect_err("refused");
    assert_eq!(refused.reason(), ErrorReason::CouponExhausted);
    assert_eq!(refused.detail(), "SAVE20 has been redeemed 1 of 1 times.");

    stage.mend().await;
    let saga = stage.newest_saga().await;
    stage.at_rest(&saga).await;
    drop(asked.await.expect("no panic"));
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Compensated);
    assert_eq!(stage.live_redemptions().await, 0);
    let read = stage.read_coupon("SAVE20").await.expect("a coupon");
    assert_eq!(read.times_redeemed, Some(0));
    let subscription = stage.subscribe(second).await.expect("subscribed");
    assert_eq!(subscription.status(), SubscriptionStatus::Active);
    assert_eq!(stage.taken_at_stripe().await, 79_760);
}

#[tokio::test]
async fn a_redeemed_coupon_is_released_when_the_activation_is_taken_back() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.coupon(save20()).await;
    let suspended = Problem::new(ErrorReason::ClientNotActive, "The client is suspended.");
    stage.identity.refuse_puts([suspended]);
    let mut order = stage.order(&plan, Some("pm_card_visa"));
    order.coupon_code = Some("SAVE20".to_owned());
    let refused = stage.subscribe(order).await.expect_err("refused");
    assert_eq!(refused.reason(), ErrorReason::ClientNotActive);
    assert_eq!(stage.taken_at_stripe().await, 0);
    let sql = "select count(*) from billing.coupon_redemption where state = 'released' and redeemed_at is not null";
    assert_eq!(stage.database.count(sql).await, 1);
    let read = stage.read_coupon("SAVE20").await.expect("a coupon");
    assert_eq!(read.times_redeemed, Some(0));
}

#[tokio::test]
async fn a_coordinator_that_dies_while_stripe_makes_the_coupon_redeems_it_once() {
    let mut stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.coupon(save20()).await;
    stage
        .fault("coupons.create", "timeout_after_effect", 60, 1)
        .await;
    let order = stage.order_of_another(&plan, "SAVE20", "pm_card_visa");
    let asked = {
        let mut subscriptions = stage.subscriptions();
        let request = stage.owner(order);
        tokio::spawn(async move { subscriptions.create_subscription(request).await })
    };
    while stage.struck().await == 0 {
        tokio::task::yield_now().await;
    }
    stage.kill_billing();
    drop(asked.await.expect("no panic"));
    stage.mend().await;
    let expired = "update billing.saga set leased_until = now() - interval '1 second' where lease_owner is not null";
    stage.database.execute(expired).await;
    let saga = stage.newest_saga().await;
    let engine = stage.coordinator().await;
    engine.take_over().await.expect("a database");
    let id: SagaId = saga.parse().expect("an id");
    let until = Instant::now() + PATIENCE;
    assert!(engine.wait(id, until).await.expect("a saga").completed);
    assert_eq!(stage.ledger("coupons").await.len(), 1);
    assert_eq!(stage.held_or_redeemed("redeemed").await, 1);
    assert_eq!(stage.live_redemptions().await, 1);
    assert_eq!(stage.taken_at_stripe().await, 79_760);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_clients_as_many_subscribe_with_a_coupon_as_it_allows() {
    const WIDE: usize = 40;
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let mut ten = save20();
    ten.max_redemptions = Some(10);
    stage.coupon(ten).await;
    let orders: Vec<_> = (0..WIDE)
        .map(|_| stage.order_of_another(&plan, "SAVE20", "pm_card_visa"))
        .collect();
    let answers = join_all(orders.into_iter().map(|order| stage.subscribe(order))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (10, WIDE - 10));
    for refused in refused.into_iter().filter_map(Result::err) {
        assert_eq!(refused.reason(), ErrorReason::CouponExhausted, "{refused}");
        assert_eq!(refused.detail(), "SAVE20 has been redeemed 10 of 10 times.");
    }
    for taken in taken.into_iter().flatten() {
        stage.at_rest(taken.saga_id()).await;
    }
    assert_eq!(stage.held_or_redeemed("redeemed").await, 10);
    let read = stage.read_coupon("SAVE20").await.expect("a coupon");
    assert_eq!(read.times_redeemed, Some(10));
    assert_eq!(stage.taken_at_stripe().await, 10 * 79_760);
}

/// Clients that have just taken their places, each with a subscription that is being started.
async fn starting(stage: &Stage, plan: &Plan, many: usize) -> Vec<(Tenant, SubscriptionId)> {
    let (agency, plan) = (
        stage.agency.uuid(),
        plan.id().parse::<PlanId>().expect("an id"),
    );
    let accounts = format!(
        "insert into billing.billing_account (agency_id, tenant_id)
         select '{agency}', gen_random_uuid() from generate_series(1, {many})"
    );
    stage.database.execute(&accounts).await;
    let subscriptions = format!(
        "insert into billing.subscription (agency_id, tenant_id, id, plan_id, plan_version, currency, \"interval\",
                                           amount_minor, saga_id)
         select agency_id, tenant_id, gen_random_uuid(), '{}', 1, 'usd', 'month', 99700, gen_random_uuid()
         from billing.billing_account where agency_id = '{agency}'",
        plan.uuid()
    );
    stage.database.execute(&subscriptions).await;
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as("select tenant_id, id from billing.subscription")
        .fetch_all(&mut stage.database.admin().await)
        .await
        .expect("rows");
    rows.into_iter()
        .map(|(tenant, id)| {
            let tenant = Tenant {
                agency: stage.agency,
                client: ClientId::from_uuid(tenant),
            };
            (tenant, SubscriptionId::from_uuid(id))
        })
        .collect()
}

/// How far the counter is from its rows, in one snapshot.
pub async fn apart(stage: &Stage) -> i64 {
    let sql = "select times_redeemed - (select count(*) from billing.coupon_redemption where state <> 'released')
               from billing.coupon";
    stage.database.count(sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_hundred_at_once_redeem_the_last_hundred_and_no_more() {
    const WIDE: usize = 500;
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.coupon(save20()).await;
    let starting = starting(&stage, &plan, WIDE).await;
    assert_eq!(starting.len(), WIDE);
    let database = stage.database.database("billing").await;
    let plan: PlanId = plan.id().parse().expect("an id");
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a time");

    let done = Arc::new(AtomicBool::new(false));
    let observed = {
        let done = Arc::clone(&done);
        let stage = &stage;
        async move {
            let mut looks = 0_u32;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(apart(stage).await, 0, "at look {looks}");
                looks += 1;
            }
            looks
        }
    };
    let redeemed = async {
        let tasks = starting.into_iter().map(|(tenant, subscription)| {
            let database = database.clone();
            tokio::spawn(async move {
                let purchase = Purchase {
                    plan,
                    price: Money::new(99_700, Currency::USD),
                    subscription,
                    saga: SagaId::generate(),
                    now,
                };
                let mut tx = database.tenant(tenant).await.expect("a transaction");
                let coupon = redemption::offer(tx.conn(), tenant, "SAVE20", &purchase).await?;
                let held = redemption::reserve(tx.conn(), tenant, &coupon, &purchase).await?;
                tx.commit().await?;
                Ok::<_, RedeemError>(held)
            })
        });
        let ended = join_all(tasks).await;
        done.store(true, Ordering::Relaxed);
        ended
    };
    let (ended, looks) = tokio::join!(redeemed, observed);
    let mut redeemed = 0;
    for one in ended {
        match one.expect("no panic") {
            Ok(held) => {
                assert_eq!(held.code, "SAVE20");
                redeemed += 1;
            }
            Err(RedeemError::Refused(CouponRefusal::Exhausted { limit, .. })) => {
                assert_eq!(limit, 100);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(redeemed, 100);
    assert!(looks > 0);
    assert_eq!(stage.live_redemptions().await, 100);
    let read = stage.read_coupon("SAVE20").await.expect("a coupon");
    assert_eq!(read.times_redeemed, Some(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_give_back_while_others_take_leave_no_place_over_and_none_twice() {
    const WIDE: usize = 60;
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let mut few = save20();
    few.max_redemptions = Some(7);
    stage.coupon(few).await;
    let starting = starting(&stage, &plan, WIDE).await;
    let database = stage.database.database("billing").await;
    let plan: PlanId = plan.id().parse().expect("an id");
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let tasks = starting
        .into_iter()
        .enumerate()
        .map(|(place, (tenant, subscription))| {
            let database = database.clone();
            tokio::spawn(async move {
                let purchase = Purchase {
                    plan,
                    price: Money::new(99_700, Currency::USD),
                    subscription,
                    saga: SagaId::generate(),
                    now,
                };
                let mut tx = database.tenant(tenant).await.expect("a transaction");
                let Ok(coupon) = redemption::offer(tx.conn(), tenant, "SAVE20", &purchase).await
                else {
                    return;
                };
                if redemption::reserve(tx.conn(), tenant, &coupon, &purchase)
                    .await
                    .is_err()
                {
                    return;
                }
                tx.commit().await.expect("committed");
                // Every other one is undone, twice, as a saga that is taken over may.
                for _ in 0..(place % 2 * 2) {
                    let mut tx = database.tenant(tenant).await.expect("a transaction");
                    let released = redemption::release(tx.conn(), tenant, subscription, now).await;
                    released.expect("released");
                    tx.commit().await.expect("committed");
                }
            })
        });
    for one in join_all(tasks).await {
        one.expect("no panic");
    }
    assert_eq!(apart(&stage).await, 0);
    assert!(stage.live_redemptions().await <= 7);
}
