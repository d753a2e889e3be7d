//! Entitlements: the newest write stands, whatever arrives when (IDN-12).

use std::collections::HashMap;

use mainstay_proto::common::v1 as common;
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::ErrorReason;
use mainstay_types::{ClientId, PlanId, SagaId, ServiceName, SubscriptionId};
use tonic::Code;

use crate::world::{Agency, World, reason};

struct Saga {
    id: SagaId,
    agency: String,
    client: ClientId,
}

impl Saga {
    fn of(agency: &Agency<'_>, client: ClientId) -> Self {
        Saga {
            id: SagaId::generate(),
            agency: agency.text(),
            client,
        }
    }

    fn put(&self, feature: &str, version: i64, fence: i64) -> proto::PutEntitlementsRequest {
        let limit = common::Limit {
            included: Some(1000),
            beyond: Some(common::Beyond::Overage.into()),
            block_size: Some(100),
            price: Some(common::Money {
                amount_minor: Some(200),
                currency: Some("usd".into()),
            }),
        };
        let unlimited = common::Limit {
            beyond: Some(common::Beyond::Unlimited.into()),
            ..Default::default()
        };
        let limits = HashMap::from([
            ("messages".to_owned(), limit),
            ("users".to_owned(), unlimited),
        ]);
        proto::PutEntitlementsRequest {
            agency_id: self.agency.clone(),
            client_id: self.client.to_string(),
            entitlements: Some(common::Entitlements {
                features: vec![feature.to_owned()],
                limits: limits.into_iter().collect(),
            }),
            subscription_id: SubscriptionId::generate().to_string(),
            plan_id: PlanId::generate().to_string(),
            subscription_status: "active".to_owned(),
            paid_through_at: None,
            version,
            saga_id: self.id.to_string(),
            step: "put_entitlements".to_owned(),
            fence,
            undo: false,
        }
    }

    fn undo(&self, version: i64, fence: i64) -> proto::PutEntitlementsRequest {
        proto::PutEntitlementsRequest {
            entitlements: Some(common::Entitlements::default()),
            undo: true,
            ..self.put("none", version, fence)
        }
    }
}

async fn read(agency: &Agency<'_>, client: ClientId) -> proto::ClientEntitlements {
    let request = proto::GetEntitlementsRequest {
        client_id: client.to_string(),
    };
    agency
        .owner
        .entitlements()
        .get_entitlements(request)
        .await
        .expect("read")
        .into_inner()
}

#[tokio::test]
async fn what_a_saga_writes_reads_back_whole() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let none = read(&agency, client).await;
    assert_eq!(
        (none.version, none.entitlements),
        (None, Some(common::Entitlements::default()))
    );
    let saga = Saga::of(&agency, client);
    let request = saga.put("ai_replies", 1, 1);
    let answer = world
        .billing()
        .put_entitlements(request.clone())
        .await
        .expect("written")
        .into_inner();
    assert_eq!((answer.applied, answer.version), (true, 1));
    let stored = read(&agency, client).await;
    assert_eq!(stored.entitlements, request.entitlements);
    assert_eq!(
        stored.subscription_id.as_deref(),
        Some(request.subscription_id.as_str())
    );
    assert_eq!(stored.subscription_status.as_deref(), Some("active"));
}

#[tokio::test]
async fn a_subscription_that_grants_nothing_shows_nothing_and_why() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    for (version, status) in [(1, "active"), (2, "unpaid"), (3, "paused"), (4, "canceled")] {
        let mut request = Saga::of(&agency, client).put("ai_replies", version, 1);
        request.subscription_status = status.to_owned();
        if status != "active" {
            request.entitlements = None;
        }
        world
            .billing()
            .put_entitlements(request.clone())
            .await
            .expect("written");
        let shown = read(&agency, client).await;
        // Not absent: empty, with the subscription and its status as the grounds.
        assert_eq!(
            shown.entitlements,
            Some(request.entitlements.unwrap_or_default()),
            "{status}"
        );
        assert_eq!(shown.subscription_status.as_deref(), Some(status));
        assert_eq!(shown.subscription_id, Some(request.subscription_id));
        assert_eq!(shown.version, Some(version));
    }
}

#[tokio::test]
async fn a_late_write_does_not_undo_a_newer_one() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let (first, second) = (Saga::of(&agency, client), Saga::of(&agency, client));
    world
        .billing()
        .put_entitlements(second.put("new", 2, 1))
        .await
        .expect("the newer first");
    let late = world
        .billing()
        .put_entitlements(first.put("old", 1, 1))
        .await
        .expect("no error")
        .into_inner();
    assert_eq!((late.applied, late.version), (false, 2));
    assert_eq!(
        read(&agency, client)
            .await
            .entitlements
            .expect("some")
            .features,
        ["new"]
    );
    let repeated = world
        .billing()
        .put_entitlements(second.put("new", 2, 1))
        .await
        .expect("a repeat")
        .into_inner();
    assert_eq!((repeated.applied, repeated.version), (true, 2));
    let changes =
        "select count(*) from identity.outbox_event where type = 'identity.entitlements.changed'";
    assert_eq!(world.postgres.count(changes).await, 1);
}

#[tokio::test]
async fn of_forty_writes_at_once_the_newest_stands() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let mut calls = tokio::task::JoinSet::new();
    // In an order that is neither rising nor falling.
    for at in 0..40 {
        let version = (at * 17) % 40 + 1;
        let request = Saga::of(&agency, client).put(&format!("v{version}"), version, 1);
        let mut billing = world.billing();
        calls.spawn(async move { billing.put_entitlements(request).await });
    }
    for answer in calls.join_all().await {
        answer.expect("no write is an error");
    }
    let stored = read(&agency, client).await;
    assert_eq!(
        (stored.version, stored.entitlements.expect("some").features),
        (Some(40), vec!["v40".to_owned()])
    );
}

#[tokio::test]
async fn whoever_lost_the_saga_writes_no_more() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let saga = Saga::of(&agency, client);
    world
        .billing()
        .put_entitlements(saga.put("by_the_new_owner", 1, 5))
        .await
        .expect("written");
    let stale = world
        .billing()
        .put_entitlements(saga.put("by_the_old_owner", 2, 4))
        .await
        .expect_err("fenced off");
    assert_eq!(reason(&stale), ErrorReason::Conflict);
    assert_eq!(
        read(&agency, client)
            .await
            .entitlements
            .expect("some")
            .features,
        ["by_the_new_owner"]
    );
}

#[tokio::test]
async fn an_undo_that_comes_first_leaves_a_tombstone_and_touches_nothing() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    world
        .billing()
        .put_entitlements(Saga::of(&agency, client).put("standing", 1, 1))
        .await
        .expect("written");
    let saga = Saga::of(&agency, client);
    let undone = world
        .billing()
        .put_entitlements(saga.undo(2, 1))
        .await
        .expect("noted")
        .into_inner();
    assert_eq!((undone.applied, undone.version), (false, 1));
    let late = world
        .billing()
        .put_entitlements(saga.put("late", 2, 1))
        .await
        .expect_err("the tombstone stands");
    assert_eq!(reason(&late), ErrorReason::Conflict);
    let later = world
        .billing()
        .put_entitlements(saga.put("late", 2, 9))
        .await
        .expect_err("for every fence");
    assert_eq!(reason(&later), ErrorReason::Conflict);
    assert_eq!(
        read(&agency, client)
            .await
            .entitlements
            .expect("some")
            .features,
        ["standing"]
    );
}

#[tokio::test]
async fn an_undo_takes_back_its_own_write_and_no_newer_one() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let saga = Saga::of(&agency, client);
    world
        .billing()
        .put_entitlements(saga.put("mine", 1, 1))
        .await
        .expect("written");
    assert!(
        world
            .billing()
            .put_entitlements(saga.undo(1, 1))
            .await
            .expect("undone")
            .into_inner()
            .applied
    );
    assert!(
        read(&agency, client)
            .await
            .entitlements
            .expect("some")
            .features
            .is_empty()
    );
    // Again it changes nothing, also when another has written since.
    world
        .billing()
        .put_entitlements(Saga::of(&agency, client).put("newer", 2, 1))
        .await
        .expect("written");
    assert!(
        !world
            .billing()
            .put_entitlements(saga.undo(1, 2))
            .await
            .expect("nothing")
            .into_inner()
            .applied
    );
    assert_eq!(
        read(&agency, client)
            .await
            .entitlements
            .expect("some")
            .features,
        ["newer"]
    );
}

/// Past the operation: versions do not fall, whoever writes.
#[tokio::test]
async fn the_database_refuses_an_older_version() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    world
        .billing()
        .put_entitlements(Saga::of(&agency, client).put("new", 7, 1))
        .await
        .expect("written");
    let refused = sqlx::raw_sql("update identity.entitlement set version = 6")
        .execute(&mut world.postgres.admin().await)
        .await;
    assert!(
        refused
            .expect_err("refused")
            .to_string()
            .contains("back to 6")
    );
}

#[tokio::test]
async fn before_money_moves_billing_asks_and_a_canceled_client_is_a_no() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let check = |client: ClientId| proto::CheckEntitlementsRequest {
        agency_id: agency.text(),
        client_id: client.to_string(),
    };
    world
        .billing()
        .check_entitlements(check(client))
        .await
        .expect("yes");
    let unknown = world
        .billing()
        .check_entitlements(check(ClientId::generate()))
        .await
        .expect_err("nobody");
    assert_eq!(unknown.code(), Code::NotFound);
    world
        .postgres
        .execute("update identity.client set state = 'canceled'")
        .await;
    let gone = world
        .billing()
        .check_entitlements(check(client))
        .await
        .expect_err("gone");
    assert_eq!(reason(&gone), ErrorReason::ClientNotActive);
    // Past the point of no return a step is not refused.
    world
        .billing()
        .put_entitlements(Saga::of(&agency, client).put("paid", 1, 1))
        .await
        .expect("written");
}

#[tokio::test]
async fn nobody_but_billing_writes_and_not_across_agencies() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let client = one.client("Acme").await;
    let saga = Saga::of(&one, client);
    let mut messaging = proto::entitlement_service_client::EntitlementServiceClient::new(
        world.channel(ServiceName::Messaging),
    );
    let refused = messaging
        .put_entitlements(saga.put("free", 1, 1))
        .await
        .expect_err("not listed");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut request = saga.put("free", 1, 1);
    request.agency_id = two.text();
    assert_eq!(
        world
            .billing()
            .put_entitlements(request)
            .await
            .expect_err("not theirs")
            .code(),
        Code::NotFound
    );
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.entitlement")
            .await,
        0
    );
}
