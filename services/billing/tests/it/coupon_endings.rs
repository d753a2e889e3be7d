//! How coupons end, what the database itself keeps, and the daily count.

use mainstay_billing::coupon::count::{Counted, count};
use mainstay_proto::billing::v1::{
    CouponRemoval, CouponState, CreateCouponRequest, DeleteCouponRequest, ListCouponsRequest,
};
use mainstay_proto::errors::v1::ObjectExists;
use mainstay_rpc::ErrorReason;
use mainstay_types::AgencyId;

use sqlx::AssertSqlSafe;

use crate::coupon_races::apart;
use crate::coupons::save20;
use crate::stage::{Stage, pro, problem};

#[tokio::test]
async fn a_coupon_that_nobody_redeemed_is_deleted_and_its_code_is_free() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let mut request = save20();
    request.plan_ids = vec![plan.id().to_owned()];
    let first = stage.coupon(request.clone()).await;
    let mut again = request.clone();
    again.code = Some("save20".to_owned());
    let taken = stage.coupons().create_coupon(stage.owner(again)).await;
    let taken = taken.map_err(problem).expect_err("taken");
    assert_eq!(taken.reason(), ErrorReason::CouponCodeTaken);
    let existing = taken.data_as::<ObjectExists>().expect("its detail");
    assert_eq!(existing.existing_id, first.id);

    let keyed = |key: &str| {
        let code = "save20".to_owned();
        stage.keyed(key, DeleteCouponRequest { code })
    };
    let ended = stage.coupons().delete_coupon(keyed("end")).await;
    let ended = ended.expect("ended").into_inner();
    assert_eq!(ended.outcome(), CouponRemoval::Deleted);
    assert_eq!(ended.coupon, None);
    let repeated = stage.coupons().delete_coupon(keyed("end")).await;
    assert_eq!(repeated.expect("the same answer").into_inner(), ended);
    let gone = stage.read_coupon("SAVE20").await.expect_err("gone");
    assert_eq!(gone.reason(), ErrorReason::NotFound);
    let gone = stage.end_coupon("SAVE20").await.expect_err("gone");
    assert_eq!(gone.reason(), ErrorReason::NotFound);
    assert!(
        stage.ledger("coupons").await.is_empty(),
        "Stripe never knew it"
    );
    let second = stage.coupon(request).await;
    assert_ne!(second.id, first.id);
}

#[tokio::test]
async fn a_coupon_that_was_ever_redeemed_is_deactivated_and_keeps_its_history() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.coupon(save20()).await;
    // Reserved and released is redeemed enough: the row of it is history.
    let declined = stage.order_of_another(&plan, "SAVE20", "pm_card_chargeCustomerFail");
    stage.subscribe(declined).await.expect_err("declined");
    let ended = stage.end_coupon("SAVE20").await.expect("ended");
    assert_eq!(ended.outcome(), CouponRemoval::Deactivated);
    let stays = ended.coupon.clone().expect("it stays");
    assert_eq!(stays.state(), CouponState::Deactivated);
    assert!(stays.deactivated_at.is_some());
    assert_eq!(stage.end_coupon("SAVE20").await.expect("the same"), ended);
    let deactivations =
        "select count(*) from billing.outbox_event where type = 'billing.coupon.deactivated'";
    assert_eq!(stage.database.count(deactivations).await, 1);

    let order = stage.order_of_another(&plan, "SAVE20", "pm_card_visa");
    let refused = stage.subscribe(order).await.expect_err("refused");
    assert_eq!(refused.reason(), ErrorReason::CouponInactive);
    assert_eq!(refused.detail(), "SAVE20 was deactivated.");
    let taken = stage.coupons().create_coupon(stage.owner(save20())).await;
    let taken = taken.map_err(problem).expect_err("its code is not free");
    assert_eq!(taken.reason(), ErrorReason::CouponCodeTaken);

    let list = |state| {
        stage.owner(ListCouponsRequest {
            state,
            ..ListCouponsRequest::default()
        })
    };
    let listed = async |state: Option<CouponState>| {
        let page = stage
            .coupons()
            .list_coupons(list(state.map(Into::into)))
            .await;
        page.expect("a page").into_inner().data.len()
    };
    assert_eq!(listed(None).await, 1);
    assert_eq!(listed(Some(CouponState::Active)).await, 0);
    assert_eq!(listed(Some(CouponState::Deactivated)).await, 1);
}

#[tokio::test]
async fn the_database_itself_refuses_one_too_many_and_other_terms() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.coupon(save20()).await;
    let order = stage.order_of_another(&plan, "SAVE20", "pm_card_visa");
    stage.subscribe(order).await.expect("subscribed");
    let refused = async |sql: &'static str| {
        // As billing's own connections have it: the triggers look for their tables there.
        let sql = format!("set search_path to billing; {sql}");
        let error = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut stage.database.admin().await)
            .await
            .expect_err("refused");
        let error = error.as_database_error().expect("the database says so");
        error.constraint().unwrap_or_default().to_owned()
    };
    let cases = [
        (
            "update billing.coupon set times_redeemed = 101",
            "coupon_max_redemptions_check",
        ),
        (
            "update billing.coupon set times_redeemed = -1",
            "coupon_times_redeemed_check",
        ),
        (
            "update billing.coupon set percent_off_bp = 5000",
            "coupon_immutable",
        ),
        (
            "update billing.coupon set max_redemptions = 1000",
            "coupon_immutable",
        ),
        ("delete from billing.coupon", "coupon_immutable"),
        (
            "insert into billing.coupon_plan (agency_id, coupon_id, plan_id)
             select c.agency_id, c.id, p.id from billing.coupon c, billing.plan p",
            "coupon_immutable",
        ),
        (
            "insert into billing.coupon_redemption (agency_id, tenant_id, id, coupon_id, subscription_id, saga_id, currency,
                                                    amount_minor, discount_minor)
             select agency_id, tenant_id, gen_random_uuid(), coupon_id, subscription_id, saga_id, currency, 1, 1
             from billing.coupon_redemption",
            "coupon_redemption_one_live_key",
        ),
    ];
    for (sql, constraint) in cases {
        assert_eq!(refused(sql).await, constraint, "{sql}");
    }
}

#[tokio::test]
async fn a_counter_that_drifted_is_repaired_and_the_drift_is_recorded() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.coupon(save20()).await;
    stage
        .coupon(CreateCouponRequest {
            code: Some("OTHER".to_owned()),
            ..save20()
        })
        .await;
    let queued =
        "select count(*) from billing.job where kind = 'count_redemptions' and run_at > now()";
    assert_eq!(stage.database.count(queued).await, 1, "one for the agency");
    let order = stage.order_of_another(&plan, "SAVE20", "pm_card_visa");
    stage.subscribe(order).await.expect("subscribed");
    let database = stage.database.database("billing").await;
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let looked = async |agency: AgencyId| {
        let counted = count(&database.worker(), agency, now).await;
        counted.expect("counted")
    };
    let nothing = Counted {
        coupons: 2,
        ..Counted::default()
    };
    assert_eq!(looked(stage.agency).await, nothing, "nothing is apart");

    for (drifted, recorded) in [(42, 1), (0, 2)] {
        let sql =
            format!("update billing.coupon set times_redeemed = {drifted} where code = 'SAVE20'");
        stage.database.execute(&sql).await;
        let repaired = Counted {
            repaired: 1,
            ..nothing
        };
        assert_eq!(looked(stage.agency).await, repaired);
        let read = stage.read_coupon("SAVE20").await.expect("a coupon");
        assert_eq!(read.times_redeemed, Some(1));
        let sql = format!(
            "select count(*) from billing.coupon_drift where code = 'SAVE20' and redemptions = 1 and times_redeemed_after = 1
             and times_redeemed_before in (0, 42) having count(*) = {recorded}"
        );
        assert_eq!(stage.database.count(&sql).await, recorded);
        assert_eq!(
            looked(stage.agency).await,
            nothing,
            "once repaired, repaired"
        );
    }
    let told = "select count(*) from billing.outbox_event where type = 'billing.coupon.recounted'";
    assert_eq!(stage.database.count(told).await, 2);
    assert_eq!(
        looked(AgencyId::generate()).await,
        Counted::default(),
        "another agency's coupons are not looked at"
    );
}

#[tokio::test]
async fn what_an_ended_subscription_still_reserves_is_given_back_by_the_daily_count() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.coupon(save20()).await;
    let order = stage.order_of_another(&plan, "SAVE20", "pm_card_visa");
    stage.subscribe(order).await.expect("subscribed");
    // As an abandoned saga leaves it: ended, and nothing undone.
    stage
        .database
        .execute("update billing.coupon_redemption set state = 'reserved', redeemed_at = null")
        .await;
    let database = stage.database.database("billing").await;
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let live = count(&database.worker(), stage.agency, now).await;
    assert_eq!(live.expect("counted").released, 0, "it still lives");
    stage.end_subscriptions().await;
    let ended = count(&database.worker(), stage.agency, now).await;
    let given_back = Counted {
        coupons: 1,
        released: 1,
        ..Counted::default()
    };
    assert_eq!(ended.expect("counted"), given_back);
    assert_eq!(stage.live_redemptions().await, 0);
    assert_eq!(apart(&stage).await, 0);
}
