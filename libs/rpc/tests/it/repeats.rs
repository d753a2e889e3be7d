//! A call is tried again where that is harmless, and only there.

use std::sync::Arc;

use mainstay_proto::errors::v1::ErrorReason;
use mainstay_proto::identity::v1::ListClientsRequest;
use mainstay_proto::identity::v1::client_service_client::ClientServiceClient;
use mainstay_rpc::{Channels, Problem, ServiceKey, ServiceName};
use mainstay_types::AgencyId;

use crate::harness::{House, as_actor, create};

#[tokio::test]
async fn a_read_is_tried_again_when_the_service_cannot_now() {
    let house = House::build().await;
    let mut request = as_actor(
        &house.owner(AgencyId::generate()),
        ListClientsRequest::default(),
    );
    request
        .metadata_mut()
        .insert("x-request-id", "unavailable-twice".parse().expect("ascii"));
    house
        .client()
        .list_clients(request)
        .await
        .expect("the third time");
    assert_eq!(house.handlers.calls(), 3);
}

#[tokio::test]
async fn a_write_is_tried_again_only_with_a_key() {
    let house = House::build().await;
    let token = house.owner(AgencyId::generate());
    let refused = house
        .client()
        .create_client(as_actor(&token, create("unavailable twice")))
        .await
        .expect_err("once only");
    assert_eq!(
        Problem::from_status(&refused).reason(),
        ErrorReason::Unavailable
    );
    assert_eq!(house.handlers.calls(), 1);

    let mut request = as_actor(&token, create("unavailable twice"));
    request
        .metadata_mut()
        .insert("idempotency-key", "k1".parse().expect("ascii"));
    house
        .client()
        .create_client(request)
        .await
        .expect("the second time, the third call");
    assert_eq!(house.handlers.calls(), 3);
    assert_eq!(house.handlers.last().idempotency_key.as_deref(), Some("k1"));
}

#[tokio::test]
async fn a_service_that_is_not_there_is_said_to_be_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let key = Arc::new(ServiceKey::generate(ServiceName::Gateway));
    let channels = Channels::new(key, [(ServiceName::Identity, address)]).expect("an address");
    let mut client = ClientServiceClient::new(channels.channel(ServiceName::Identity));
    let refused = client
        .create_client(create("Acme"))
        .await
        .expect_err("nobody is there");
    let problem = Problem::from_status(&refused);
    assert_eq!(
        (problem.reason(), problem.retry_after_seconds()),
        (ErrorReason::Unavailable, Some(1))
    );
    assert_eq!(problem.detail(), "The identity service cannot be reached.");
}
