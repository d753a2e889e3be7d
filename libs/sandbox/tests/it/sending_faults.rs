//! What code that sends has to survive: answers that never come, half of the requests refused, connections cut, webhooks
//! twice, late, in any order or never.

use serde_json::{Value, json};

use crate::client::Simulator;
use crate::receiver::Receiver;
use crate::twilio::{OURS, PERSON};

const FORM: [(&str, &str); 3] = [("To", PERSON), ("From", OURS), ("Body", "Hello")];

fn fault(kind: &str, operation: &str, more: Value) -> Value {
    let mut fault = json!({ "provider": "twilio", "operation": operation, "kind": kind });
    for (name, value) in more.as_object().expect("fields") {
        fault[name] = value.clone();
    }
    fault
}

async fn messages(twilio: &Simulator) -> usize {
    let ledger = twilio.twilio_ledger().await;
    ledger["messages"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn an_answer_that_never_comes_leaves_a_message_that_is_told_of_and_found() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    let mut receiver = Receiver::start().await;
    let callback = format!("{}/?attempt=1", receiver.url);
    twilio
        .fault(fault(
            "timeout_after_effect",
            "messages.create",
            json!({ "value": 600, "count": 1 }),
        ))
        .await;
    let form = [&FORM[..], &[("StatusCallback", callback.as_str())]].concat();
    let held = tokio::spawn(twilio.twilio("POST", "Messages.json").form(&form).send());
    let told = receiver.next().await;
    assert_eq!(told.path, "/?attempt=1");
    held.abort();
    let found = twilio
        .twilio_get("Messages.json?To=%2B15125550123&From=%2B15125550100")
        .await;
    assert_eq!(
        found["messages"][0]["sid"].as_str().map(str::to_owned),
        told.field("MessageSid")
    );
    assert_eq!(messages(&twilio).await, 1);
}

#[tokio::test]
async fn half_of_the_requests_are_refused_and_those_leave_nothing() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    twilio
        .fault(fault(
            "status",
            "messages.create",
            json!({ "value": 429, "rate": 0.5, "seed": 7 }),
        ))
        .await;
    let mut accepted = 0;
    for _ in 0..40 {
        let answer = twilio.text(&FORM).await;
        match answer.status {
            201 => accepted += 1,
            429 => assert_eq!(
                (&answer.body["code"], &answer.body["message"]),
                (&json!(20429), &json!("Too Many Requests"))
            ),
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert!((10..=30).contains(&accepted), "{accepted}");
    assert_eq!(messages(&twilio).await, accepted);
}

#[tokio::test]
async fn a_server_error_and_a_cut_connection_leave_nothing() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    for (status, code) in [(500, 20500), (503, 20503), (401, 20003)] {
        twilio
            .fault(fault(
                "status",
                "messages.*",
                json!({ "value": status, "count": 1 }),
            ))
            .await;
        let answer = twilio.text(&FORM).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (status, &json!(code))
        );
    }
    twilio
        .fault(fault(
            "drop",
            "POST /2010-04-01/Accounts/{AccountSid}/Messages.json",
            json!({ "count": 1 }),
        ))
        .await;
    let cut = twilio
        .twilio("POST", "Messages.json")
        .form(&FORM)
        .send()
        .await;
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(messages(&twilio).await, 0);
    // The list may fail too, when it is needed most.
    twilio
        .fault(fault(
            "status",
            "messages.list",
            json!({ "value": 500, "count": 1 }),
        ))
        .await;
    assert_eq!(twilio.text(&FORM).await.status, 201);
    assert_eq!(
        twilio
            .send(twilio.twilio("GET", "Messages.json"))
            .await
            .status,
        500
    );
    let stripes = fault("drop", "customers.create", json!({}));
    assert_eq!(twilio.control("POST", "/faults", stripes).await.status, 400);
}

#[tokio::test]
async fn status_callbacks_come_twice_in_reverse_or_never() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    let mut receiver = Receiver::start().await;
    let callback = receiver.url.clone();
    let form = [&FORM[..], &[("StatusCallback", callback.as_str())]].concat();
    twilio
        .fault(fault(
            "duplicate_webhook",
            "message.delivered",
            json!({ "count": 1 }),
        ))
        .await;
    twilio.text(&form).await;
    let mut statuses: Vec<_> = receiver
        .take(3)
        .await
        .iter()
        .filter_map(|t| t.field("MessageStatus"))
        .collect();
    statuses.sort();
    assert_eq!(statuses, ["delivered", "delivered", "sent"]);

    twilio
        .fault(fault(
            "never_webhook",
            "messages.create",
            json!({ "count": 2 }),
        ))
        .await;
    twilio.text(&form).await;
    twilio.until_told().await;
    assert!(receiver.rest().is_empty());
    assert_eq!(
        twilio.received(PERSON).await.len(),
        2,
        "the person has it all the same"
    );

    twilio
        .fault(fault(
            "reorder_webhooks",
            "messages.create",
            json!({ "value": 600_000 }),
        ))
        .await;
    twilio.text(&form).await;
    let held = twilio
        .until("/_/deliveries?provider=twilio", |body| {
            body["data"].as_array().map(Vec::len) == Some(2)
        })
        .await;
    let due = |kind: &str| -> i64 {
        let held = held["data"].as_array().expect("some");
        let found = held
            .iter()
            .find(|one| one["type"] == kind)
            .expect("held back");
        found["due_in_ms"].as_i64().expect("a time")
    };
    assert!(due("message.delivered") < due("message.sent"));
    let stripes = twilio
        .control("GET", "/stripe/deliveries", json!({}))
        .await
        .ok();
    assert_eq!(stripes["data"], json!([]));
}
