//! Clients that begin outside: one for each origin, however many ask at once, and nobody is made twice.

use std::collections::BTreeSet;

use mainstay_proto::identity::v1 as proto;
use mainstay_proto::identity::v1::client_onboarding_service_client::ClientOnboardingServiceClient;
use mainstay_rpc::{ErrorReason, Problem, ServiceChannel};
use mainstay_types::{AgencyId, ServiceName};
use tonic::{Code, Status};

use crate::world::{Agency, World, new_client, reason};

fn billing(world: &World) -> ClientOnboardingServiceClient<ServiceChannel> {
    ClientOnboardingServiceClient::new(world.channel(ServiceName::Billing))
}

fn payer(agency: &Agency<'_>, origin: &str, email: &str) -> proto::EnsureClientRequest {
    proto::EnsureClientRequest {
        agency_id: agency.text(),
        origin: origin.to_owned(),
        name: "Pay Roofing".to_owned(),
        email: Some(email.to_owned()),
        phone: Some("+15125550100".to_owned()),
        time_zone: None,
    }
}

async fn ensure(
    world: &World,
    request: proto::EnsureClientRequest,
) -> Result<(proto::Client, bool), Status> {
    let answer = billing(world).ensure_client(request).await?.into_inner();
    Ok((answer.client.expect("a client"), answer.created))
}

#[tokio::test]
async fn whoever_pays_is_an_active_client_with_its_act_on_record() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let request = payer(&agency, "stripe_checkout/cs_1", "pay@roof.test");
    let (client, created) = ensure(&world, request.clone()).await.expect("made");
    assert!(created);
    assert_eq!(client.state(), proto::ClientState::Active);
    assert_eq!(client.time_zone.as_deref(), Some("UTC"));
    assert_eq!(client.email.as_deref(), Some("pay@roof.test"));
    // Asked again, with whatever else: the same, unchanged.
    let again = proto::EnsureClientRequest {
        name: "Another Name".to_owned(),
        email: Some("another@roof.test".to_owned()),
        ..request
    };
    assert_eq!(ensure(&world, again).await.expect("given"), (client, false));
    let audited =
        "select count(distinct id) from (
           select id, action from identity.audit_outbox union all select id, action from identity.audit_event) recorded
         where action = 'identity.client.onboard'";
    let sealed =
        "select count(*) from identity.audit_event where action = 'identity.client.onboard'";
    let told = "select count(*) from identity.outbox_event where type = 'identity.client.created'";
    let (waiting, there) = (
        world.postgres.count(audited).await,
        world.postgres.count(sealed).await,
    );
    assert!(waiting + there >= 1, "the act is on record");
    assert_eq!(world.postgres.count(told).await, 1);
}

#[tokio::test]
async fn of_fifty_at_once_with_one_origin_there_is_one_client() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = tokio::task::JoinSet::new();
    for payer_number in 0..50 {
        // The email differs, so that nothing but the origin can make them one.
        let email = format!("payer{payer_number}@roof.test");
        let request = payer(&agency, "stripe_checkout/cs_1", &email);
        let mut billing = billing(&world);
        calls.spawn(async move { billing.ensure_client(request).await });
    }
    let (mut ids, mut created) = (BTreeSet::new(), 0);
    for answer in calls.join_all().await {
        let answer = answer.expect("no call is an error").into_inner();
        created += u32::from(answer.created);
        ids.insert(answer.client.expect("a client").id);
    }
    assert_eq!((ids.len(), created), (1, 1));
    let clients = "select count(*) from identity.client";
    assert_eq!(world.postgres.count(clients).await, 1);
}

#[tokio::test]
async fn of_fifty_at_once_with_one_email_and_different_origins_there_is_one_client() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = tokio::task::JoinSet::new();
    for checkout in 0..50 {
        let origin = format!("stripe_checkout/cs_{checkout}");
        let request = payer(&agency, &origin, "pay@roof.test");
        let mut billing = billing(&world);
        calls.spawn(async move { billing.ensure_client(request).await });
    }
    // And by hand, at the same moment, past the order in which the others go.
    let mut by_hand = agency.owner.clients();
    let mut request = new_client("Pay");
    request.email = Some("PAY@roof.test".to_owned());
    let made = by_hand.create_client(request).await;
    let mut ids = BTreeSet::new();
    for answer in calls.join_all().await {
        let answer = answer.expect("no call is an error").into_inner();
        ids.insert(answer.client.expect("a client").id);
    }
    if let Ok(made) = made {
        ids.insert(made.into_inner().id);
    }
    assert_eq!(ids.len(), 1);
    let origins = "select count(*) from identity.client_origin";
    assert_eq!(world.postgres.count(origins).await, 50);
}

#[tokio::test]
async fn a_client_that_stands_is_given_instead_and_is_in_service_once_it_has_paid() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    for (number, (state, becomes)) in [
        ("prospect", proto::ClientState::Active),
        ("onboarding", proto::ClientState::Active),
        ("active", proto::ClientState::Active),
        ("suspended", proto::ClientState::Suspended),
    ]
    .into_iter()
    .enumerate()
    {
        let id = agency.client(state).await;
        let set = format!(
            "update identity.client set state = '{state}' where id = '{}'",
            id.uuid()
        );
        world.postgres.execute(&set).await;
        let email = format!("{}@CLIENT.test", state.to_uppercase());
        let request = payer(&agency, &format!("stripe_checkout/cs_{number}"), &email);
        let (client, created) = ensure(&world, request).await.expect("given");
        assert_eq!(
            (client.id.as_deref(), created, client.state()),
            (Some(id.to_string().as_str()), false, becomes),
            "{state}"
        );
    }
}

#[tokio::test]
async fn a_canceled_client_is_gone_and_whoever_pays_with_its_email_is_a_new_one() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let gone = agency.client("Acme").await;
    world
        .postgres
        .execute("update identity.client set state = 'canceled'")
        .await;
    let request = payer(&agency, "stripe_checkout/cs_1", "acme@client.test");
    let (client, created) = ensure(&world, request).await.expect("made");
    assert!(created);
    assert_ne!(client.id, Some(gone.to_string()));
}

#[tokio::test]
async fn origins_of_two_agencies_are_two_and_an_agency_that_is_none_has_no_clients() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let mut ids = BTreeSet::new();
    for agency in [&one, &two] {
        let request = payer(agency, "stripe_checkout/cs_1", "pay@roof.test");
        let (client, created) = ensure(&world, request).await.expect("made");
        assert!(created && ids.insert(client.id));
    }
    let mut nowhere = payer(&one, "stripe_checkout/cs_2", "other@roof.test");
    nowhere.agency_id = AgencyId::generate().to_string();
    let refused = ensure(&world, nowhere).await.expect_err("no agency");
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn only_billing_may_and_every_field_at_fault_is_named() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let request = payer(&agency, "stripe_checkout/cs_1", "pay@roof.test");
    let mut messaging = ClientOnboardingServiceClient::new(world.channel(ServiceName::Messaging));
    let refused = messaging.ensure_client(request.clone()).await;
    assert_eq!(
        refused.expect_err("not listed").code(),
        Code::PermissionDenied
    );
    let odd = proto::EnsureClientRequest {
        name: String::new(),
        email: None,
        phone: Some("555 0100".to_owned()),
        time_zone: Some("Texas".to_owned()),
        ..request
    };
    let refused = ensure(&world, odd).await.expect_err("four faults");
    assert_eq!(reason(&refused), ErrorReason::InvalidRequest);
    let problem = Problem::from_status(&refused);
    let named: BTreeSet<&str> = problem
        .errors()
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    assert_eq!(
        named,
        BTreeSet::from(["name", "email", "phone", "time_zone"])
    );
}
