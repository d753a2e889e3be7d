//! What an API key may: what it lists, what its member may, never more than whoever made it.

use mainstay_proto::errors::v1::GrantExceedsOwn;
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::{ClientId, MemberId, ServiceName};
use tonic::Code;

use crate::keys::{make, revoke, rotate};
use crate::world::{World, new_client, new_key, reason};

#[tokio::test]
async fn a_key_does_what_it_lists_and_nothing_else() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let made = make(&agency, new_key(None, &["identity.clients.read"])).await;
    let secret = made.secret.clone().expect("shown once");
    assert!(secret.starts_with("msk_"));
    let holder = world.holder(&secret).await;
    holder
        .clients()
        .list_clients(proto::ListClientsRequest::default())
        .await
        .expect("it may read");
    let denied = holder
        .clients()
        .create_client(new_client("Acme"))
        .await
        .expect_err("it may not create");
    assert_eq!(reason(&denied), ErrorReason::PermissionDenied);
    let me = holder
        .account()
        .get_me(proto::GetMeRequest {})
        .await
        .expect("itself")
        .into_inner();
    assert_eq!(me.principal, made.id);
    assert_eq!(me.person, None);
    assert_eq!(me.grants[0].permissions, ["identity.clients.read"]);
}

#[tokio::test]
async fn a_clients_key_reaches_that_client_and_makes_nothing_for_the_agency() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let (mine, yours) = (agency.client("Mine").await, agency.client("Yours").await);
    let made = make(
        &agency,
        new_key(
            Some(mine),
            &["identity.clients.read", "identity.clients.update"],
        ),
    )
    .await;
    let holder = world.holder(&made.secret.expect("shown once")).await;
    let read = |id: ClientId| proto::GetClientRequest {
        client_id: id.to_string(),
    };
    holder
        .clients()
        .get_client(read(mine))
        .await
        .expect("its own");
    assert_eq!(
        holder
            .clients()
            .get_client(read(yours))
            .await
            .expect_err("not its")
            .code(),
        Code::NotFound
    );
    assert_eq!(
        holder
            .clients()
            .list_clients(proto::ListClientsRequest::default())
            .await
            .expect("a page")
            .into_inner()
            .data
            .len(),
        1
    );
    let agencys = new_key(Some(mine), &["identity.clients.create"]);
    let refused = agency
        .owner
        .keys()
        .create_api_key(agencys)
        .await
        .expect_err("held for the agency");
    assert_eq!(reason(&refused), ErrorReason::InvalidRequest);
    // When the client goes, so does the key.
    world
        .postgres
        .execute("update identity.client set state = 'canceled'")
        .await;
    let again = make(&agency, new_key(Some(mine), &["identity.clients.read"])).await;
    assert_eq!(
        world
            .exchange(&again.secret.expect("shown"))
            .await
            .expect_err("gone")
            .code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn nobody_makes_or_rotates_a_key_that_may_more_than_they() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mine = agency.client("Mine").await;
    let own = ["identity.api_keys.create", "identity.clients.read"];
    let maker = agency.signed_in(MemberId::generate(), &own, None);
    maker
        .keys()
        .create_api_key(new_key(None, &["identity.clients.read"]))
        .await
        .expect("what it has");
    let more = new_key(None, &["identity.clients.read", "identity.clients.update"]);
    let problem = Problem::from_status(&maker.keys().create_api_key(more).await.expect_err("more"));
    assert_eq!(problem.reason(), ErrorReason::GrantExceedsOwn);
    let lacking = problem
        .data_as::<GrantExceedsOwn>()
        .expect("detail")
        .permissions;
    assert_eq!(lacking, ["identity.clients.update"]);

    // Held for one client, it is given for that one and no other, and not for the agency.
    let split = vec![
        mainstay_rpc::Grant {
            permissions: vec!["identity.api_keys.create".into()],
            clients: None,
        },
        mainstay_rpc::Grant {
            permissions: vec!["identity.clients.update".into()],
            clients: Some(vec![mine]),
        },
    ];
    let some = world.member(agency.id, MemberId::generate(), split);
    some.keys()
        .create_api_key(new_key(Some(mine), &["identity.clients.update"]))
        .await
        .expect("for mine");
    for reach in [None, Some(ClientId::generate())] {
        let refused = some
            .keys()
            .create_api_key(new_key(reach, &["identity.clients.update"]))
            .await;
        assert_eq!(
            reason(&refused.expect_err("beyond mine")),
            ErrorReason::GrantExceedsOwn
        );
    }

    // A new secret of the owner's key would be the owner's power.
    let owners = Some(agency.ensured.api_key.to_string());
    let stolen = maker
        .keys()
        .rotate_api_key(rotate(&owners, None))
        .await
        .expect_err("the owner's");
    assert_eq!(reason(&stolen), ErrorReason::GrantExceedsOwn);
    agency
        .owner
        .keys()
        .rotate_api_key(rotate(&owners, None))
        .await
        .expect("its own");
}

#[tokio::test]
async fn a_members_key_may_what_its_member_may_as_that_changes() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let me = agency
        .owner
        .account()
        .get_me(proto::GetMeRequest {})
        .await
        .expect("itself")
        .into_inner();
    assert_eq!(
        me.person.expect("the owner").email.as_deref(),
        Some("owner@one.test")
    );
    agency.add("Second", "owner").await;
    let demote = proto::SetMemberRoleRequest {
        member_id: agency.ensured.owner.to_string(),
        role: Some("viewer".into()),
        client_ids: None,
    };
    agency
        .owner
        .members()
        .set_member_role(demote)
        .await
        .expect("a second owner remains");
    let viewer = world.holder(&agency.secret).await;
    let refused = viewer
        .clients()
        .create_client(new_client("Acme"))
        .await
        .expect_err("a viewer");
    assert_eq!(reason(&refused), ErrorReason::PermissionDenied);
    world.postgres.execute("set search_path = identity; update identity.member set state = 'deactivated' where name = 'Olga Owner'").await;
    assert_eq!(
        world
            .exchange(&agency.secret)
            .await
            .expect_err("deactivated")
            .code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn another_agencys_key_is_as_unknown_as_none() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let theirs = make(&two, new_key(None, &["identity.clients.read"])).await;
    let unknown = Some(mainstay_types::ApiKeyId::generate().to_string());
    let foreign = one
        .owner
        .keys()
        .revoke_api_key(revoke(&theirs.id))
        .await
        .expect_err("foreign");
    let nobody = one
        .owner
        .keys()
        .revoke_api_key(revoke(&unknown))
        .await
        .expect_err("unknown");
    assert_eq!(
        (foreign.code(), foreign.message(), foreign.details()),
        (nobody.code(), nobody.message(), nobody.details())
    );
    world
        .exchange(&theirs.secret.expect("shown once"))
        .await
        .expect("it still opens");
    // A client of another agency in a new key: as unknown as none.
    let client = two.client("Theirs").await;
    let foreign = one
        .owner
        .keys()
        .create_api_key(new_key(Some(client), &["identity.clients.read"]))
        .await
        .expect_err("foreign");
    let nobody = one
        .owner
        .keys()
        .create_api_key(new_key(
            Some(ClientId::generate()),
            &["identity.clients.read"],
        ))
        .await
        .expect_err("unknown");
    assert_eq!(
        (foreign.code(), foreign.message(), foreign.details()),
        (nobody.code(), nobody.message(), nobody.details())
    );
}

#[tokio::test]
async fn only_the_gateway_exchanges_credentials() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut messaging = proto::credential_service_client::CredentialServiceClient::new(
        world.channel(ServiceName::Messaging),
    );
    let request = proto::ExchangeCredentialRequest {
        credential: agency.secret.clone(),
    };
    assert_eq!(
        messaging
            .exchange_credential(request)
            .await
            .expect_err("not listed")
            .code(),
        Code::PermissionDenied
    );
}
