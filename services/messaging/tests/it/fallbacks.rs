//! Fall-back (MSG-26): a text that fails for certain goes by mail, with a leave of its own; one in doubt does not, nor anything to
//! somebody who has opted out.
//! Deliberately absent: which failures are certain; the adapters' suite has those.

use mainstay_proto::messaging::v1 as proto;
use serde_json::json;
use tonic::Status;

use crate::carried::Providers;
use crate::sending::{OURS, client, quick, reached, read, until};
use crate::world::{Agency, World, fields};

const PHONE: &str = "+15125550123";
const MAIL: &str = "mike@person.test";

async fn lead(agency: &Agency<'_>) -> String {
    let request = proto::CreateLeadRequest {
        client_id: agency.client.to_string(),
        name: Some("Mike".to_owned()),
        phone: Some(PHONE.to_owned()),
        email: Some(MAIL.to_owned()),
        time_zone: Some("America/Chicago".to_owned()),
        state: Some("TX".to_owned()),
        ..Default::default()
    };
    let made = agency.leads().create_lead(request).await;
    let id = made.expect("a lead").into_inner().id.expect("an id");
    for (address, channel) in [(PHONE, proto::Channel::Sms), (MAIL, proto::Channel::Email)] {
        let consent = proto::RecordConsentRequest {
            client_id: agency.client.to_string(),
            address: Some(address.to_owned()),
            channel: Some(channel.into()),
            basis: Some(proto::ConsentBasis::ExpressWritten.into()),
            source: Some("form:quote".to_owned()),
            ..Default::default()
        };
        agency
            .consents()
            .record_consent(consent)
            .await
            .expect("recorded");
    }
    id
}

async fn send(
    agency: &Agency<'_>,
    lead: &str,
    fallback: proto::WantedFallback,
) -> Result<proto::Message, Status> {
    let request = proto::CreateMessageRequest {
        client_id: agency.client.to_string(),
        lead_id: Some(lead.to_owned()),
        channel: Some(proto::Channel::Sms.into()),
        body: Some("Your inspection is tomorrow at ten.".to_owned()),
        purpose: Some(proto::Purpose::Transactional.into()),
        fallback: Some(fallback),
        ..Default::default()
    };
    Ok(agency
        .messages()
        .create_message(request)
        .await?
        .into_inner())
}

fn by_mail() -> proto::WantedFallback {
    proto::WantedFallback {
        channel: Some(proto::Channel::Email.into()),
        subject: Some("Your inspection".to_owned()),
    }
}

async fn world(providers: &Providers) -> World {
    World::sending(providers, quick()).await
}

async fn with_mail<'w>(world: &'w World, providers: &Providers) -> Agency<'w> {
    let agency = client(world, providers, 100.0).await;
    let mail = providers.mail("resend", "hello@acme.test").await;
    world.senders.add(agency.id, agency.client, mail);
    agency
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_fails_for_certain_goes_by_mail_once_with_a_leave_of_its_own() {
    let providers = Providers::start().await;
    let world = world(&providers).await;
    let agency = with_mail(&world, &providers).await;
    let mike = lead(&agency).await;
    let refused = json!({"provider": "twilio", "operation": "messages.create", "kind": "status", "value": 400, "count": 1});
    providers.fault(refused).await;
    let text = send(&agency, &mike, by_mail()).await.expect("taken");
    until(&agency, text.id(), proto::MessageStatus::Failed).await;
    let mails = "select count(*) from messaging.message where channel = 'email' and status in ('sent', 'delivered')";
    reached(&world, mails, 1).await;
    let failed = read(&agency, text.id()).await;
    let fallback = failed.fallback.expect("it had one");
    let mail = read(&agency, fallback.message_id()).await;
    assert_eq!(mail.address(), MAIL);
    assert_eq!(mail.subject(), "Your inspection");
    assert_eq!(mail.permits.len(), 1, "decided for its own channel");
    assert_eq!(providers.arrived(PHONE).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_in_doubt_goes_nowhere_else() {
    let providers = Providers::start().await;
    let world = world(&providers).await;
    let agency = with_mail(&world, &providers).await;
    let mike = lead(&agency).await;
    let silent = json!({"provider": "twilio", "operation": "messages.create", "kind": "timeout_after_effect", "value": 30, "count": 1});
    providers.fault(silent).await;
    let text = send(&agency, &mike, by_mail()).await.expect("taken");
    until(&agency, text.id(), proto::MessageStatus::Delivered).await;
    let mails = "select count(*) from messaging.message where channel = 'email'";
    assert_eq!(world.postgres.count(mails).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opt_out_ends_the_fall_back_in_its_transaction() {
    let providers = Providers::start().await;
    let world = world(&providers).await;
    let agency = with_mail(&world, &providers).await;
    let mike = lead(&agency).await;
    // Nothing is taken for now, and nothing is certain to fail.
    let busy = json!({"provider": "twilio", "operation": "messages.create", "kind": "status", "value": 429});
    providers.fault(busy).await;
    let text = send(&agency, &mike, by_mail()).await.expect("taken");
    providers.text(PHONE, OURS, "STOP").await;
    let heard = "select count(*) from messaging.message_fallback where reason = 'opted_out'";
    reached(&world, heard, 1).await;
    let ended = read(&agency, text.id()).await.fallback.expect("it had one");
    assert_eq!(ended.reason(), "opted_out");
    let mails = "select count(*) from messaging.message where channel = 'email'";
    assert_eq!(world.postgres.count(mails).await, 0);
}

#[tokio::test]
async fn a_fall_back_is_another_channel_and_says_what_that_needs() {
    let world = World::new().await;
    let agency = world.agency("fallbacks").await;
    let mike = lead(&agency).await;
    let same = proto::WantedFallback {
        channel: Some(proto::Channel::Sms.into()),
        subject: None,
    };
    let refused = send(&agency, &mike, same).await.expect_err("the same");
    assert_eq!(fields(&refused), ["fallback.channel"]);
    let bare = proto::WantedFallback {
        subject: None,
        ..by_mail()
    };
    let refused = send(&agency, &mike, bare).await.expect_err("no subject");
    assert_eq!(fields(&refused), ["fallback.subject"]);
}
