//! Limits: the newest sale stands, whatever arrives when, and nobody writes them but billing (BIL-20).

use mainstay_proto::common::v1 as common;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::limit_service_client::LimitServiceClient;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::{ClientId, ServiceName};
use tonic::Code;

use crate::world::{World, at, features, reason};

#[tokio::test]
async fn what_billing_sells_is_read_back_whole_with_its_period() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let nothing = agency.limits().await;
    assert_eq!(
        (nothing.version, nothing.entitlements),
        (Some(0), Some(common::Entitlements::default()))
    );
    let sale = agency.saga().sells("campaigns", 3, 1);
    let answer = agency.apply(sale.clone()).await.expect("written");
    assert_eq!((answer.applied, answer.version), (true, 3));
    let stored = agency.limits().await;
    assert_eq!(stored.entitlements, sale.entitlements);
    assert_eq!(stored.subscription_id, Some(sale.subscription_id));
    assert_eq!(
        (stored.period_start_at, stored.period_end_at),
        (sale.period_start_at, sale.period_end_at)
    );
    assert_eq!(stored.version, Some(3));
}

#[tokio::test]
async fn a_late_write_does_not_undo_a_newer_one_and_a_repeat_changes_nothing() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let (first, second) = (agency.saga(), agency.saga());
    let newer = second.sells("new", 2, 1);
    agency.apply(newer.clone()).await.expect("the newer first");
    let late = agency.apply(first.sells("old", 1, 1)).await.expect("left");
    assert_eq!((late.applied, late.version), (false, 2));
    let repeated = agency.apply(newer).await.expect("a repeat");
    assert_eq!((repeated.applied, repeated.version), (true, 2));
    assert_eq!(features(agency.limits().await), ["new"]);
    for table in [
        "outbox_event where type = 'messaging.limits.changed'",
        "client_limit where revision = 1",
    ] {
        let rows = format!("select count(*) from messaging.{table}");
        assert_eq!(world.postgres.count(&rows).await, 1, "{table}");
    }
}

#[tokio::test]
async fn of_forty_writes_at_once_the_newest_stands() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = tokio::task::JoinSet::new();
    // In an order that is neither rising nor falling.
    for at in 0..40 {
        let version = (at * 17) % 40 + 1;
        let request = agency.saga().sells(&format!("v{version}"), version, 1);
        let mut billing = world.billing();
        calls.spawn(async move { billing.apply_limits(request).await });
    }
    for answer in calls.join_all().await {
        answer.expect("no write is an error");
    }
    let stored = agency.limits().await;
    assert_eq!(
        (stored.version, features(stored)),
        (Some(40), vec!["v40".to_owned()])
    );
}

#[tokio::test]
async fn whoever_lost_the_saga_writes_no_more() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let saga = agency.saga();
    agency
        .apply(saga.sells("by_the_new_owner", 1, 5))
        .await
        .expect("written");
    let stale = agency
        .apply(saga.sells("by_the_old_owner", 2, 4))
        .await
        .expect_err("fenced off");
    assert_eq!(reason(&stale), ErrorReason::Conflict);
    assert_eq!(features(agency.limits().await), ["by_the_new_owner"]);
}

#[tokio::test]
async fn an_undo_that_comes_first_refuses_the_do_for_ever_and_touches_nothing() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    agency
        .apply(agency.saga().sells("standing", 1, 1))
        .await
        .expect("written");
    let saga = agency.saga();
    let undone = agency.apply(saga.undoes(2, 1)).await.expect("noted");
    assert_eq!((undone.applied, undone.version), (false, 1));
    for fence in [1, 9] {
        let late = agency
            .apply(saga.sells("late", 2, fence))
            .await
            .expect_err("the tombstone stands");
        assert_eq!(reason(&late), ErrorReason::Conflict, "fence {fence}");
    }
    assert_eq!(features(agency.limits().await), ["standing"]);
}

#[tokio::test]
async fn an_undo_takes_back_its_own_sale_and_no_newer_one() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let saga = agency.saga();
    agency.apply(saga.sells("mine", 1, 1)).await.expect("sold");
    assert!(
        agency
            .apply(saga.undoes(1, 1))
            .await
            .expect("undone")
            .applied
    );
    assert!(features(agency.limits().await).is_empty());
    let newer = agency.saga().sells("newer", 2, 1);
    agency.apply(newer).await.expect("written");
    assert!(!agency.apply(saga.undoes(1, 2)).await.expect("left").applied);
    assert_eq!(features(agency.limits().await), ["newer"]);
}

#[tokio::test]
async fn the_database_refuses_an_older_version() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    agency
        .apply(agency.saga().sells("new", 7, 1))
        .await
        .expect("written");
    let refused = sqlx::raw_sql("update messaging.client_limit set version = 6")
        .execute(&mut world.postgres.admin().await)
        .await
        .expect_err("refused");
    assert!(refused.to_string().contains("back to 6"), "{refused}");
}

#[tokio::test]
async fn nobody_but_billing_writes_and_not_for_another_agencys_client() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let identity = world
        .stage
        .channel(ServiceName::Identity, ServiceName::Messaging);
    let refused = LimitServiceClient::new(identity)
        .apply_limits(one.saga().sells("free", 1, 1))
        .await
        .expect_err("not listed");
    assert_eq!(refused.code(), Code::PermissionDenied);

    // As the first that messaging hears of the client, and after.
    for known in [false, true] {
        if known {
            one.apply(one.saga().sells("paid", 1, 1))
                .await
                .expect("sold");
        }
        let mut foreign = one.saga().sells("free", 2, 1);
        foreign.agency_id = two.id.to_string();
        let refused = two.apply(foreign).await.expect_err("not theirs");
        assert_eq!(refused.code(), Code::NotFound, "known: {known}");
    }
    let check = proto::CheckLimitsRequest {
        agency_id: one.id.to_string(),
        client_id: ClientId::generate().to_string(),
    };
    let nobody = world.billing().check_limits(check).await;
    assert_eq!(nobody.expect_err("nobody").code(), Code::NotFound);
    assert_eq!(features(one.limits().await), ["paid"]);
}

#[tokio::test]
async fn every_field_that_cannot_be_kept_is_named() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let refused = |status: tonic::Status| {
        let problem = Problem::from_status(&status);
        assert_eq!(problem.reason(), ErrorReason::InvalidRequest);
        let named = problem.errors().iter().map(|fault| fault.field.clone());
        named.collect::<Vec<_>>()
    };
    let mut request = agency.saga().sells("odd", 1, 1);
    (request.period_start_at, request.period_end_at) = (Some(at(200)), Some(at(100)));
    let status = agency.apply(request.clone()).await.expect_err("backwards");
    assert_eq!(refused(status), ["period_end_at"]);
    request.period_end_at = None;
    let status = agency.apply(request.clone()).await.expect_err("no end");
    assert_eq!(refused(status), ["period_end_at"]);
    (request.period_start_at, request.version) = (None, 0);
    let status = agency.apply(request).await.expect_err("no version");
    assert_eq!(refused(status), ["version"]);
}
