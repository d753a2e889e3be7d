//! Consent, lists and the gate: who asked not to be written to is not, by whatever way it became known (MSG-10 to 13).
//! Deliberately absent: the hours themselves, which are proven zone by zone beside their code.

use chrono::{DateTime, Datelike, Utc};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_runtime::Clock;
use mainstay_types::ClientId;
use tonic::Code;

use crate::world::{Agency, World, at, reason};

const PHONE: &str = "+15125550123";

fn now() -> DateTime<Utc> {
    Clock::system(0).now()
}

/// Noon in Texas, on a Wednesday of the next months.
fn noon() -> prost_types::Timestamp {
    let now = now();
    let days = (8 - i64::from(now.weekday().num_days_from_monday())) % 7 + 1;
    let day = now.date_naive() + chrono::TimeDelta::days(days);
    let noon = day.and_hms_opt(18, 0, 0).expect("a time").and_utc();
    at(noon.timestamp())
}

fn said(address: &str, agency: &Agency<'_>) -> proto::OptOutRequest {
    proto::OptOutRequest {
        client_id: agency.client.to_string(),
        address: Some(address.to_owned()),
        channel: None,
        source: Some("call".to_owned()),
        text: Some("leave me alone".to_owned()),
    }
}

async fn opt_out(agency: &Agency<'_>, address: &str) -> proto::ContactConsent {
    let answer = agency.consents().opt_out(said(address, agency)).await;
    answer.expect("opted out").into_inner()
}

async fn consents(agency: &Agency<'_>, basis: proto::ConsentBasis) -> proto::ContactConsent {
    let request = consent(agency, basis);
    let answer = agency.consents().record_consent(request).await;
    answer.expect("recorded").into_inner()
}

fn consent(agency: &Agency<'_>, basis: proto::ConsentBasis) -> proto::RecordConsentRequest {
    proto::RecordConsentRequest {
        client_id: agency.client.to_string(),
        address: Some(PHONE.to_owned()),
        channel: Some(proto::Channel::Sms.into()),
        basis: Some(basis.into()),
        source: Some("form:quote".to_owned()),
        text: Some("Yes, text me.".to_owned()),
        given_at: None,
    }
}

/// The reasons that keep a marketing text from leaving at noon.
async fn reasons(agency: &Agency<'_>) -> Vec<proto::SendRefusal> {
    explain(agency, PHONE, proto::Channel::Sms)
        .await
        .reasons()
        .collect()
}

async fn explain(
    agency: &Agency<'_>,
    address: &str,
    channel: proto::Channel,
) -> proto::Sendability {
    let request = proto::CheckSendabilityRequest {
        client_id: agency.client.to_string(),
        address: Some(address.to_owned()),
        channel: Some(channel.into()),
        purpose: Some(proto::Purpose::Marketing.into()),
        time_zone: None,
        state: None,
        at: Some(noon()),
    };
    let answer = agency.sendability().check_sendability(request).await;
    answer.expect("explained").into_inner()
}

async fn sell(agency: &Agency<'_>) {
    let sale = agency.saga().sells("campaigns", 1, 1);
    agency.apply(sale).await.expect("sold");
}

#[tokio::test]
async fn nobody_is_written_to_before_they_agreed_and_nobody_after_they_opted_out() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    sell(&agency).await;
    assert_eq!(reasons(&agency).await, [proto::SendRefusal::NoConsent]);
    consents(&agency, proto::ConsentBasis::Inquiry).await;
    assert_eq!(
        reasons(&agency).await,
        [proto::SendRefusal::NoConsent],
        "an inquiry buys no marketing"
    );
    let contact = consents(&agency, proto::ConsentBasis::ExpressWritten).await;
    let sms = contact.channels.first().expect("sms");
    assert_eq!(sms.basis(), proto::ConsentBasis::ExpressWritten);
    let allowed = explain(&agency, PHONE, proto::Channel::Sms).await;
    assert_eq!(
        (allowed.allowed, allowed.earliest_at),
        (Some(true), Some(noon())),
        "{allowed:?}"
    );
    assert_eq!(allowed.checks.len(), 9);
    opt_out(&agency, PHONE).await;
    let refused = explain(&agency, PHONE, proto::Channel::Sms).await;
    assert_eq!(
        refused.reasons().collect::<Vec<_>>(),
        [proto::SendRefusal::OptedOut]
    );
    assert_eq!((refused.allowed, refused.earliest_at), (Some(false), None));
    consents(&agency, proto::ConsentBasis::ExpressWritten).await;
    assert_eq!(
        reasons(&agency).await,
        [proto::SendRefusal::OptedOut],
        "a form does not undo it"
    );
    let back = proto::OptInRequest {
        client_id: agency.client.to_string(),
        address: Some(PHONE.to_owned()),
        channel: None,
        source: Some("reply".to_owned()),
        text: Some("START".to_owned()),
    };
    agency.consents().opt_in(back).await.expect("opted in");
    assert!(reasons(&agency).await.is_empty());
}

#[tokio::test]
async fn opting_out_covers_every_channel_once_and_leaves_one_entry_audit_row_and_event_for_each() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let first = opt_out(&agency, PHONE).await;
    assert_eq!(opt_out(&agency, PHONE).await, first, "the first time stays");
    assert_eq!(first.channels.len(), 3);
    assert!(first.channels.iter().all(|channel| channel.opted_out()));
    for rows in [
        "messaging.consent_event where kind = 'opt_out'",
        "messaging.outbox_event where type = 'messaging.consent.opted_out'",
    ] {
        let count = format!("select count(*) from {rows}");
        assert_eq!(world.postgres.count(&count).await, 3, "{rows}");
    }
    let request = proto::ListConsentEventsRequest {
        client_id: agency.client.to_string(),
        page_size: Some(2),
        page_token: None,
        address: Some(PHONE.to_owned()),
    };
    let page = agency
        .consents()
        .list_consent_events(request.clone())
        .await
        .expect("listed")
        .into_inner();
    assert_eq!(page.data.len(), 2);
    let next = proto::ListConsentEventsRequest {
        page_token: page.next_page_token,
        ..request
    };
    let last = agency
        .consents()
        .list_consent_events(next)
        .await
        .expect("listed")
        .into_inner();
    assert_eq!((last.data.len(), last.next_page_token), (1, None));
    let entry = last.data.first().expect("one");
    assert_eq!(entry.text.as_deref(), Some("leave me alone"));
    assert!(
        entry
            .recorded_by
            .as_deref()
            .expect("who")
            .starts_with("key_")
    );
}

#[tokio::test]
async fn of_forty_opt_outs_at_once_one_is_recorded() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (mut consents, request) = (agency.consents(), said(PHONE, &agency));
        calls.spawn(async move { consents.opt_out(request).await });
    }
    for answer in calls.join_all().await {
        answer.expect("no repeat is an error");
    }
    let entries = "select count(*) from messaging.consent_event";
    assert_eq!(world.postgres.count(entries).await, 3);
}

#[tokio::test]
async fn an_address_has_one_standing_however_it_is_spelled() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let contact = opt_out(&agency, "Ann.Lee@Example.com").await;
    assert_eq!(contact.address.as_deref(), Some("ann.lee@example.com"));
    let refused = explain(&agency, "ANN.LEE@example.com", proto::Channel::Email).await;
    assert!(
        refused
            .reasons()
            .any(|reason| reason == proto::SendRefusal::OptedOut)
    );
}

#[tokio::test]
async fn both_lists_bind_and_the_agencys_binds_all_its_clients_and_no_other_agency() {
    let world = World::new().await;
    let (mut one, two) = (world.agency("one").await, world.agency("two").await);
    let entry = |agency: &Agency<'_>| proto::AddClientDoNotContactRequest {
        client_id: agency.client.to_string(),
        address: Some(PHONE.to_owned()),
        reason: Some("letter".to_owned()),
    };
    let listed =
        |reasons: Vec<proto::SendRefusal>| reasons.contains(&proto::SendRefusal::DoNotContact);
    let added = one
        .lists()
        .add_client_do_not_contact(entry(&one))
        .await
        .expect("added");
    let again = one
        .lists()
        .add_client_do_not_contact(entry(&one))
        .await
        .expect("again");
    assert_eq!(added.into_inner(), again.into_inner());
    assert!(listed(reasons(&one).await));
    let remove = proto::RemoveClientDoNotContactRequest {
        client_id: one.client.to_string(),
        address: PHONE.to_owned(),
    };
    one.lists()
        .remove_client_do_not_contact(remove.clone())
        .await
        .expect("removed");
    let gone = one
        .lists()
        .remove_client_do_not_contact(remove)
        .await
        .expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);
    assert!(!listed(reasons(&one).await));

    let request = proto::AddAgencyDoNotContactRequest {
        address: Some(PHONE.to_owned()),
        reason: Some("lawsuit".to_owned()),
    };
    one.lists()
        .add_agency_do_not_contact(request)
        .await
        .expect("added");
    assert!(listed(reasons(&one).await));
    one.client = one.add_client("Beta").await;
    assert!(listed(reasons(&one).await));
    assert!(!listed(reasons(&two).await));
    let page = proto::ListAgencyDoNotContactRequest::default();
    let page = two
        .lists()
        .list_agency_do_not_contact(page)
        .await
        .expect("listed");
    assert!(
        page.into_inner().data.is_empty(),
        "the other agency's is its own"
    );
    for (event, times) in [
        ("do_not_contact.added", 1),
        ("do_not_contact.removed", 1),
        ("agency_do_not_contact.added", 1),
    ] {
        let count =
            format!("select count(*) from messaging.outbox_event where type = 'messaging.{event}'");
        assert_eq!(world.postgres.count(&count).await, times, "{event}");
    }
}

#[tokio::test]
async fn a_text_in_the_night_is_told_its_morning_and_a_hold_and_an_empty_plan_are_told_too() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    consents(&agency, proto::ConsentBasis::ExpressWritten).await;
    assert_eq!(
        reasons(&agency).await,
        [proto::SendRefusal::MonthlyLimit],
        "nothing was sold"
    );
    sell(&agency).await;
    let night = at(noon().seconds - 9 * 3600);
    let request = proto::CheckSendabilityRequest {
        client_id: agency.client.to_string(),
        address: Some(PHONE.to_owned()),
        channel: Some(proto::Channel::Sms.into()),
        purpose: Some(proto::Purpose::Marketing.into()),
        time_zone: Some("America/Chicago".to_owned()),
        state: Some("TX".to_owned()),
        at: Some(night),
    };
    let refused = agency
        .sendability()
        .check_sendability(request)
        .await
        .expect("explained")
        .into_inner();
    assert_eq!(
        refused.reasons().collect::<Vec<_>>(),
        [proto::SendRefusal::QuietHours]
    );
    // Noon UTC-6 is 18:00 UTC; in summer it is an hour later there. Texas opens at nine.
    let opens = refused.earliest_at.expect("waiting helps").seconds;
    let zone: chrono_tz::Tz = "America/Chicago".parse().expect("a zone");
    let clock = DateTime::from_timestamp(opens, 0)
        .expect("a time")
        .with_timezone(&zone);
    assert_eq!(clock.format("%H:%M:%S").to_string(), "09:00:00");
    agency.place("Abuse").await.expect("placed");
    assert_eq!(reasons(&agency).await, [proto::SendRefusal::SendingOnHold]);
}

#[tokio::test]
async fn the_history_cannot_be_changed_and_no_client_sees_anothers() {
    let world = World::new().await;
    let mut agency = world.agency("one").await;
    opt_out(&agency, PHONE).await;
    agency.client = agency.add_client("Beta").await;
    let request = proto::GetConsentRequest {
        client_id: agency.client.to_string(),
        address: PHONE.to_owned(),
    };
    let contact = agency
        .consents()
        .get_consent(request)
        .await
        .expect("read")
        .into_inner();
    assert!(contact.channels.iter().all(|channel| !channel.opted_out()));
    let nobody = proto::GetConsentRequest {
        client_id: ClientId::generate().to_string(),
        address: PHONE.to_owned(),
    };
    let refused = agency
        .consents()
        .get_consent(nobody)
        .await
        .expect_err("nobody");
    assert_eq!(refused.code(), Code::NotFound);
    let granted = "select count(*) from information_schema.role_table_grants
        where table_schema = 'messaging' and table_name = 'consent_event' and privilege_type in ('UPDATE', 'DELETE')
          and (grantee like '%_app_%' or grantee like '%_worker_%')";
    assert_eq!(world.postgres.count(granted).await, 0);
}

#[tokio::test]
async fn every_field_that_cannot_be_kept_is_named() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let named = |status: tonic::Status| {
        assert_eq!(reason(&status), ErrorReason::InvalidRequest);
        let faults = Problem::from_status(&status);
        faults
            .errors()
            .iter()
            .map(|fault| fault.field.clone())
            .collect::<Vec<_>>()
    };
    let mut request = consent(&agency, proto::ConsentBasis::Express);
    request.channel = Some(proto::Channel::Email.into());
    request.given_at = Some(at(now().timestamp() + 86_400));
    let status = agency
        .consents()
        .record_consent(request.clone())
        .await
        .expect_err("both wrong");
    assert_eq!(named(status), ["channel", "given_at"]);
    request.address = Some("5125550123".to_owned());
    let status = agency
        .consents()
        .record_consent(request)
        .await
        .expect_err("no number");
    assert_eq!(named(status), ["address", "given_at"]);
}
