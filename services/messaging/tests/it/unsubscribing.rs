//! The link in a mail (MSG-12): which mail carries it, through whichever provider, and what following it does.
//! Deliberately absent: the page; a journey through the gateway has that.

use futures_util::future::join_all;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::unsubscribe_service_client::UnsubscribeServiceClient;
use mainstay_rpc::{ErrorReason, ServiceChannel};
use mainstay_types::ServiceName;
use serde_json::{Value, json};
use tonic::Status;

use crate::carried::Providers;
use crate::messages::blocked;
use crate::sending::{client, quick, reached, until};
use crate::world::{Agency, World, reason};

const ANN: &str = "ann@example.test";

/// A client that sends mail from this account, with somebody who may be written to.
async fn mailing<'w>(
    world: &'w World,
    providers: &Providers,
    provider: &str,
) -> (Agency<'w>, String) {
    let agency = client(world, providers, 10.0).await;
    let account = providers.mailbox(provider, "Acme <hello@acme.test>").await;
    world.senders.add(agency.id, agency.client, account);
    let request = proto::CreateLeadRequest {
        client_id: agency.client.to_string(),
        name: Some("Ann".to_owned()),
        email: Some(ANN.to_owned()),
        consents: vec![proto::LeadConsentGiven {
            channel: Some(proto::Channel::Email.into()),
            basis: Some(proto::ConsentBasis::Express.into()),
            source: Some("form".to_owned()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let made = agency.leads().create_lead(request).await;
    let lead = made.expect("a lead").into_inner().id.expect("an id");
    (agency, lead)
}

async fn mail(
    agency: &Agency<'_>,
    lead: &str,
    purpose: proto::Purpose,
    send_at: Option<prost_types::Timestamp>,
) -> Result<proto::Message, Status> {
    let request = proto::CreateMessageRequest {
        client_id: agency.client.to_string(),
        lead_id: Some(lead.to_owned()),
        channel: Some(proto::Channel::Email.into()),
        subject: Some(format!("{purpose:?}")),
        body: Some("Hi Ann".to_owned()),
        purpose: Some(purpose.into()),
        send_at,
        ..Default::default()
    };
    let made = agency.messages().create_message(request).await?;
    Ok(made.into_inner())
}

fn gateway(world: &World) -> UnsubscribeServiceClient<ServiceChannel> {
    let channel = world
        .stage
        .channel(ServiceName::Gateway, ServiceName::Messaging);
    UnsubscribeServiceClient::new(channel)
}

async fn follow(world: &World, token: &str) -> Result<(), Status> {
    let request = proto::UnsubscribeRequest {
        token: token.to_owned(),
    };
    gateway(world).unsubscribe(request).await.map(|_| ())
}

async fn look(world: &World, token: &str) -> Result<(), Status> {
    let request = proto::CheckUnsubscribeLinkRequest {
        token: token.to_owned(),
    };
    gateway(world)
        .check_unsubscribe_link(request)
        .await
        .map(|_| ())
}

/// The link that a mail's headers name.
fn link(providers: &Providers, mail: &Value) -> String {
    let headers = &mail["headers"];
    assert_eq!(
        headers["List-Unsubscribe-Post"], "List-Unsubscribe=One-Click",
        "{mail}"
    );
    let header = headers["List-Unsubscribe"].as_str().expect("a header");
    let link = header
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'));
    let link = link.expect("an address in brackets");
    assert!(
        link.starts_with(&format!("{}/unsubscribe/", providers.public)),
        "{link}"
    );
    link.to_owned()
}

fn token(link: &str) -> String {
    link.rsplit('/').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_either_provider_carries_the_link_and_marketing_shows_it() {
    for provider in ["resend", "sendgrid"] {
        let providers = Providers::start().await;
        let world = World::sending(&providers, quick()).await;
        let (agency, ann) = mailing(&world, &providers, provider).await;
        let purposes = [
            proto::Purpose::Marketing,
            proto::Purpose::Conversational,
            proto::Purpose::Transactional,
        ];
        for purpose in purposes {
            let made = mail(&agency, &ann, purpose, None).await.expect("taken");
            let id = made.id.expect("an id");
            until(&agency, &id, proto::MessageStatus::Sent).await;
        }
        let mails = providers.mails().await;
        assert_eq!(mails.len(), 3, "{mails:?}");
        let mut links = Vec::new();
        for mail in &mails {
            assert_eq!(mail["provider"], provider);
            let link = link(&providers, mail);
            let wanted = match mail["subject"].as_str() {
                Some("Marketing") => format!("Hi Ann\n\nUnsubscribe: {link}\n"),
                _ => "Hi Ann".to_owned(),
            };
            assert_eq!(mail["text"], wanted);
            assert!(!link.contains("ann"), "no address is in it: {link}");
            links.push(link);
        }
        links.sort();
        links.dedup();
        assert_eq!(links.len(), 3, "each names its own message");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_is_said_again_is_the_same_mail() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let (agency, ann) = mailing(&world, &providers, "resend").await;
    // Resend takes it, and never says so in time; it refuses another mail under the same key.
    let slow = json!({"provider": "resend", "operation": "emails.send", "kind": "timeout_after_effect", "value": 4, "count": 1});
    providers.fault(slow).await;
    let notice = proto::Purpose::Transactional;
    let made = mail(&agency, &ann, notice, None).await.expect("taken");
    let id = made.id.expect("an id");
    until(&agency, &id, proto::MessageStatus::Sent).await;
    let mails = providers.mails().await;
    assert_eq!(mails.len(), 1, "{mails:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_the_link_gets_no_more_mail_however_often_they_do() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let (agency, ann) = mailing(&world, &providers, "resend").await;
    let marketing = proto::Purpose::Marketing;
    let made = mail(&agency, &ann, marketing, None).await.expect("taken");
    until(
        &agency,
        &made.id.expect("an id"),
        proto::MessageStatus::Sent,
    )
    .await;
    let token = token(&link(&providers, &providers.mails().await[0]));

    let later = prost_types::Timestamp {
        seconds: world.clock.now().timestamp() + 3 * 86_400,
        nanos: 0,
    };
    let waiting = mail(&agency, &ann, marketing, Some(later)).await;
    let waiting = waiting.expect("taken").id.expect("an id");
    // Whatever looks at links before people do, looks.
    look(&world, &token).await.expect("it is ours");
    let opted_out =
        "select count(*) from messaging.consent_standing where opted_out_at is not null";
    assert_eq!(world.postgres.count(opted_out).await, 0);

    let followed = join_all((0..12).map(|_| follow(&world, &token))).await;
    for one in followed {
        one.expect("each is answered the same");
    }
    let message = until(&agency, &waiting, proto::MessageStatus::Canceled).await;
    assert_eq!(message.error_code(), "opted_out");
    let refused = mail(&agency, &ann, marketing, None).await;
    assert_eq!(blocked(&refused.expect_err("unsubscribed")), ["opted_out"]);
    for (what, sql) in [
        (
            "entry",
            "select count(*) from messaging.consent_event where kind = 'opt_out' and source = 'unsubscribe_link'",
        ),
        (
            "event",
            "select count(*) from messaging.outbox_event where type = 'messaging.consent.opted_out'",
        ),
        ("opt-out", opted_out),
    ] {
        assert_eq!(world.postgres.count(sql).await, 1, "one {what} in all");
    }
    reached(&world, "select count(*) from messaging.send_queue", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_link_is_nobodys_and_changes_nothing() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let (agency, ann) = mailing(&world, &providers, "resend").await;
    let made = mail(&agency, &ann, proto::Purpose::Marketing, None).await;
    let id = made.expect("taken").id.expect("an id");
    until(&agency, &id, proto::MessageStatus::Sent).await;
    let good = token(&link(&providers, &providers.mails().await[0]));
    let mut other = good.clone();
    let last = if other.ends_with('A') { 'E' } else { 'A' };
    other.pop();
    other.push(last);
    let cut = good[..good.len() - 4].to_owned();
    for forged in [other, cut, format!("{good}AAAA"), id, "x".to_owned()] {
        for answer in [look(&world, &forged).await, follow(&world, &forged).await] {
            let status = answer.expect_err("forged");
            assert_eq!(
                reason(&status),
                ErrorReason::NotFound,
                "{forged}: {status:?}"
            );
        }
    }
    let opted_out = "select count(*) from messaging.consent_event where kind = 'opt_out'";
    assert_eq!(world.postgres.count(opted_out).await, 0);
}
