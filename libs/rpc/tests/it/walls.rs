//! 401, then 404, then 403; and what is out of sight is, byte for byte, what does not exist.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_proto::errors::v1::{ErrorReason, PermissionDenied};
use mainstay_proto::identity::v1::account_service_client::AccountServiceClient;
use mainstay_proto::identity::v1::client_directory_service_client::ClientDirectoryServiceClient;
use mainstay_proto::identity::v1::{
    CreateClientRequest, GetMeRequest, ListClientsRequest, LookupClientRequest,
};
use mainstay_rpc::{Actor, Problem, ServiceKey, ServiceName, Visible};
use mainstay_types::{AgencyId, ApiKeyId, ClientId};
use tonic::{Code, Request, Status};

use crate::harness::{CREATE, House, READ, UPDATE, as_actor, create, get, grant, update};

fn reason(status: &Status) -> ErrorReason {
    Problem::from_status(status).reason()
}

/// Everything that a caller can see of a refusal.
fn seen(status: &Status) -> String {
    format!(
        "{:?} {:?} {:?}",
        status.code(),
        status.message(),
        status.details()
    )
}

#[tokio::test]
async fn nobody_calls_without_saying_who_calls_and_who_acts() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let client = house.clients.make(agency);

    let missing = house
        .client()
        .get_client(get(client))
        .await
        .expect_err("no actor");
    assert_eq!(reason(&missing), ErrorReason::Unauthenticated);

    let forged = house.gateway.actor_token(
        &Actor::ApiKey {
            key: ApiKeyId::generate(),
        },
        agency,
        vec![grant(&[READ], None)],
        1,
        Duration::from_secs(30),
    );
    let refused = house
        .client()
        .get_client(as_actor(&forged.0, get(client)))
        .await
        .expect_err("not identity's token");
    assert_eq!(reason(&refused), ErrorReason::Unauthenticated);

    let stranger = Arc::new(ServiceKey::generate(ServiceName::Gateway));
    let mut strange = mainstay_proto::identity::v1::client_service_client::ClientServiceClient::new(
        house.channel(&stranger),
    );
    let refused = strange
        .get_client(as_actor(&house.owner(agency), get(client)))
        .await
        .expect_err("not our gateway");
    assert_eq!(reason(&refused), ErrorReason::Unauthenticated);

    let bare = tonic::transport::Endpoint::from_shared(house.address.clone())
        .expect("an address")
        .connect_lazy();
    let mut bare =
        mainstay_proto::identity::v1::client_service_client::ClientServiceClient::new(bare);
    let refused = bare
        .get_client(as_actor(&house.owner(agency), get(client)))
        .await
        .expect_err("no service");
    assert_eq!(reason(&refused), ErrorReason::Unauthenticated);
    assert_eq!(house.handlers.calls(), 0);
}

#[tokio::test]
async fn what_is_out_of_sight_is_answered_as_what_does_not_exist() {
    let house = House::build().await;
    let (agency, other) = (AgencyId::generate(), AgencyId::generate());
    let (mine, theirs) = (house.clients.make(agency), house.clients.make(other));
    let hidden = house.clients.make(agency);
    let narrow = house.token(agency, vec![grant(&[READ], Some(&[mine]))]);
    let owner = house.owner(agency);

    let nowhere = house
        .client()
        .get_client(as_actor(&owner, get(ClientId::generate())))
        .await
        .expect_err("nowhere");
    assert_eq!(reason(&nowhere), ErrorReason::NotFound);
    for (token, client) in [
        (&owner, theirs),
        (&narrow, theirs),
        (&narrow, hidden),
        (&narrow, ClientId::generate()),
    ] {
        let refused = house
            .client()
            .get_client(as_actor(token, get(client)))
            .await
            .expect_err("out of sight");
        assert_eq!(seen(&refused), seen(&nowhere));
    }
    assert!(
        house
            .client()
            .get_client(as_actor(&narrow, get(mine)))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn not_found_comes_before_not_permitted() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let (mine, hidden) = (house.clients.make(agency), house.clients.make(agency));
    let reader = house.token(agency, vec![grant(&[READ], Some(&[mine]))]);
    let refused = house
        .client()
        .update_client(as_actor(&reader, update(hidden, "x")))
        .await
        .expect_err("hidden");
    assert_eq!(reason(&refused), ErrorReason::NotFound);
    let refused = house
        .client()
        .update_client(as_actor(&reader, update(mine, "x")))
        .await
        .expect_err("no permission");
    let problem = Problem::from_status(&refused);
    assert_eq!(problem.reason(), ErrorReason::PermissionDenied);
    assert_eq!(
        problem
            .data_as::<PermissionDenied>()
            .expect("a detail")
            .permission,
        UPDATE
    );
    assert_eq!(house.handlers.calls(), 0);
}

#[tokio::test]
async fn a_permission_for_some_clients_is_not_one_for_the_agency() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let mine = house.clients.make(agency);
    let narrow = house.token(agency, vec![grant(&[CREATE], Some(&[mine]))]);
    let refused = house
        .client()
        .create_client(as_actor(&narrow, create("Acme")))
        .await
        .expect_err("not the agency's");
    assert_eq!(reason(&refused), ErrorReason::PermissionDenied);
    assert!(
        house
            .client()
            .create_client(as_actor(&house.owner(agency), create("Acme")))
            .await
            .is_ok()
    );
    assert_eq!(house.handlers.last().agency_scope().visible, Visible::All);
}

#[tokio::test]
async fn a_list_shows_the_clients_of_all_grants_that_hold_the_permission() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let (a, b, c) = (
        house.clients.make(agency),
        house.clients.make(agency),
        house.clients.make(agency),
    );
    let grants = vec![
        grant(&[READ], Some(&[b, a])),
        grant(&[READ, UPDATE], Some(&[a])),
        grant(&[UPDATE], Some(&[c])),
    ];
    let token = house.token(agency, grants);
    let list = house
        .client()
        .list_clients(as_actor(&token, ListClientsRequest::default()))
        .await
        .expect("a list")
        .into_inner();
    let mut shown: Vec<String> = list
        .data
        .into_iter()
        .filter_map(|client| client.id)
        .collect();
    let mut expected = vec![a.to_string(), b.to_string()];
    shown.sort();
    expected.sort();
    assert_eq!(shown, expected);

    let none = house.token(agency, vec![grant(&[UPDATE], None)]);
    let refused = house
        .client()
        .list_clients(as_actor(&none, ListClientsRequest::default()))
        .await
        .expect_err("no grant");
    assert_eq!(reason(&refused), ErrorReason::PermissionDenied);
}

#[tokio::test]
async fn anyone_who_is_someone_may_ask_who_they_are() {
    let house = House::build().await;
    let key = ApiKeyId::generate();
    let (token, _) = house.identity.actor_token(
        &Actor::ApiKey { key },
        AgencyId::generate(),
        vec![],
        1,
        Duration::from_secs(30),
    );
    let mut account = AccountServiceClient::new(house.channel(&house.gateway));
    let me = account
        .get_me(as_actor(&token, GetMeRequest {}))
        .await
        .expect("me")
        .into_inner();
    assert_eq!(me.principal, Some(key.to_string()));
    assert_eq!(
        reason(&account.get_me(GetMeRequest {}).await.expect_err("nobody")),
        ErrorReason::Unauthenticated
    );
}

#[tokio::test]
async fn only_listed_services_call_what_is_for_services() {
    let house = House::build().await;
    let question = || LookupClientRequest {
        agency_id: AgencyId::generate().to_string(),
        client_id: ClientId::generate().to_string(),
    };
    let mut messaging = ClientDirectoryServiceClient::new(house.channel(&house.messaging));
    assert!(messaging.lookup_client(question()).await.is_ok());
    let context = house.handlers.last();
    assert_eq!(
        (context.principal().as_str(), context.caller),
        ("service:messaging", ServiceName::Messaging)
    );
    // Identity is not among its own callers.
    let mut identity = ClientDirectoryServiceClient::new(house.channel(&house.identity));
    assert_eq!(
        reason(
            &identity
                .lookup_client(question())
                .await
                .expect_err("not listed")
        ),
        ErrorReason::PermissionDenied
    );
}

#[tokio::test]
async fn a_service_that_may_not_call_is_not_told_what_is_wrong_with_its_request() {
    let house = House::build().await;
    let faulty = LookupClientRequest {
        agency_id: ClientId::generate().to_string(),
        client_id: "none".to_owned(),
    };
    let mut messaging = ClientDirectoryServiceClient::new(house.channel(&house.messaging));
    let told = messaging.lookup_client(faulty.clone()).await;
    assert_eq!(
        reason(&told.expect_err("no such ids")),
        ErrorReason::InvalidRequest
    );
    let mut identity = ClientDirectoryServiceClient::new(house.channel(&house.identity));
    let told = identity.lookup_client(faulty).await;
    assert_eq!(
        reason(&told.expect_err("not listed")),
        ErrorReason::PermissionDenied
    );
    assert_eq!(house.handlers.calls(), 0);
}

#[tokio::test]
async fn every_field_at_fault_is_named_before_anything_is_done() {
    let house = House::build().await;
    let token = house.owner(AgencyId::generate());
    let request = CreateClientRequest {
        phone: Some("12".to_owned()),
        ..CreateClientRequest::default()
    };
    let refused = house
        .client()
        .create_client(as_actor(&token, request))
        .await
        .expect_err("not valid");
    let problem = Problem::from_status(&refused);
    assert_eq!(
        (refused.code(), problem.reason()),
        (Code::InvalidArgument, ErrorReason::InvalidRequest)
    );
    let mut fields: Vec<&str> = problem
        .errors()
        .iter()
        .map(|error| error.field.as_str())
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["email", "name", "phone", "time_zone"]);

    let wrong = mainstay_proto::identity::v1::GetClientRequest {
        client_id: AgencyId::generate().to_string(),
    };
    let refused = house
        .client()
        .get_client(as_actor(&token, wrong))
        .await
        .expect_err("an agency's id");
    assert_eq!(reason(&refused), ErrorReason::InvalidRequest);
    assert_eq!(house.handlers.calls(), 0);
}

#[tokio::test]
async fn a_client_is_looked_up_once_when_it_is_there_and_again_when_it_is_not() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let (client, nowhere, token) = (
        house.clients.make(agency),
        ClientId::generate(),
        house.owner(agency),
    );
    for _ in 0..3 {
        house
            .client()
            .get_client(as_actor(&token, get(client)))
            .await
            .expect("there");
        house
            .client()
            .get_client(as_actor(&token, get(nowhere)))
            .await
            .expect_err("not there");
    }
    assert_eq!(house.clients.asked.load(Ordering::Relaxed), 1 + 3);
}

#[tokio::test]
async fn a_handler_is_told_who_when_and_by_which_name() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let client = house.clients.make(agency);
    let mut request = as_actor(&house.owner(agency), update(client, "Acme"));
    request.set_timeout(Duration::from_secs(7));
    request
        .metadata_mut()
        .insert("idempotency-key", "key-1".parse().expect("ascii"));
    request
        .metadata_mut()
        .insert("x-request-id", "req-from-outside".parse().expect("ascii"));
    house
        .client()
        .update_client(request)
        .await
        .expect("updated");
    let context = house.handlers.last();
    assert_eq!((context.agency, context.tenant().client), (agency, client));
    assert_eq!(context.idempotency_key.as_deref(), Some("key-1"));
    assert_eq!(context.request_id, "req-from-outside");
    assert!(context.remaining() <= Duration::from_secs(7));
    assert!(context.principal().starts_with("mem_"));
    assert_eq!(context.method.name, "UpdateClient");

    // A name that could break a log line is replaced by one of ours.
    let mut request = as_actor(&house.owner(agency), get(client));
    request
        .metadata_mut()
        .insert("x-request-id", "a b\"c".parse().expect("ascii"));
    house.client().get_client(request).await.expect("there");
    assert!(house.handlers.last().request_id.starts_with("req_"));
}

#[tokio::test]
async fn what_fails_inside_says_nothing_outside() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    for name in ["panic", "bug", "raw status"] {
        let failed = house
            .client()
            .update_client(as_actor(&token, update(client, name)))
            .await
            .expect_err("fails");
        let problem = Problem::from_status(&failed);
        assert_eq!(
            (problem.reason(), problem.detail()),
            (ErrorReason::Internal, "Internal error."),
            "{name}"
        );
        let shown = format!("{} {:?}", seen(&failed), failed.metadata());
        for inside in ["Mike", "relation", "10.0.0.7"] {
            assert!(!shown.contains(inside), "{shown}");
        }
    }
    assert!(
        house
            .client()
            .get_client(as_actor(&token, get(client)))
            .await
            .is_ok(),
        "the role goes on"
    );
}

#[tokio::test]
async fn a_method_of_another_role_is_not_here() {
    let house = House::build().await;
    let token = house.owner(AgencyId::generate());
    let mut plans = mainstay_proto::billing::v1::plan_service_client::PlanServiceClient::new(
        house.channel(&house.gateway),
    );
    let request: Request<_> = as_actor(
        &token,
        mainstay_proto::billing::v1::ListPlansRequest::default(),
    );
    assert_eq!(
        plans
            .list_plans(request)
            .await
            .expect_err("not here")
            .code(),
        Code::Unimplemented
    );
}

#[tokio::test]
async fn an_actor_narrowed_to_thousands_of_clients_still_gets_through() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let mine = house.clients.make(agency);
    let mut clients: Vec<ClientId> = (0..3000).map(|_| ClientId::generate()).collect();
    clients.push(mine);
    let token = house.token(agency, vec![grant(&[READ], Some(&clients))]);
    assert!(
        house
            .client()
            .get_client(as_actor(&token, get(mine)))
            .await
            .is_ok()
    );
}
