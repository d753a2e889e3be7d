//! What the platform says to an agency's own people: once, past the gate, and codes only for as long as it takes.
//! Deliberately absent: what asks for it. Identity's and escalation's tests have that.

use std::time::Duration;

use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::notice_service_client::NoticeServiceClient;
use mainstay_rpc::{ErrorReason, Problem, ServiceChannel};
use mainstay_types::{ClientId, ServiceName, Tenant};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;

use crate::carried::Providers;
use crate::sending::{beyond, looks, quick, reached};
use crate::world::{Agency, World};

const HOUSE: &str = "+15125550190";
const ANA: &str = "+15125550111";

fn notices(world: &World, caller: ServiceName) -> NoticeServiceClient<ServiceChannel> {
    NoticeServiceClient::new(world.stage.channel(caller, ServiceName::Messaging))
}

/// The tenant that staff are written to from.
fn house(agency: &Agency<'_>) -> Tenant {
    Tenant {
        agency: agency.id,
        client: ClientId::from_uuid(agency.id.uuid()),
    }
}

/// An agency with a number that is for all of it.
async fn agency<'w>(world: &'w World, providers: &Providers) -> Agency<'w> {
    let agency = world.agency("house").await;
    let account = providers.number(HOUSE, 1000.0).await;
    let client = house(&agency).client;
    world.senders.add(agency.id, client, account);
    agency
}

fn notice(agency: &Agency<'_>, purpose: proto::Purpose, body: &str) -> proto::SendNoticeRequest {
    proto::SendNoticeRequest {
        agency_id: agency.id.to_string(),
        purpose: Some(purpose.into()),
        channel: Some(proto::Channel::Sms.into()),
        address: Some(ANA.to_owned()),
        subject: None,
        body: Some(body.to_owned()),
        once_key: Some(body.to_owned()),
        expires_at: None,
    }
}

/// Until the notice stands so.
async fn until(world: &World, request: &proto::SendNoticeRequest, wanted: proto::MessageStatus) {
    let mut identity = notices(world, ServiceName::Identity);
    let mut looks = looks();
    let mut last = None;
    while looks.again().await {
        // Said again it tells how the first one stands.
        let told = identity.send_notice(request.clone()).await;
        let told = told.expect("the same again").into_inner();
        if told.status() == wanted {
            return;
        }
        last = Some(told.status());
    }
    panic!("not {wanted:?}: {last:?}");
}

/// Rows of messaging in which a text stands, spelled out or as bytes.
async fn rows_with(world: &World, text: &str) -> i64 {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let tables = [
        "message",
        "message_event",
        "send_permit",
        "message_attempt",
        "send_queue",
        "outbox_event",
        "audit_outbox",
        "idempotency_key",
        "job",
        "lead",
        "conversation",
    ];
    let all: Vec<String> = tables
        .iter()
        .map(|table| format!("select t::text as row from messaging.{table} t"))
        .collect();
    let all = all.join(" union all ");
    let sql = format!(
        "select count(*) from ({all}) all_rows where row like '%{text}%' or row like '%{hex}%'"
    );
    world.postgres.count(&sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_is_asked_for_twenty_times_at_once_is_one_message() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = agency(&world, &providers).await;
    let request = notice(&agency, proto::Purpose::StaffNotice, "Mike wants a call");
    let mut asked = JoinSet::new();
    for _ in 0..20 {
        let mut escalation = notices(&world, ServiceName::Escalation);
        let request = request.clone();
        asked.spawn(async move { escalation.send_notice(request).await });
    }
    let mut ids = Vec::new();
    while let Some(told) = asked.join_next().await {
        let told = told.expect("no panic").expect("taken in hand");
        ids.push(told.into_inner().message_id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    // What another service calls by the same key is its own.
    let mut billing = notices(&world, ServiceName::Billing);
    let other = billing.send_notice(request.clone()).await;
    assert_ne!(other.expect("another").into_inner().message_id, ids[0]);

    let sent = "select count(*) from messaging.message where status in ('sent', 'delivered')";
    reached(&world, sent, 2).await;
    assert_eq!(providers.arrived(ANA).await.len(), 2);
    let people = "select count(*) from messaging.lead where tenant_id = agency_id";
    assert_eq!(world.postgres.count(people).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_arrives_and_is_nowhere_at_rest_after_that() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = agency(&world, &providers).await;
    let request = proto::SendNoticeRequest {
        once_key: Some("challenge".to_owned()),
        ..notice(&agency, proto::Purpose::SecurityCode, "918273 is your code")
    };
    until(&world, &request, proto::MessageStatus::Delivered).await;
    assert_eq!(providers.arrived(ANA).await, ["918273 is your code"]);
    assert_eq!(rows_with(&world, "918273").await, 0);
    // Nor can the permit's hash of the content be tried against all codes there are.
    let tried = "select count(*) from messaging.send_permit where content_hash =
                 sha256(int8send(0) || convert_to('918273 is your code', 'UTF8'))";
    assert_eq!(world.postgres.count(tried).await, 0);
    let forgotten = "select count(*) from messaging.message where body = '(a code)'";
    assert_eq!(world.postgres.count(forgotten).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_never_leaves_is_forgotten_as_well() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = agency(&world, &providers).await;
    let late = world.clock.now() - Duration::from_secs(1);
    let late = proto::SendNoticeRequest {
        once_key: Some("late".to_owned()),
        expires_at: Some(mainstay_rpc::field::timestamp(late)),
        ..notice(&agency, proto::Purpose::SecurityCode, "564738 is your code")
    };
    until(&world, &late, proto::MessageStatus::Expired).await;
    assert_eq!(rows_with(&world, "564738").await, 0);

    // SendGrid breaks off, and cannot be asked: nobody will know.
    let account = providers.mailbox("sendgrid", "house@agency.test").await;
    let client = house(&agency).client;
    world.senders.add(agency.id, client, account);
    let fault = json!({"provider": "sendgrid", "operation": "*", "kind": "drop"});
    providers.fault(fault).await;
    let doubtful = proto::SendNoticeRequest {
        channel: Some(proto::Channel::Email.into()),
        address: Some("ana@agency.test".to_owned()),
        subject: Some("Your code".to_owned()),
        once_key: Some("doubtful".to_owned()),
        ..notice(&agency, proto::Purpose::SecurityCode, "647382 is your code")
    };
    let mut identity = notices(&world, ServiceName::Identity);
    identity.send_notice(doubtful).await.expect("taken in hand");
    let given_up = "select count(*) from messaging.message
                    where once_key like '%doubtful' and error_code is not null and body = '(a code)'";
    reached(&world, given_up, 1).await;
    assert_eq!(rows_with(&world, "647382").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_who_stopped_get_no_notice_and_still_the_code_they_ask_for() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = agency(&world, &providers).await;
    let first = notice(&agency, proto::Purpose::StaffNotice, "Welcome");
    until(&world, &first, proto::MessageStatus::Delivered).await;
    // What they write to the house is kept, and sets nothing off.
    providers.text(ANA, HOUSE, "Thanks!").await;
    let kept = "select count(*) from messaging.message where direction = 'inbound'";
    reached(&world, kept, 1).await;
    let bursts = "select count(*) from messaging.inbound_burst";
    assert_eq!(world.postgres.count(bursts).await, 0);
    providers.text(ANA, HOUSE, "STOP").await;
    let stopped = "select count(*) from messaging.consent_standing where opted_out_at is not null";
    beyond(&world, stopped, 0).await;
    let second = notice(&agency, proto::Purpose::StaffNotice, "Mike wants a call");
    until(&world, &second, proto::MessageStatus::Blocked).await;
    let code = notice(&agency, proto::Purpose::SecurityCode, "102938 is your code");
    // The carrier's own stop is the simulator's too: what counts here is that the gate let it go.
    let mut identity = notices(&world, ServiceName::Identity);
    identity.send_notice(code).await.expect("taken in hand");
    let let_go =
        "select count(*) from messaging.message where purpose = 'security_code' and attempts > 0";
    reached(&world, let_go, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_codes_and_notices_of_services_that_write_to_staff_are_taken() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = agency(&world, &providers).await;
    let mut identity = notices(&world, ServiceName::Identity);
    for purpose in [
        proto::Purpose::Marketing,
        proto::Purpose::Conversational,
        proto::Purpose::Transactional,
        proto::Purpose::KeywordReply,
        proto::Purpose::Unspecified,
    ] {
        let refused = identity
            .send_notice(notice(&agency, purpose, "Spring sale"))
            .await;
        let refused = refused.expect_err("no notice");
        assert_eq!(refused.code(), Code::InvalidArgument, "{purpose:?}");
    }
    let right = notice(&agency, proto::Purpose::StaffNotice, "Mike wants a call");
    for caller in [ServiceName::Gateway, ServiceName::Integrations] {
        let refused = notices(&world, caller).send_notice(right.clone()).await;
        let refused = refused.expect_err("not listed");
        assert_eq!(refused.code(), Code::PermissionDenied, "{caller}");
    }
    // Mail has a subject; there is no account for it here.
    let mail = proto::SendNoticeRequest {
        channel: Some(proto::Channel::Email.into()),
        address: Some("ana@agency.test".to_owned()),
        subject: Some("Mike".to_owned()),
        ..right.clone()
    };
    let refused = identity.send_notice(mail.clone()).await;
    let refused = Problem::from_status(&refused.expect_err("nothing to send from"));
    assert_eq!(refused.reason(), ErrorReason::NoSender);
    for wrong in [
        proto::SendNoticeRequest {
            subject: None,
            ..mail.clone()
        },
        proto::SendNoticeRequest {
            address: Some(ANA.to_owned()),
            ..mail
        },
    ] {
        let refused = identity.send_notice(wrong).await.expect_err("no mail");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let none = "select count(*) from messaging.message";
    assert_eq!(world.postgres.count(none).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_house_is_reached_as_a_client() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = agency(&world, &providers).await;
    let request = notice(&agency, proto::Purpose::StaffNotice, "Mike wants a call");
    until(&world, &request, proto::MessageStatus::Delivered).await;
    let list = proto::ListLeadsRequest {
        client_id: house(&agency).client.to_string(),
        ..Default::default()
    };
    let refused = agency.leads().list_leads(list).await;
    assert_eq!(refused.expect_err("no client").code(), Code::NotFound);
}
