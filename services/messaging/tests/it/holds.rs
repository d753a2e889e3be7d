//! Holds: while one stands nothing new is sold to the client, and whoever is refused can read why.

use mainstay_proto::errors::v1::SendingOnHold;
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::{ErrorReason, Problem};
use sqlx::{Connection, Executor};
use tonic::{Code, Status};

use crate::sending::beyond;
use crate::world::{Agency, World, features, reason};

/// What a refused seller reads.
fn told(status: &Status) -> String {
    let problem = Problem::from_status(status);
    assert_eq!(problem.reason(), ErrorReason::SendingOnHold, "{status:?}");
    problem.data_as::<SendingOnHold>().expect("a detail").reason
}

async fn read(agency: &Agency<'_>) -> proto::SendingHold {
    let request = proto::GetSendingHoldRequest {
        client_id: agency.client.to_string(),
    };
    let hold = agency.keeper().get_sending_hold(request).await;
    hold.expect("read").into_inner()
}

#[tokio::test]
async fn a_hold_is_placed_shown_and_lifted_each_once_and_each_on_record() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    assert_eq!(read(&agency).await.on_hold, Some(false));
    let placed = agency.place("Carrier complaints").await.expect("placed");
    assert_eq!(placed.on_hold, Some(true));
    assert!(
        placed
            .placed_by
            .as_deref()
            .expect("who")
            .starts_with("key_")
    );
    assert_eq!(
        agency.place("Carrier complaints").await.expect("again"),
        placed
    );
    assert_eq!(read(&agency).await, placed);
    let other = agency.place("Court order").await.expect("another reason");
    assert_eq!(other.reason.as_deref(), Some("Court order"));
    for _ in 0..2 {
        let lifted = agency.lift().await.expect("lifted");
        assert_eq!((lifted.on_hold, lifted.reason), (Some(false), None));
    }
    for (event, times) in [("placed", 2), ("lifted", 1)] {
        let events = format!(
            "select count(*) from messaging.outbox_event where type = 'messaging.sending_hold.{event}'"
        );
        assert_eq!(world.postgres.count(&events).await, times, "{event}");
    }
}

#[tokio::test]
async fn every_act_on_a_hold_reaches_the_audit_log_with_who_did_it() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    agency.place("Abuse").await.expect("placed");
    agency.lift().await.expect("lifted");
    let sealed =
        "select count(*) from identity.audit_event where action like 'messaging.sending_hold.%'
                  and actor like 'key_%'";
    beyond(&world, sealed, 1).await;
}

#[tokio::test]
async fn while_a_hold_stands_nothing_is_sold_and_the_reason_is_read() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    agency.check().await.expect("nothing stands");
    agency.place("Abuse report 4711").await.expect("placed");
    let refused = agency.check().await.expect_err("on hold");
    assert_eq!(told(&refused), "Abuse report 4711");
    let saga = agency.saga();
    let refused = agency.apply(saga.sells("campaigns", 1, 1)).await;
    assert_eq!(told(&refused.expect_err("on hold")), "Abuse report 4711");
    for table in ["client_limit", "saga_step"] {
        let rows = format!("select count(*) from messaging.{table}");
        assert_eq!(
            world.postgres.count(&rows).await,
            0,
            "{table}: nothing is stored"
        );
    }
    // The saga compensates; a do of it that comes late finds the tombstone, also after the hold.
    agency.apply(saga.undoes(1, 1)).await.expect("noted");
    agency.lift().await.expect("lifted");
    let late = agency.apply(saga.sells("campaigns", 1, 1)).await;
    assert_eq!(reason(&late.expect_err("undone")), ErrorReason::Conflict);
    agency.check().await.expect("lifted");
    let next = agency.apply(agency.saga().sells("campaigns", 2, 1)).await;
    assert!(next.expect("sold").applied);
}

#[tokio::test]
async fn what_follows_a_sale_is_taken_whatever_hold_stands() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let saga = agency.saga();
    let sale = saga.sells("campaigns", 1, 1);
    agency.apply(sale.clone()).await.expect("sold");
    agency.place("Complaint").await.expect("placed");
    // The answer to the sale got lost; it was taken before the hold.
    assert!(agency.apply(sale).await.expect("a repeat").applied);
    let renewed = agency.apply(agency.saga().follows("renewed", 2, 1)).await;
    assert!(renewed.expect("stored").applied);
    assert_eq!(features(agency.limits().await), ["renewed"]);
    let other = agency.saga();
    agency
        .apply(other.follows("more", 3, 1))
        .await
        .expect("stored");
    assert!(
        agency
            .apply(other.undoes(3, 1))
            .await
            .expect("undone")
            .applied
    );
    assert!(features(agency.limits().await).is_empty());
}

#[tokio::test]
async fn a_sale_waits_for_a_hold_that_is_being_placed_and_is_refused_by_it() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    // Heard of, so that the row to wait for is there.
    agency.lift().await.expect("nothing to lift");
    let mut placing = world.postgres.admin().await;
    let mut tx = placing.begin().await.expect("a transaction");
    tx.execute(
        "update messaging.client_sending set hold_reason = 'Abuse', held_by = 'key_x', held_at = now()",
    )
    .await
    .expect("placed, not committed");
    let (mut billing, sale) = (world.billing(), agency.saga().sells("campaigns", 1, 1));
    let selling = tokio::spawn(async move { billing.apply_limits(sale).await });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    while world.postgres.count(waiting).await == 0 {
        assert!(!selling.is_finished(), "the sale did not wait");
        tokio::task::yield_now().await;
    }
    tx.commit().await.expect("the hold stands");
    let refused = selling.await.expect("no panic").expect_err("on hold");
    assert_eq!(told(&refused), "Abuse");
}

#[tokio::test]
async fn of_sales_at_once_none_is_taken_once_the_hold_is_answered() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut sales = tokio::task::JoinSet::new();
    for version in 1..=20 {
        let (mut billing, sale) = (world.billing(), agency.saga().sells("f", version, 1));
        sales.spawn(async move { (version, billing.apply_limits(sale).await) });
    }
    agency.place("Abuse").await.expect("placed");
    let placed = world
        .postgres
        .count("select count(*) from messaging.saga_step");
    let taken_by_then = placed.await;
    let mut taken = 0;
    for (version, sold) in sales.join_all().await {
        match sold {
            Ok(_) => taken += 1,
            Err(status) => assert_eq!(told(&status), "Abuse", "version {version}"),
        }
    }
    assert_eq!(
        taken, taken_by_then,
        "a sale was taken after the hold stood"
    );
}

#[tokio::test]
async fn holds_are_for_those_who_may_and_of_ones_own_clients() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let request = proto::PlaceSendingHoldRequest {
        client_id: one.client.to_string(),
        reason: "Abuse".to_owned(),
    };
    let mut reader = one.holder(&["messaging.sending_hold.read"]);
    let refused = reader.place_sending_hold(request.clone()).await;
    assert_eq!(
        refused.expect_err("a reader").code(),
        Code::PermissionDenied
    );
    let foreign = two.keeper().place_sending_hold(request.clone()).await;
    assert_eq!(foreign.expect_err("not theirs").code(), Code::NotFound);
    let silent = proto::PlaceSendingHoldRequest {
        reason: String::new(),
        ..request
    };
    let invalid = one.keeper().place_sending_hold(silent).await;
    assert_eq!(
        reason(&invalid.expect_err("no reason")),
        ErrorReason::InvalidRequest
    );
    assert_eq!(read(&one).await.on_hold, Some(false));
}
