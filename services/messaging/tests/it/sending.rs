//! What tests that send share: a client with a number, people who may be written to, messages, and waiting for them.
//! Deliberately absent: the providers, and what they are told to do wrong.

use std::time::Duration;

use mainstay_messaging::sending::Pace;
use mainstay_proto::messaging::v1 as proto;
use mainstay_testkit::Looks;
use tonic::Status;

use crate::carried::Providers;
use crate::world::{Agency, World};

/// The client's number.
pub const OURS: &str = "+15125550100";

/// Quick about what waits in life.
pub fn quick() -> Pace {
    Pace {
        poll: Duration::from_millis(50),
        lease: Duration::from_secs(6),
        probe_after: Duration::from_secs(1),
        patience: Duration::from_secs(2),
        again_after: Duration::from_millis(20),
        ..Pace::default()
    }
}

/// A client with a number and messages to send.
pub async fn client<'w>(world: &'w World, providers: &Providers, rate: f64) -> Agency<'w> {
    let agency = world.agency("senders").await;
    let account = providers.number(OURS, rate).await;
    world.senders.add(agency.id, agency.client, account);
    agency
        .apply(agency.saga().sells("messages", 1, 1))
        .await
        .expect("messages are sold");
    agency
}

/// Somebody in Texas who signed that they may be written to.
pub async fn lead(agency: &Agency<'_>, phone: &str) -> String {
    let request = proto::CreateLeadRequest {
        client_id: agency.client.to_string(),
        name: Some("Mike".to_owned()),
        phone: Some(phone.to_owned()),
        time_zone: Some("America/Chicago".to_owned()),
        state: Some("TX".to_owned()),
        ..Default::default()
    };
    let made = agency.leads().create_lead(request).await;
    let id = made.expect("a lead").into_inner().id.expect("an id");
    let consent = proto::RecordConsentRequest {
        client_id: agency.client.to_string(),
        address: Some(phone.to_owned()),
        channel: Some(proto::Channel::Sms.into()),
        basis: Some(proto::ConsentBasis::ExpressWritten.into()),
        source: Some("form:quote".to_owned()),
        ..Default::default()
    };
    let done = agency.consents().record_consent(consent).await;
    done.expect("recorded");
    id
}

pub async fn send(
    agency: &Agency<'_>,
    lead: &str,
    body: &str,
    send_at: Option<prost_types::Timestamp>,
) -> Result<proto::Message, Status> {
    let request = proto::CreateMessageRequest {
        client_id: agency.client.to_string(),
        lead_id: Some(lead.to_owned()),
        channel: Some(proto::Channel::Sms.into()),
        body: Some(body.to_owned()),
        purpose: Some(proto::Purpose::Transactional.into()),
        send_at,
        ..Default::default()
    };
    Ok(agency
        .messages()
        .create_message(request)
        .await?
        .into_inner())
}

pub async fn read(agency: &Agency<'_>, id: &str) -> proto::Message {
    let request = proto::GetMessageRequest {
        client_id: agency.client.to_string(),
        message_id: id.to_owned(),
    };
    let found = agency.messages().get_message(request).await;
    found.expect("a message").into_inner()
}

/// Looks at something that comes about by itself.
pub fn looks() -> Looks {
    Looks::every(Duration::from_millis(50))
}

/// Until the message stands so; what it stands at if it never does.
pub async fn until(agency: &Agency<'_>, id: &str, wanted: proto::MessageStatus) -> proto::Message {
    let mut looks = looks();
    while looks.again().await {
        let message = read(agency, id).await;
        if message.status() == wanted {
            return message;
        }
    }
    let stands = read(agency, id).await;
    panic!("{:?} in place of {wanted:?}: {stands:?}", stands.status());
}

/// Until a count in the database is this.
pub async fn reached(world: &World, sql: &str, wanted: i64) {
    let mut looks = looks();
    while looks.again().await {
        if world.postgres.count(sql).await == wanted {
            return;
        }
    }
    panic!("not {wanted}: {sql}");
}

/// Until a count in the database is more than this.
pub async fn beyond(world: &World, sql: &str, least: i64) {
    let mut looks = looks();
    while looks.again().await {
        if world.postgres.count(sql).await > least {
            return;
        }
    }
    panic!("not more than {least}: {sql}");
}
