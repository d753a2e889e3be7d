//! Clients: made once, edited by whoever has read them, seen by whom they concern.

use std::collections::BTreeSet;

use mainstay_proto::errors::v1::ObjectExists;
use mainstay_proto::identity::v1::client_directory_service_client::ClientDirectoryServiceClient;
use mainstay_proto::identity::v1::{self as proto, ClientState};
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::{ClientId, MemberId, ServiceName};
use tonic::Code;

use crate::world::{World, keyed, new_client, reason};

#[tokio::test]
async fn a_client_is_active_at_once_and_reads_back() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let made = agency
        .owner
        .clients()
        .create_client(new_client("Acme"))
        .await
        .expect("made")
        .into_inner();
    assert_eq!(made.state(), ClientState::Active);
    let get = proto::GetClientRequest {
        client_id: made.id.clone().expect("an id"),
    };
    let read = agency
        .owner
        .clients()
        .get_client(get)
        .await
        .expect("read")
        .into_inner();
    assert_eq!(read, made);
    let events =
        "select count(*) from identity.outbox_event where type = 'identity.client.created'";
    assert_eq!(world.postgres.count(events).await, 1);
    let audited =
        "select count(distinct id) from (
           select id, action from identity.audit_outbox union all select id, action from identity.audit_event) recorded
         where action = 'identity.client.create'";
    assert_eq!(world.postgres.count(audited).await, 1);
}

#[tokio::test]
async fn fifty_creations_with_one_key_make_one_client_and_fifty_equal_answers() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut clients = agency.owner.clients();
        calls.spawn(async move {
            clients
                .create_client(keyed("same", new_client("Acme")))
                .await
        });
    }
    let answers = calls.join_all().await;
    let answers: BTreeSet<String> = answers
        .into_iter()
        .map(|answer| format!("{:?}", answer.expect("answered").into_inner()))
        .collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.client")
            .await,
        1
    );

    let other = agency
        .owner
        .clients()
        .create_client(keyed("same", new_client("Other")))
        .await;
    assert_eq!(
        reason(&other.expect_err("another request")),
        ErrorReason::IdempotencyKeyReused
    );
}

#[tokio::test]
async fn of_fifty_who_want_one_email_one_gets_it_and_the_others_are_told_who() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = tokio::task::JoinSet::new();
    for at in 0..50 {
        let mut clients = agency.owner.clients();
        let name = if at % 2 == 0 { "Acme" } else { "ACME" };
        calls.spawn(async move { clients.create_client(new_client(name)).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 49));
    let winner = made[0].as_ref().expect("made").get_ref().id.clone();
    for status in refused {
        let problem = Problem::from_status(&status.expect_err("refused"));
        assert_eq!(problem.reason(), ErrorReason::ClientEmailTaken);
        assert_eq!(
            problem
                .data_as::<ObjectExists>()
                .expect("detail")
                .existing_id,
            winner
        );
    }
}

#[tokio::test]
async fn the_email_of_a_canceled_client_is_free_and_of_another_agency_too() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    agency.client("Acme").await;
    world
        .postgres
        .execute("update identity.client set state = 'canceled'")
        .await;
    agency.client("Acme").await;
    world.agency("two").await.client("Acme").await;
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.client")
            .await,
        3
    );
}

#[tokio::test]
async fn an_edit_needs_the_etag_that_was_read_when_it_sends_one() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let id = agency.client("Acme").await.to_string();
    let edit = |name: &str, etag: Option<&str>| proto::UpdateClientRequest {
        client_id: id.clone(),
        name: Some(name.to_owned()),
        etag: etag.map(str::to_owned),
        ..Default::default()
    };
    let first = agency
        .owner
        .clients()
        .update_client(edit("Acme & Sons", Some("v1")))
        .await
        .expect("edited")
        .into_inner();
    assert_eq!(
        (first.name.as_deref(), first.etag.as_deref()),
        (Some("Acme & Sons"), Some("v2"))
    );
    assert_eq!(first.email.as_deref(), Some("acme@client.test"));
    let late = agency
        .owner
        .clients()
        .update_client(edit("Acme Ltd", Some("v1")))
        .await
        .expect_err("stale");
    assert_eq!(reason(&late), ErrorReason::EtagMismatch);
    let same = agency
        .owner
        .clients()
        .update_client(edit("Acme & Sons", None))
        .await
        .expect("no change")
        .into_inner();
    assert_eq!(same.etag.as_deref(), Some("v2"));
    let events =
        "select count(*) from identity.outbox_event where type = 'identity.client.updated'";
    assert_eq!(world.postgres.count(events).await, 1);
}

#[tokio::test]
async fn a_list_is_walked_newest_first_and_filtered_by_state() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut made = Vec::new();
    for name in ["A", "B", "C", "D", "E"] {
        made.push(agency.client(name).await.to_string());
    }
    made.reverse();
    let mut walked = Vec::new();
    let mut token = None;
    loop {
        let request = proto::ListClientsRequest {
            page_size: Some(2),
            page_token: token,
            state: None,
        };
        let page = agency
            .owner
            .clients()
            .list_clients(request)
            .await
            .expect("a page")
            .into_inner();
        walked.extend(page.data.into_iter().filter_map(|client| client.id));
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(walked, made);
    let prospects = proto::ListClientsRequest {
        state: Some(ClientState::Prospect.into()),
        ..Default::default()
    };
    assert!(
        agency
            .owner
            .clients()
            .list_clients(prospects)
            .await
            .expect("a page")
            .into_inner()
            .data
            .is_empty()
    );
    let foreign = proto::ListClientsRequest {
        page_token: Some("AAAAAAAA".into()),
        ..Default::default()
    };
    assert_eq!(
        reason(
            &agency
                .owner
                .clients()
                .list_clients(foreign)
                .await
                .expect_err("no token")
        ),
        ErrorReason::InvalidRequest
    );
}

#[tokio::test]
async fn who_sees_some_clients_sees_no_others() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let (mine, yours) = (agency.client("Mine").await, agency.client("Yours").await);
    let caller = agency.signed_in(
        MemberId::generate(),
        &["identity.clients.read"],
        Some(vec![mine]),
    );
    let list = caller
        .clients()
        .list_clients(proto::ListClientsRequest::default())
        .await
        .expect("a page")
        .into_inner();
    assert_eq!(list.data.len(), 1);
    let get = |id: ClientId| proto::GetClientRequest {
        client_id: id.to_string(),
    };
    caller.clients().get_client(get(mine)).await.expect("mine");
    let hidden = caller
        .clients()
        .get_client(get(yours))
        .await
        .expect_err("yours");
    let unknown = caller
        .clients()
        .get_client(get(ClientId::generate()))
        .await
        .expect_err("nobody's");
    assert_eq!(
        (hidden.code(), hidden.message(), hidden.details()),
        (unknown.code(), unknown.message(), unknown.details())
    );
    let create = caller
        .clients()
        .create_client(new_client("New"))
        .await
        .expect_err("not for the agency");
    assert_eq!(create.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn another_agencys_client_is_as_unknown_as_none() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let theirs = two.client("Theirs").await;
    let get = |id: ClientId| proto::GetClientRequest {
        client_id: id.to_string(),
    };
    let foreign = one
        .owner
        .clients()
        .get_client(get(theirs))
        .await
        .expect_err("foreign");
    let unknown = one
        .owner
        .clients()
        .get_client(get(ClientId::generate()))
        .await
        .expect_err("unknown");
    assert_eq!(
        (foreign.code(), foreign.message(), foreign.details()),
        (unknown.code(), unknown.message(), unknown.details())
    );
    let list = one
        .owner
        .clients()
        .list_clients(proto::ListClientsRequest::default())
        .await
        .expect("a page")
        .into_inner();
    assert!(list.data.is_empty());
}

#[tokio::test]
async fn no_client_can_be_deleted_not_even_by_the_superuser() {
    let world = World::new().await;
    world.agency("one").await.client("Acme").await;
    let refused = sqlx::raw_sql("delete from identity.client")
        .execute(&mut world.postgres.admin().await)
        .await;
    let message = refused.expect_err("refused").to_string();
    assert!(message.contains("never deleted"), "{message}");
}

#[tokio::test]
async fn other_services_look_clients_up_and_actors_cannot() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let client = one.client("Acme").await;
    let mut directory = ClientDirectoryServiceClient::new(world.channel(ServiceName::Messaging));
    let look = |agency: String| proto::LookupClientRequest {
        agency_id: agency,
        client_id: client.to_string(),
    };
    let found = directory
        .lookup_client(look(one.text()))
        .await
        .expect("found")
        .into_inner()
        .client
        .expect("a client");
    assert_eq!(found.id, Some(client.to_string()));
    let elsewhere = directory
        .lookup_client(look(two.text()))
        .await
        .expect_err("not theirs");
    assert_eq!(elsewhere.code(), Code::NotFound);
    let mut itself = ClientDirectoryServiceClient::new(world.channel(ServiceName::Identity));
    let refused = itself
        .lookup_client(look(one.text()))
        .await
        .expect_err("not listed");
    assert_eq!(refused.code(), Code::PermissionDenied);
}
