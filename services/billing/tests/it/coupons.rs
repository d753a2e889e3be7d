//! Coupons: what they take off, whom they are for, and what is said against one.

use mainstay_proto::billing::v1::{
    Coupon, CouponDuration, CreateCouponRequest, CreateSubscriptionRequest, DeleteCouponRequest,
    DeleteCouponResponse, GetCouponRequest, Plan, SubscriptionStatus,
    coupon_service_client::CouponServiceClient,
};
use mainstay_proto::common::v1::Money as ProtoMoney;
use mainstay_rpc::{ErrorReason, Problem, ServiceChannel};
use mainstay_types::{ClientId, PlanId};
use tonic::Response;

use crate::stage::{Stage, pro, problem};

/// 20 % off the first charge, a hundred times.
pub fn save20() -> CreateCouponRequest {
    CreateCouponRequest {
        code: Some("SAVE20".to_owned()),
        percent_off: Some(20.0),
        duration: Some(CouponDuration::Once.into()),
        max_redemptions: Some(100),
        ..CreateCouponRequest::default()
    }
}

pub fn usd(amount_minor: i64) -> ProtoMoney {
    ProtoMoney {
        amount_minor: Some(amount_minor),
        currency: Some("usd".to_owned()),
    }
}

impl Stage {
    pub fn coupons(&self) -> CouponServiceClient<ServiceChannel> {
        CouponServiceClient::new(self.gateway())
    }

    pub async fn coupon(&self, request: CreateCouponRequest) -> Coupon {
        let made = self.coupons().create_coupon(self.owner(request)).await;
        made.expect("a coupon").into_inner()
    }

    pub async fn read_coupon(&self, code: &str) -> Result<Coupon, Problem> {
        let code = code.to_owned();
        let request = self.owner(GetCouponRequest { code });
        let read = self.coupons().get_coupon(request).await;
        read.map(Response::into_inner).map_err(problem)
    }

    pub async fn end_coupon(&self, code: &str) -> Result<DeleteCouponResponse, Problem> {
        let code = code.to_owned();
        let request = self.owner(DeleteCouponRequest { code });
        let ended = self.coupons().delete_coupon(request).await;
        ended.map(Response::into_inner).map_err(problem)
    }

    /// An order of a new client.
    pub fn order_of_another(
        &self,
        plan: &Plan,
        code: &str,
        card: &str,
    ) -> CreateSubscriptionRequest {
        let client = ClientId::generate().to_string();
        self.identity.add(&client);
        CreateSubscriptionRequest {
            client_id: client,
            coupon_code: Some(code.to_owned()),
            ..self.order(plan, Some(card))
        }
    }

    /// Ends the client's subscription, as Stripe would say it.
    pub async fn end_subscriptions(&self) {
        let sql = "update billing.subscription set status = 'canceled', canceled_at = now() where status = 'active'";
        self.database.execute(sql).await;
    }

    pub async fn live_redemptions(&self) -> i64 {
        let sql = "select count(*) from billing.coupon_redemption where state <> 'released'";
        self.database.count(sql).await
    }

    pub async fn held_or_redeemed(&self, state: &str) -> i64 {
        let sql = format!("select count(*) from billing.coupon_redemption where state = '{state}'");
        self.database.count(&sql).await
    }
}

#[tokio::test]
async fn a_coupon_takes_off_the_first_charge_and_the_subscription_shows_it() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let coupon = stage.coupon(save20()).await;
    assert_eq!(coupon.percent_off, Some(20.0));
    assert_eq!(coupon.times_redeemed, Some(0));

    let mut order = stage.order(&plan, Some("pm_card_visa"));
    order.coupon_code = Some("save20".to_owned());
    let subscription = stage.subscribe(order).await.expect("subscribed");
    assert_eq!(subscription.status(), SubscriptionStatus::Active);
    assert_eq!(stage.taken_at_stripe().await, 79_760);
    assert_eq!(subscription.coupon_code.as_deref(), Some("SAVE20"));
    let discount = stage.subscription(subscription.id()).await.discount;
    let discount = discount.expect("shown when it is read, too");
    assert_eq!(discount.coupon_id, coupon.id);
    assert_eq!(discount.percent_off, Some(20.0));
    assert_eq!(discount.first_discount, Some(usd(19_940)));

    let at_stripe = stage.ledger("coupons").await;
    assert_eq!(at_stripe.len(), 1);
    assert_eq!(
        Some(at_stripe[0]["id"].as_str().unwrap_or_default()),
        coupon.id.as_deref()
    );
    assert_eq!(
        at_stripe[0]["metadata"]["mainstay_agency_id"],
        stage.agency.to_string()
    );
    assert_eq!(stage.held_or_redeemed("redeemed").await, 1);

    let second = stage.order_of_another(&plan, "SAVE20", "pm_card_visa");
    stage.subscribe(second).await.expect("subscribed");
    assert_eq!(
        stage.ledger("coupons").await.len(),
        1,
        "found, not made again"
    );
    let read = stage
        .read_coupon("Save20")
        .await
        .expect("whatever its case");
    assert_eq!(read.times_redeemed, Some(2));
}

#[tokio::test]
async fn an_amount_is_taken_off_and_decimals_of_a_percentage_count() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage
        .coupon(CreateCouponRequest {
            code: Some("TEN-OFF".to_owned()),
            amount_off: Some(usd(1_000)),
            duration: Some(CouponDuration::Repeating.into()),
            duration_in_months: Some(3),
            ..CreateCouponRequest::default()
        })
        .await;
    stage
        .coupon(CreateCouponRequest {
            code: Some("THIRD".to_owned()),
            percent_off: Some(33.33),
            duration: Some(CouponDuration::Forever.into()),
            ..CreateCouponRequest::default()
        })
        .await;
    for (code, off) in [("TEN-OFF", 1_000), ("THIRD", 33_230)] {
        let before = stage.taken_at_stripe().await;
        let order = stage.order_of_another(&plan, code, "pm_card_visa");
        let subscription = stage.subscribe(order).await.expect("subscribed");
        let discount = subscription.discount.expect("shown");
        assert_eq!(discount.first_discount, Some(usd(off)), "{code}");
        assert_eq!(
            stage.taken_at_stripe().await - before,
            99_700 - off,
            "{code}"
        );
    }
}

#[tokio::test]
async fn nothing_is_due_and_nothing_need_pay_when_all_is_taken_off() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage
        .coupon(CreateCouponRequest {
            code: Some("FREE".to_owned()),
            percent_off: Some(100.0),
            duration: Some(CouponDuration::Forever.into()),
            ..CreateCouponRequest::default()
        })
        .await;
    let mut order = stage.order(&plan, None);
    let refused = stage.subscribe(order.clone()).await.expect_err("refused");
    assert_eq!(refused.reason(), ErrorReason::InvalidRequest);
    order.coupon_code = Some("FREE".to_owned());
    let subscription = stage.subscribe(order).await.expect("subscribed");
    assert_eq!(subscription.status(), SubscriptionStatus::Active);
    assert_eq!(stage.taken_at_stripe().await, 0);
    let told = stage.identity.stored(&stage.client.to_string());
    assert_eq!(told.expect("told").subscription_status, "active");
}

#[tokio::test]
async fn a_coupon_is_for_whom_it_says() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let mut other = pro();
    other.name = Some("Other".to_owned());
    let other = stage.plan(other).await;
    let make = |code: &str, change: fn(&mut CreateCouponRequest)| {
        let mut request = save20();
        request.code = Some(code.to_owned());
        change(&mut request);
        request
    };
    let mut for_other = make("OTHER", |_| {});
    for_other.plan_ids = vec![other.id().to_owned()];
    let mut for_both = make("BOTH", |_| {});
    for_both.plan_ids = vec![other.id().to_owned(), plan.id().to_owned()];
    let soon = |seconds: i64| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        prost_types::Timestamp {
            seconds: i64::try_from(now.as_secs()).expect("this century") + seconds,
            nanos: 0,
        }
    };
    let mut later = make("LATER", |_| {});
    later.starts_at = Some(soon(3_600));
    let mut over = make("OVER", |_| {});
    over.expires_at = Some(soon(3_600));
    let coupons = [
        for_other,
        for_both,
        later,
        over,
        make("EURO", |c| {
            c.percent_off = None;
            c.amount_off = Some(ProtoMoney {
                amount_minor: Some(500),
                currency: Some("eur".to_owned()),
            });
        }),
        make("FIRST", |c| c.first_time_only = Some(true)),
        make("ONCE-EACH", |c| c.max_redemptions_per_client = Some(1)),
    ];
    for coupon in coupons {
        stage.coupon(coupon).await;
    }
    let past =
        "update billing.coupon set expires_at = now() - interval '1 minute' where code = 'OVER'";
    stage.database.execute(past).await;

    let order = |code: &str| CreateSubscriptionRequest {
        coupon_code: Some(code.to_owned()),
        ..stage.order(&plan, Some("pm_card_visa"))
    };
    let refused = async |code: &str, reason: ErrorReason| {
        let refused = stage.subscribe(order(code)).await.expect_err(code);
        assert_eq!(refused.reason(), reason, "{refused}");
        assert_eq!(refused.http_status(), 409);
        assert_eq!(refused.errors()[0].field, "coupon_code");
    };
    refused("NOBODY-MADE-IT", ErrorReason::CouponInactive).await;
    refused("no code at all", ErrorReason::CouponInactive).await;
    refused("OTHER", ErrorReason::CouponNotForPlan).await;
    refused("EURO", ErrorReason::CouponCurrencyMismatch).await;
    refused("LATER", ErrorReason::CouponInactive).await;
    refused("OVER", ErrorReason::CouponInactive).await;
    assert_eq!(stage.live_redemptions().await, 0);
    assert_eq!(
        stage
            .database
            .count("select count(*) from billing.subscription")
            .await,
        0,
        "a refused coupon leaves no subscription"
    );

    // A first subscription that failed is none: the coupon for new clients is still theirs.
    let declined = CreateSubscriptionRequest {
        payment_method_id: Some("pm_card_chargeCustomerFail".to_owned()),
        ..order("FIRST")
    };
    let declined = stage.subscribe(declined).await.expect_err("declined");
    assert_eq!(declined.reason(), ErrorReason::PaymentDeclined);
    stage.subscribe(order("FIRST")).await.expect("subscribed");
    stage.end_subscriptions().await;
    refused("FIRST", ErrorReason::CouponFirstTimeOnly).await;
    stage
        .subscribe(order("ONCE-EACH"))
        .await
        .expect("subscribed");
    stage.end_subscriptions().await;
    refused("ONCE-EACH", ErrorReason::CouponClientLimit).await;
    stage.subscribe(order("BOTH")).await.expect("subscribed");
}

#[tokio::test]
async fn a_coupon_is_refused_with_all_its_faults_and_made_once_under_a_key() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let faults = async |request: CreateCouponRequest| {
        let refused = stage.coupons().create_coupon(stage.owner(request)).await;
        let refused = refused.map_err(problem).expect_err("refused");
        assert_eq!(refused.reason(), ErrorReason::InvalidRequest, "{refused}");
        let fields = refused.errors().iter().map(|fault| fault.field.clone());
        fields.collect::<Vec<_>>()
    };
    let at = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
    let wrong = CreateCouponRequest {
        code: Some("20 % off".to_owned()),
        percent_off: Some(20.0),
        amount_off: Some(usd(100)),
        duration: Some(CouponDuration::Repeating.into()),
        max_redemptions: Some(5),
        max_redemptions_per_client: Some(6),
        plan_ids: vec![plan.id().to_owned(), plan.id().to_owned()],
        starts_at: Some(at(2_000_000_000)),
        expires_at: Some(at(1_900_000_000)),
        ..CreateCouponRequest::default()
    };
    assert_eq!(
        faults(wrong).await,
        [
            "code",
            "amount_off",
            "duration_in_months",
            "plan_ids[1]",
            "max_redemptions_per_client",
            "expires_at"
        ]
    );
    let with = |change: fn(&mut CreateCouponRequest)| {
        let mut request = save20();
        change(&mut request);
        request
    };
    assert_eq!(
        faults(with(|c| c.percent_off = None)).await,
        ["percent_off"]
    );
    assert_eq!(
        faults(with(|c| c.percent_off = Some(12.345))).await,
        ["percent_off"]
    );
    assert_eq!(
        faults(with(|c| c.percent_off = Some(101.0))).await,
        ["percent_off"]
    );
    assert_eq!(
        faults(with(|c| c.expires_at = Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 0
        })))
        .await,
        ["expires_at"]
    );
    assert_eq!(
        faults(with(|c| c.plan_ids = vec![PlanId::generate().to_string()])).await,
        ["plan_ids[0]"]
    );

    let once = || stage.keyed("one-click", save20());
    let first = stage.coupons().create_coupon(once()).await;
    let again = stage.coupons().create_coupon(once()).await;
    assert_eq!(
        first.expect("made").into_inner(),
        again.expect("the same answer").into_inner()
    );
}
