//! What is more than can be stored is refused so that it comes again, and counted: no webhook is dropped in silence.

use futures_util::future::join_all;
use serde_json::Value;

use crate::harness::{Answer, Harness, send, start, start_with};
use crate::webhooks::{deliver, event, now, signed};

async fn post(gateway: &Harness, id: &str) -> Answer {
    let body = event(id);
    let signature = signed("whsec_first", now(), &body);
    deliver(gateway, "/webhooks/stripe", &signature, &body).await
}

async fn post_nth(gateway: &Harness, nth: usize) -> Answer {
    post(gateway, &format!("evt_{nth}")).await
}

/// What the health report says of the gateway itself.
async fn of_gateway(gateway: &Harness) -> (Value, Vec<Value>) {
    let report = send(gateway.anonymous("GET", "/v1/health")).await.json;
    let services = report["services"].as_array().expect("services");
    let own = services
        .iter()
        .find(|service| service["name"] == "gateway")
        .expect("the gateway is one of them");
    let alerts = report["active_alerts"].as_array().expect("alerts");
    let own_alerts = alerts
        .iter()
        .filter(|alert| alert["service"] == "gateway")
        .cloned();
    (own.clone(), own_alerts.collect())
}

/// How many webhooks wait for a call to the store, as the health report says. It is made at most once a second.
async fn waiting(gateway: &Harness) -> usize {
    let (own, _) = of_gateway(gateway).await;
    let queue = &own["components"]["queues"][0];
    assert_eq!(queue["name"], "webhook_intake");
    usize::try_from(queue["ready"].as_u64().expect("a count")).expect("few")
}

#[tokio::test]
async fn webhooks_past_the_bound_are_503_and_counted_while_those_in_hand_are_kept() {
    let gateway = start_with(|settings| settings.webhook_concurrency = 2).await;
    gateway.backend.store_held.send_replace(true);
    let (gateway, backend) = (&gateway, &gateway.backend);
    let in_hand = join_all(["evt_1", "evt_2"].map(|id| post(gateway, id)));
    let beyond = async {
        let mut arrived = backend.arrived_at_store.subscribe();
        arrived
            .wait_for(|arrived| *arrived == 2)
            .await
            .expect("both");
        let refused = post(gateway, "evt_beyond").await;
        let (_, alerts) = of_gateway(gateway).await;
        backend.store_held.send_replace(false);
        (refused, alerts)
    };
    let (kept, (refused, alerts)) = tokio::join!(in_hand, beyond);
    refused.assert_problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(kept.iter().all(|answer| answer.status == 200), "{kept:?}");
    let told = alerts
        .iter()
        .find(|alert| alert["code"] == "webhooks_turned_away")
        .unwrap_or_else(|| panic!("nobody is told: {alerts:?}"));
    assert_eq!(told["severity"], "critical");
    assert_eq!(
        post(gateway, "evt_beyond").await.status,
        200,
        "it comes again"
    );
}

#[tokio::test]
async fn whatever_waits_while_calls_are_out_shares_the_next() {
    let gateway = start().await;
    gateway.backend.store_held.send_replace(true);
    let (gateway, backend) = (&gateway, &gateway.backend);
    let ids: Vec<String> = (0..50).map(|nth| format!("evt_{nth}")).collect();
    let deliveries = join_all(ids.iter().map(|id| post(gateway, id)));
    let release = async {
        // Two calls are out, one webhook is in the hand of the task that waits for a call to return, the rest waits.
        let mut arrived = backend.arrived_at_store.subscribe();
        arrived
            .wait_for(|arrived| *arrived >= 2)
            .await
            .expect("two");
        while waiting(gateway).await + *backend.arrived_at_store.borrow() < 49 {
            tokio::task::yield_now().await;
        }
        backend.store_held.send_replace(false);
    };
    let (answers, ()) = tokio::join!(deliveries, release);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let batches = backend.batches.lock().expect("a lock");
    let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 50);
    assert!(sizes.len() <= 4, "{sizes:?}");
}

#[tokio::test]
async fn a_source_past_its_rate_is_429_counted_and_told_when_to_come_back() {
    let gateway = start_with(|settings| settings.rates.webhook = 5).await;
    let gateway = &gateway;
    let answers = join_all((0..40).map(|nth| post_nth(gateway, nth))).await;
    let refused = answers
        .iter()
        .find(|answer| answer.status == 429)
        .expect("forty take less than eight seconds");
    refused.assert_problem(429, "rate_limited");
    assert!(!refused.header("retry-after").is_empty());
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.status, 200 | 429))
    );
    // The API of the same address is another matter.
    assert_eq!(send(gateway.owner("GET", "/v1/plans")).await.status, 200);
    let (_, alerts) = of_gateway(gateway).await;
    assert!(
        alerts
            .iter()
            .any(|alert| alert["code"] == "webhooks_turned_away")
    );
}

#[tokio::test]
async fn a_flood_of_webhooks_takes_nothing_from_the_api() {
    let gateway = start_with(|settings| settings.rates.address = 5).await;
    let gateway = &gateway;
    let answers = join_all((0..40).map(|nth| post_nth(gateway, nth))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(send(gateway.owner("GET", "/v1/plans")).await.status, 200);
}

#[tokio::test]
async fn forged_webhooks_are_refused_without_being_taken_for_turned_away() {
    let gateway = start().await;
    let body = event("evt_forged");
    let forged = signed("whsec_guessed", now(), &body);
    for _ in 0..3 {
        deliver(&gateway, "/webhooks/stripe", &forged, &body)
            .await
            .assert_problem(401, "signature_invalid");
    }
    let (_, alerts) = of_gateway(&gateway).await;
    assert!(alerts.is_empty(), "{alerts:?}");
    assert!(gateway.backend.batches.lock().expect("a lock").is_empty());
}
