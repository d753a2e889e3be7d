//! What became of messages of which no webhook tells: their provider is asked, and what it says has its whole effect (MSG-20).
//! Deliberately absent: when it is asked; the rules' own tests have that.

use std::time::Duration;

use mainstay_messaging::sending::Pace;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::provider_event_service_client::ProviderEventServiceClient;
use mainstay_types::ServiceName;
use serde_json::json;

use crate::carried::Providers;
use crate::sending::{client, lead, quick, reached, read, send, until};
use crate::world::{Agency, World};

const MAIL: &str = "mike@person.test";
/// Asked about, and nothing came of it yet.
const ASKED: &str = "select count(*) from messaging.message_attempt where asks > 0";
/// Still to be asked about.
const OPEN: &str = "select count(*) from messaging.message_attempt where ask_at is not null";

/// Twilio takes what is sent to these, and then says no more of it, or that it reached nobody.
const SILENT: &str = "+15005553000";
const DEAD: &str = "+15005553005";
const ALIVE: &str = "+15125550123";

/// Asks soon.
fn asking() -> Pace {
    Pace {
        ask_after: Duration::from_secs(1),
        ..quick()
    }
}

/// A client whose provider's webhooks are all lost.
async fn deaf<'w>(world: &'w World, providers: &Providers) -> Agency<'w> {
    providers.refuse_callbacks(u32::MAX);
    client(world, providers, 100.0).await
}

/// A text that goes by mail if it fails.
async fn texting_first(agency: &Agency<'_>, lead: &str) -> proto::Message {
    let request = proto::CreateMessageRequest {
        client_id: agency.client.to_string(),
        lead_id: Some(lead.to_owned()),
        channel: Some(proto::Channel::Sms.into()),
        body: Some("Your inspection is tomorrow at ten.".to_owned()),
        purpose: Some(proto::Purpose::Transactional.into()),
        fallback: Some(proto::WantedFallback {
            channel: Some(proto::Channel::Email.into()),
            subject: Some("Your inspection".to_owned()),
        }),
        ..Default::default()
    };
    let made = agency.messages().create_message(request).await;
    made.expect("taken").into_inner()
}

/// The lead may be written to by mail as well.
async fn with_mail(agency: &Agency<'_>, lead: &str) {
    let request = proto::UpdateLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: lead.to_owned(),
        email: Some(MAIL.to_owned()),
        ..Default::default()
    };
    agency.leads().update_lead(request).await.expect("a mail");
    let request = proto::RecordConsentRequest {
        client_id: agency.client.to_string(),
        address: Some(MAIL.to_owned()),
        channel: Some(proto::Channel::Email.into()),
        basis: Some(proto::ConsentBasis::ExpressWritten.into()),
        source: Some("form:quote".to_owned()),
        ..Default::default()
    };
    let done = agency.consents().record_consent(request).await;
    done.expect("recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_webhook_tells_is_asked_and_has_its_whole_effect() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, asking()).await;
    let agency = deaf(&world, &providers).await;
    let mail = providers.mailbox("resend", "hello@acme.test").await;
    world.senders.add(agency.id, agency.client, mail);

    let alive = lead(&agency, ALIVE).await;
    let arrives = send(&agency, &alive, "Hi", None).await.expect("taken");
    let dead = lead(&agency, DEAD).await;
    with_mail(&agency, &dead).await;
    let fails = texting_first(&agency, &dead).await;

    let arrived = until(&agency, arrives.id(), proto::MessageStatus::Delivered).await;
    let how = arrived.history.last().map(proto::MessageEvent::detail);
    assert_eq!(how, Some("the provider was asked"), "{arrived:?}");
    let failed = until(&agency, fails.id(), proto::MessageStatus::Undelivered).await;
    assert_eq!(failed.error_code(), "30005");
    let suppressed = format!(
        "select count(*) from messaging.address_suppression where address = '{DEAD}' and channel = 'sms'"
    );
    assert_eq!(world.postgres.count(&suppressed).await, 1);
    // It goes on by mail, of which no webhook tells either.
    let mails =
        "select count(*) from messaging.message where channel = 'email' and status = 'delivered'";
    reached(&world, mails, 1).await;
    reached(&world, OPEN, 0).await;
    assert_eq!(
        providers.arrived(ALIVE).await,
        ["Hi"],
        "asking sends nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_knows_no_more_or_does_not_answer_is_asked_again() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, asking()).await;
    let agency = deaf(&world, &providers).await;
    let silent = lead(&agency, SILENT).await;
    let nobody_knows = send(&agency, &silent, "Hi", None).await.expect("taken");
    reached(&world, ASKED, 1).await;
    let stands = read(&agency, nobody_knows.id()).await;
    assert_eq!(stands.status(), proto::MessageStatus::Sent);
    assert_eq!(world.postgres.count(OPEN).await, 1);

    let broken = json!({"provider": "twilio", "operation": "messages.fetch", "kind": "status", "value": 503});
    providers.fault(broken).await;
    let alive = lead(&agency, ALIVE).await;
    let arrives = send(&agency, &alive, "Hi", None).await.expect("taken");
    until(&agency, arrives.id(), proto::MessageStatus::Sent).await;
    // Asked in vain at least once: whoever was asked twice has been put off twice.
    let of_it = format!(
        "select count(*) from messaging.message_attempt a join messaging.message m on m.id = a.message_id
         where m.address = '{ALIVE}'"
    );
    let put_off = format!("{of_it} and a.ask_at > m.sent_at + interval '2.5 seconds'");
    reached(&world, &put_off, 1).await;
    providers.mend().await;
    until(&agency, arrives.id(), proto::MessageStatus::Delivered).await;
    let counted = format!("{of_it} and a.asks > 0");
    assert_eq!(world.postgres.count(&counted).await, 0, "it never answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_effect_fails_keeps_no_other_from_its_own_and_is_given_up() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, asking()).await;
    let agency = deaf(&world, &providers).await;
    world
        .postgres
        .execute(
            "create function messaging.breaks() returns trigger language plpgsql as $$ begin raise exception 'broken'; end $$;
             create trigger breaks before update on messaging.message for each row
               when (new.status = 'undelivered') execute function messaging.breaks()",
        )
        .await;
    let dead = lead(&agency, DEAD).await;
    let fails = send(&agency, &dead, "Hi", None).await.expect("taken");
    let alive = lead(&agency, ALIVE).await;
    let arrives = send(&agency, &alive, "Hi", None).await.expect("taken");
    until(&agency, arrives.id(), proto::MessageStatus::Delivered).await;
    reached(&world, OPEN, 1).await;
    world
        .postgres
        .execute("update messaging.message_attempt set created_at = created_at - interval '4 days'")
        .await;
    reached(&world, OPEN, 0).await;
    let stands = read(&agency, fails.id()).await;
    assert_eq!(stands.status(), proto::MessageStatus::Sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_provider_does_not_have_any_more_is_not_asked_about_again() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, asking()).await;
    let agency = deaf(&world, &providers).await;
    let gone = json!({"provider": "twilio", "operation": "messages.fetch", "kind": "status", "value": 404});
    providers.fault(gone).await;
    let alive = lead(&agency, ALIVE).await;
    let sent = send(&agency, &alive, "Hi", None).await.expect("taken");
    until(&agency, sent.id(), proto::MessageStatus::Sent).await;
    reached(&world, OPEN, 0).await;
    let stands = read(&agency, sent.id()).await;
    assert_eq!(stands.status(), proto::MessageStatus::Sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_a_webhook_has_told_nobody_is_asked() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = deaf(&world, &providers).await;
    let alive = lead(&agency, ALIVE).await;
    let told = send(&agency, &alive, "Hi", None).await.expect("taken");
    until(&agency, told.id(), proto::MessageStatus::Sent).await;
    assert_eq!(world.postgres.count(OPEN).await, 1);

    let ledger = providers.ledger("twilio").await;
    let sid = ledger["messages"][0]["sid"].as_str().expect("an id");
    let request = proto::HandleProviderEventRequest {
        agency_id: agency.id.to_string(),
        provider: "twilio".to_owned(),
        event_key: "of no matter here".to_owned(),
        r#type: "message.status".to_owned(),
        content_type: "application/x-www-form-urlencoded".to_owned(),
        body: format!("MessageSid={sid}&MessageStatus=delivered").into_bytes(),
        webhook_event_id: mainstay_types::WebhookEventId::generate().to_string(),
        ..Default::default()
    };
    let channel = world
        .stage
        .channel(ServiceName::Integrations, ServiceName::Messaging);
    let mut door = ProviderEventServiceClient::new(channel);
    door.handle_provider_event(request).await.expect("heard");
    until(&agency, told.id(), proto::MessageStatus::Delivered).await;
    assert_eq!(world.postgres.count(OPEN).await, 0);
}
