//! What those who carry messages tell of reaches messaging with its agency and, where a number tells it, its client.

use mainstay_proto::integrations::v1 as proto;
use mainstay_proto::messaging::v1::ProviderEventOutcome;
use mainstay_types::{ClientId, ProviderAccountId};
use tonic::Status;

use crate::agency::{TOKEN, World, answer, sender, twilio};

const NUMBER: &str = "+15125550199";

fn webhook(account: &str, key: &str, kind: &str, body: &str) -> proto::Webhook {
    proto::Webhook {
        provider: "twilio".to_owned(),
        account: account.to_owned(),
        event_key: key.to_owned(),
        r#type: kind.to_owned(),
        body: body.to_owned().into(),
        content_type: "application/x-www-form-urlencoded".to_owned(),
        received_at: Some(prost_types::Timestamp {
            seconds: 1_800_000_000,
            nanos: 0,
        }),
        traceparent: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_to_a_number_is_handed_over_for_the_client_that_has_it() {
    let mut world = World::new().await;
    let (agency, client, account) = {
        let agency = world.agency();
        let made = agency.add(twilio(TOKEN)).await;
        let sms = proto::SenderChannel::Sms;
        let own = sender(&made, sms, NUMBER, Some(agency.client));
        agency.add_sender(own).await.expect("a sender");
        (agency.id, agency.client, made.id.unwrap_or_default())
    };
    let body = "MessageSid=SM1&From=%2B15125550100&To=%2B15125550199&Body=+STOP+";
    let received = webhook(&account, "SM1", "message.received", body);
    world.store(received.clone()).await;
    // The same again is the same.
    world.store(received).await;
    let heard = world.messaging_hears().await;
    assert_eq!(heard.agency_id, agency.to_string());
    assert_eq!(heard.client_id, Some(client.to_string()));
    assert_eq!(heard.account_id.as_deref(), Some(account.as_str()));
    assert_eq!(
        [
            &heard.provider,
            &heard.event_key,
            &heard.r#type,
            &heard.content_type
        ],
        [
            "twilio",
            "SM1",
            "message.received",
            "application/x-www-form-urlencoded"
        ]
    );
    assert_eq!(heard.body, body.as_bytes(), "untrimmed, and not re-written");
    assert_eq!(heard.received_at.map(|at| at.seconds), Some(1_800_000_000));
    assert!(heard.webhook_event_id.starts_with("whe_"), "{heard:?}");

    // A status is of a message that left from there; mail's are of nobody that an address could tell.
    let status = "MessageSid=SM2&MessageStatus=delivered&From=%2B15125550199&To=%2B15125550100";
    world
        .store(webhook(&account, "SM2/delivered", "message.status", status))
        .await;
    assert_eq!(
        world.messaging_hears().await.client_id,
        Some(client.to_string())
    );
    world
        .store(webhook(
            &account,
            "SM3",
            "message.received",
            "MessageSid=SM3&To=%2B15125550111",
        ))
        .await;
    assert_eq!(world.messaging_hears().await.client_id, None);
    let database = world.stop().await;
    let processed = "select count(*) from integrations.webhook_event where state = 'processed' and outcome = 'applied'";
    assert_eq!(database.count(processed).await, 3);
    let theirs = format!(
        "select count(*) from integrations.webhook_event where agency_id = '{}' and tenant_id = '{}'",
        agency.uuid(),
        client.uuid()
    );
    assert_eq!(database.count(&theirs).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_messaging_cannot_take_yet_comes_again_and_what_it_says_stands_in_the_row() {
    let mut world = World::new().await;
    let (agency, account) = {
        let agency = world.agency();
        (
            agency.id,
            agency.add(twilio(TOKEN)).await.id.unwrap_or_default(),
        )
    };
    let client = ClientId::generate();
    world.messaging_says(Ok(answer(ProviderEventOutcome::Retry)));
    world.messaging_says(Err(Status::unknown("connection reset")));
    world.messaging_says(Ok(answer(ProviderEventOutcome::Unspecified)));
    let mut known = answer(ProviderEventOutcome::Duplicate);
    known.client_id = Some(client.to_string());
    world.messaging_says(Ok(known));
    world
        .store(webhook(
            &account,
            "SM1/sent",
            "message.status",
            "MessageSid=SM1",
        ))
        .await;
    for _ in 0..4 {
        assert_eq!(world.messaging_hears().await.event_key, "SM1/sent");
    }
    let processed = format!(
        "select count(*) from integrations.webhook_event where state = 'processed' and attempts = 4
         and outcome = 'had its effect before' and agency_id = '{}' and tenant_id = '{}'",
        agency.uuid(),
        client.uuid()
    );
    world.until(1, &processed).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_for_nobodys_account_is_given_up_at_once_and_says_so() {
    let world = World::new().await;
    let nobodys = ProviderAccountId::generate().to_string();
    for account in [nobodys.as_str(), "default"] {
        let key = format!("SM-{account}");
        world
            .store(webhook(account, &key, "message.received", "MessageSid=SM1"))
            .await;
    }
    let dead = "select count(*) from integrations.webhook_event where state = 'dead' and error like 'no agency has the account %'";
    world.until(2, dead).await;
    world.stop().await;
}
