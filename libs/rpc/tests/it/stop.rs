//! A role that stops says so first, finishes what is in hand, and takes nothing new.

use std::time::Duration;

use mainstay_rpc::Limits;
use mainstay_runtime::health::Status as HealthStatus;
use mainstay_types::AgencyId;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{House, as_actor, get, update};

async fn health(house: &House) -> HealthClient<tonic::transport::Channel> {
    let endpoint =
        tonic::transport::Endpoint::from_shared(house.address.clone()).expect("an address");
    HealthClient::new(endpoint.connect().await.expect("connects"))
}

#[tokio::test]
async fn health_is_told_to_anyone_and_changes_with_the_role() {
    let house = House::build().await;
    let mut health = health(&house).await;
    let mut changes = health
        .watch(HealthCheckRequest::default())
        .await
        .expect("a watch")
        .into_inner();
    let mut next = async |wanted: ServingStatus| loop {
        let now = changes
            .message()
            .await
            .expect("a message")
            .expect("not the end")
            .status;
        if now == i32::from(wanted as u8) {
            return;
        }
    };
    next(ServingStatus::Serving).await;
    house
        .health
        .set("database", HealthStatus::Unhealthy, "gone");
    next(ServingStatus::NotServing).await;
    house.health.set("database", HealthStatus::Healthy, "");
    next(ServingStatus::Serving).await;
    house.health.drain();
    next(ServingStatus::NotServing).await;
}

#[tokio::test]
async fn what_is_in_hand_is_finished_and_nothing_new_is_taken() {
    let house = House::build().await;
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    let (mut calling, request) = (house.client(), as_actor(&token, update(client, "wait")));
    let in_hand = tokio::spawn(async move { calling.update_client(request).await });
    house.handlers.entered.notified().await;

    house.shutdown.trigger();
    house.shutdown.triggered().await;
    let mut watch = house.health.subscribe();
    watch
        .wait_for(|health| health.draining)
        .await
        .expect("says that it stops");
    assert!(!house.served.is_finished(), "a call is in hand");
    house.handlers.go_on.notify_one();
    in_hand.await.expect("ran").expect("finished");

    house.served.await.expect("ended well");
    let late = tokio::net::TcpStream::connect(house.address.trim_start_matches("http://")).await;
    assert!(late.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_off_after_the_grace() {
    let house = House::with(Limits {
        grace: Duration::from_millis(100),
        ..Limits::default()
    })
    .await;
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    assert!(
        house
            .client()
            .get_client(as_actor(&token, get(client)))
            .await
            .is_ok()
    );
    let (mut calling, request) = (house.client(), as_actor(&token, update(client, "wait")));
    let stuck = tokio::spawn(async move { calling.update_client(request).await });
    house.handlers.entered.notified().await;
    house.shutdown.trigger();
    house.served.await.expect("ended");
    stuck.abort();
}
