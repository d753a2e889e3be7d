//! Time, size and number are bounded, and whoever meets a bound is told which.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use mainstay_proto::errors::v1::{ErrorReason, GrantExceedsOwn};
use mainstay_rpc::{Limits, Problem, Schema, ServiceName};
use mainstay_types::AgencyId;
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::harness::{House, as_actor, create, get, long_path, update};

#[tokio::test]
async fn a_call_ends_with_its_callers_time() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    let mut request = as_actor(&token, update(client, "wait"));
    request.set_timeout(Duration::from_millis(200));
    let late = house
        .client()
        .update_client(request)
        .await
        .expect_err("never ends by itself");
    assert_eq!(
        (late.code(), Problem::from_status(&late).reason()),
        (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded)
    );
}

#[tokio::test]
async fn a_call_ends_with_our_time_when_its_caller_has_more() {
    let house = House::with(Limits {
        request: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    let mut request = as_actor(&token, update(client, "wait"));
    request.set_timeout(Duration::from_secs(60));
    let late = house
        .client()
        .update_client(request)
        .await
        .expect_err("never ends by itself");
    assert_eq!(
        Problem::from_status(&late).reason(),
        ErrorReason::DeadlineExceeded
    );
}

#[tokio::test]
async fn beyond_its_limit_a_role_refuses_at_once() {
    let house = House::with(Limits {
        concurrent_requests: 1,
        ..Limits::default()
    })
    .await;
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    let (mut first, request) = (house.client(), as_actor(&token, update(client, "wait")));
    let first = tokio::spawn(async move { first.update_client(request).await });
    house.handlers.entered.notified().await;

    let refused = house
        .client()
        .update_client(as_actor(&token, update(client, "x")))
        .await
        .expect_err("full");
    let problem = Problem::from_status(&refused);
    assert_eq!(
        (problem.reason(), problem.retry_after_seconds()),
        (ErrorReason::Unavailable, Some(1))
    );

    house.handlers.go_on.notify_one();
    first.await.expect("ran").expect("was served");
    assert!(
        house
            .client()
            .update_client(as_actor(&token, update(client, "x")))
            .await
            .is_ok()
    );
}

/// A call whose body is written by hand.
async fn post(house: &House, token: &str, body: Bytes) -> Status {
    let request = http::Request::post("/mainstay.identity.v1.ClientService/CreateClient")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::new(Full::new(body)))
        .expect("a request");
    let response = house
        .channel(&house.gateway)
        .call(request)
        .await
        .expect("an answer");
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""))
}

fn frame(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put_slice(message);
    frame.freeze()
}

#[tokio::test]
async fn what_is_not_one_plain_message_within_the_limit_is_refused() {
    let house = House::with(Limits {
        message_bytes: 1000,
        ..Limits::default()
    })
    .await;
    let token = house.owner(AgencyId::generate());
    let message = create("Acme").encode_to_vec();
    let length = u32::try_from(message.len()).expect("small");
    let reason = |status: Status| Problem::from_status(&status).reason();

    assert_eq!(
        post(&house, &token, frame(0, length, &message))
            .await
            .code(),
        Code::Ok
    );
    assert_eq!(
        reason(post(&house, &token, frame(0, 2000, &[b'x'; 2000])).await),
        ErrorReason::PayloadTooLarge
    );
    for wrong in [
        Bytes::new(),
        frame(1, length, &message),
        frame(0, length + 1, &message),
        frame(0, length - 1, &message),
        frame(0, 3, &[0xff, 0xff, 0xff]),
    ] {
        assert_eq!(
            reason(post(&house, &token, wrong.clone()).await),
            ErrorReason::InvalidRequest,
            "{wrong:?}"
        );
    }
    assert_eq!(house.handlers.calls(), 1);
}

#[tokio::test]
async fn the_gateway_sends_and_gets_bytes() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    let method = Schema::mainstay()
        .method("/mainstay.identity.v1.ClientService/GetClient")
        .expect("declared");
    let bytes = Bytes::from(get(client).encode_to_vec());
    let answer = house
        .channel(&house.gateway)
        .call_raw(method, as_actor(&token, bytes))
        .await
        .expect("an answer");
    let answer =
        mainstay_proto::identity::v1::Client::decode(answer.into_inner()).expect("a client");
    assert_eq!(answer.id, Some(client.to_string()));
}

#[tokio::test]
async fn a_large_refusal_comes_through_and_the_connection_stays() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    let mut clients = house.client();
    // Another call on the same connection, in hand all the while.
    let (mut other, request) = (clients.clone(), as_actor(&token, update(client, "wait")));
    let other = tokio::spawn(async move { other.update_client(request).await });
    house.handlers.entered.notified().await;

    let mut refused = async |name: &str| {
        let refused = clients.update_client(as_actor(&token, update(client, name)));
        let problem = Problem::from_status(&refused.await.expect_err("refused"));
        assert_eq!(
            problem.reason(),
            ErrorReason::GrantExceedsOwn,
            "{problem:?}"
        );
        problem
    };
    let lacking = refused("refuse 200 permissions").await;
    let lacking = lacking.data_as::<GrantExceedsOwn>().expect("the detail");
    assert_eq!(lacking.permissions.len(), 200);

    let faults = refused("refuse 100 faults").await;
    let expected: Vec<String> = (0..100).map(long_path).collect();
    let fields: Vec<&String> = faults.errors().iter().map(|fault| &fault.field).collect();
    assert_eq!(fields, expected.iter().collect::<Vec<_>>());

    let bounded = refused("refuse 10000 faults").await;
    let closing = bounded.errors().last().expect("faults");
    assert_eq!(closing.field, "");
    let more = 10_000 - (bounded.errors().len() - 1);
    assert!(
        closing.message.starts_with(&format!("{more} more")),
        "{closing:?}"
    );

    house.handlers.go_on.notify_one();
    other.await.expect("ran").expect("was answered");
}

#[tokio::test]
async fn a_service_without_an_address_is_unavailable_and_not_a_panic() {
    let house = House::build().await;
    let channels = mainstay_rpc::Channels::new(house.gateway.clone(), []).expect("none");
    let mut plans = mainstay_proto::billing::v1::plan_service_client::PlanServiceClient::new(
        channels.channel(ServiceName::Billing),
    );
    let refused = plans
        .list_plans(mainstay_proto::billing::v1::ListPlansRequest::default())
        .await
        .expect_err("no address");
    assert_eq!(
        Problem::from_status(&refused).reason(),
        ErrorReason::Unavailable
    );
}
