//! Calls that came in (MSG-40): whatever Twilio tells of one, in whatever order and however often, is one call of one lead, and
//! it is missed at most once.
//! Deliberately absent: where calls are put through to. The gateway's tests have that.

use futures_util::future::join_all;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::provider_event_service_client::ProviderEventServiceClient;
use mainstay_rpc::ErrorReason;
use mainstay_types::{ServiceName, WebhookEventId};
use tonic::Status;

use crate::world::{Agency, World, reason};

const OURS: &str = "%2B15125550199";
const THEIRS: &str = "%2B15125550123";

/// As integrations hands it on.
async fn tell(
    agency: &Agency<'_>,
    client: bool,
    kind: &str,
    body: String,
) -> Result<proto::HandleProviderEventResponse, Status> {
    let channel = agency
        .world
        .stage
        .channel(ServiceName::Integrations, ServiceName::Messaging);
    let request = proto::HandleProviderEventRequest {
        agency_id: agency.id.to_string(),
        client_id: client.then(|| agency.client.to_string()),
        provider: "twilio".to_owned(),
        account_id: None,
        event_key: "of no matter here".to_owned(),
        r#type: kind.to_owned(),
        content_type: "application/x-www-form-urlencoded".to_owned(),
        body: body.into_bytes(),
        received_at: None,
        form_endpoint_id: None,
        webhook_event_id: WebhookEventId::generate().to_string(),
    };
    let mut messaging = ProviderEventServiceClient::new(channel);
    Ok(messaging.handle_provider_event(request).await?.into_inner())
}

/// What Twilio tells of a call that it put through to a phone that did this.
fn story(sid: &str, dialed: &str) -> Vec<(&'static str, String)> {
    let call = |status: &str| {
        format!("CallSid={sid}&From={THEIRS}&To={OURS}&Direction=inbound&CallStatus={status}")
    };
    let dial = call("in-progress");
    vec![
        ("call.received", call("ringing")),
        ("call.status", call("in-progress")),
        (
            "call.status",
            format!("{dial}&DialCallStatus={dialed}&DialCallDuration=42"),
        ),
        (
            "call.status",
            format!("{}&CallDuration=50", call("completed")),
        ),
    ]
}

async fn calls(agency: &Agency<'_>, status: Option<proto::CallStatus>) -> Vec<proto::Call> {
    let request = proto::ListCallsRequest {
        client_id: agency.client.to_string(),
        status: status.map(Into::into),
        ..Default::default()
    };
    let page = agency.calls().list_calls(request).await;
    page.expect("a page").into_inner().data
}

const MISSED: &str =
    "select count(*) from messaging.outbox_event where type = 'messaging.call.missed'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubled_and_shuffled_and_all_at_once_it_is_one_call_and_missed_once() {
    let world = World::new().await;
    let agency = world.agency("calls").await;
    for (turn, (dialed, because)) in [
        ("no-answer", proto::CallMissedReason::NoAnswer),
        ("busy", proto::CallMissedReason::Busy),
        ("canceled", proto::CallMissedReason::Canceled),
    ]
    .into_iter()
    .enumerate()
    {
        let sid = format!("CA{turn}");
        let mut words: Vec<_> = story(&sid, dialed);
        words.reverse();
        words.rotate_left(turn);
        let many: Vec<_> = words.iter().cycle().take(8 * words.len()).collect();
        let told = many
            .into_iter()
            .map(|(kind, body)| tell(&agency, true, kind, body.clone()));
        for one in join_all(told).await {
            one.expect("taken");
        }
        let listed = calls(&agency, None).await;
        assert_eq!(listed.len(), turn + 1, "one call");
        let call = &listed[0];
        assert_eq!(call.status(), proto::CallStatus::Missed, "{call:?}");
        assert_eq!(call.missed_because(), because);
        assert_eq!(call.provider_id.as_deref(), Some(sid.as_str()));
        assert!(call.started_at.is_some() && call.ended_at.is_some());
        let wanted = i64::try_from(turn + 1).expect("few");
        assert_eq!(
            world.postgres.count(MISSED).await,
            wanted,
            "missed once each"
        );
    }
    for (what, wanted) in [("lead", 1), ("call", 3), ("conversation", 0)] {
        let sql = format!("select count(*) from messaging.{what}");
        assert_eq!(world.postgres.count(&sql).await, wanted, "{what}");
    }
    let source = "select count(*) from messaging.lead where source = 'inbound_call'";
    assert_eq!(world.postgres.count(source).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_taken_is_not_missed_and_says_how_long_it_was() {
    let world = World::new().await;
    let agency = world.agency("taken").await;
    // The caller's side last, and once more before the other's.
    let mut words = story("CA1", "completed");
    words.swap(2, 3);
    for (kind, body) in words {
        tell(&agency, true, kind, body).await.expect("taken");
    }
    let listed = calls(&agency, Some(proto::CallStatus::Completed)).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].duration_seconds, Some(42), "of those who talked");
    assert!(
        calls(&agency, Some(proto::CallStatus::Missed))
            .await
            .is_empty()
    );
    assert_eq!(world.postgres.count(MISSED).await, 0);
    // Turned away, which is all that is told.
    let busy = format!("CallSid=CA2&From={THEIRS}&To={OURS}&CallStatus=busy");
    tell(&agency, true, "call.status", busy.clone())
        .await
        .expect("taken");
    let again = tell(&agency, true, "call.status", busy)
        .await
        .expect("taken");
    assert_eq!(again.outcome(), proto::ProviderEventOutcome::Duplicate);
    assert_eq!(world.postgres.count(MISSED).await, 1);

    let id = calls(&agency, Some(proto::CallStatus::Missed)).await[0]
        .id
        .clone();
    let request = proto::GetCallRequest {
        client_id: agency.client.to_string(),
        call_id: id.expect("an id"),
    };
    let call = agency
        .calls()
        .get_call(request)
        .await
        .expect("a call")
        .into_inner();
    assert_eq!(call.address.as_deref(), Some("+15125550123"));
    let request = proto::GetCallRequest {
        client_id: agency.client.to_string(),
        call_id: mainstay_types::CallId::generate().to_string(),
    };
    let refused = agency.calls().get_call(request).await;
    assert_eq!(reason(&refused.expect_err("none")), ErrorReason::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hides_and_what_is_no_call_to_us_is_ignored_and_a_known_call_finds_its_client() {
    let world = World::new().await;
    let agency = world.agency("ignored").await;
    let call = |from: &str, more: &str| {
        format!("CallSid=CA9&From={from}&To={OURS}&CallStatus=ringing{more}")
    };
    for body in [
        call("%2B266696687", ""),
        call("anonymous", ""),
        call("sip%3Aann%40example.test", ""),
        call(THEIRS, "&Direction=outbound-api"),
        "CallSid=CA9&CallStatus=completed".to_owned(),
        format!("CallSid=CA9&From={THEIRS}&To={OURS}"),
    ] {
        let told = tell(&agency, true, "call.status", body.clone()).await;
        let told = told.expect("taken");
        assert_eq!(
            told.outcome(),
            proto::ProviderEventOutcome::Ignored,
            "{body}"
        );
        assert!(!told.detail.is_empty());
    }
    assert!(calls(&agency, None).await.is_empty());
    // Of a number that several clients share, what came first says whose it is.
    let first = tell(&agency, true, "call.received", call(THEIRS, "")).await;
    assert_eq!(
        first.expect("taken").outcome(),
        proto::ProviderEventOutcome::Applied
    );
    let then = "CallSid=CA9&CallStatus=no-answer".to_owned();
    let then = tell(&agency, false, "call.status", then)
        .await
        .expect("taken");
    assert_eq!(then.outcome(), proto::ProviderEventOutcome::Applied);
    assert_eq!(then.client_id, Some(agency.client.to_string()));
    let strangers = "CallSid=CA8&From=%2B15125550188&To=%2B15125550199&CallStatus=ringing";
    let told = tell(&agency, false, "call.received", strangers.to_owned()).await;
    assert_eq!(
        told.expect("taken").outcome(),
        proto::ProviderEventOutcome::Ignored
    );
    let unreadable = tell(&agency, true, "call.status", "CallStatus=busy".to_owned()).await;
    assert_eq!(
        reason(&unreadable.expect_err("no sid")),
        ErrorReason::InvalidRequest
    );
}
