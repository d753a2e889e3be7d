//! Each thing is one alert, told once to whoever is to hear of it, and over when the opposite comes (ESC-10).
//! Deliberately absent: the services that say so. Their facts come over the wire as they tell them.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use mainstay_proto::escalation::v1::{
    AcknowledgeAlertRequest, Alert, AlertChannel, AlertKind, AlertKinds, AlertMembers, AlertRoute,
    AlertSeverity, AlertState, CreateAlertRouteRequest, DeleteAlertRouteRequest, GetAlertRequest,
    LadderStep, ListAlertsRequest, PutLadderRequest, ResolveAlertRequest, UpdateAlertRouteRequest,
};
use mainstay_proto::events::v1::event_inbox_service_client::EventInboxServiceClient;
use mainstay_proto::events::v1::{DeliverEventsRequest, EventEnvelope, EventOutcome};
use mainstay_rpc::ErrorReason;
use mainstay_runtime::health::Status;
use mainstay_types::{ClientId, EventId, ServiceName};
use serde_json::{Value, json};
use tonic::Request;

use crate::world::{World, refused, until};

const OWNER: &str = "owner@acme.test";

/// A fact that another service tells: its type, what it is about, when it became true, and what it says.
fn fact(
    world: &World,
    kind: &str,
    about: &str,
    at: i64,
    payload: &Value,
    client: Option<ClientId>,
) -> EventEnvelope {
    let seconds = world.clock_seconds() + at;
    EventEnvelope {
        event_id: EventId::generate().to_string(),
        r#type: kind.to_owned(),
        schema_version: 1,
        agency_id: world.agency.to_string(),
        client_id: client.map(|client| client.to_string()),
        aggregate_type: "thing".to_owned(),
        aggregate_id: about.to_owned(),
        aggregate_sequence: 1,
        occurred_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        actor: "service:billing".to_owned(),
        payload_json: payload.to_string(),
        ..EventEnvelope::default()
    }
}

async fn deliver(world: &World, fact: EventEnvelope) {
    let channel = world
        .stage
        .channel(ServiceName::Billing, ServiceName::Escalation);
    let request = DeliverEventsRequest { events: vec![fact] };
    let answer = EventInboxServiceClient::new(channel)
        .deliver_events(request)
        .await;
    let answer = answer.expect("delivered").into_inner();
    assert_eq!(answer.results[0].outcome(), EventOutcome::Applied);
}

fn failed(world: &World, invoice: &str, at: i64) -> EventEnvelope {
    let payload = json!({"invoice_id": invoice, "attempt_count": 1,
        "amount_due": {"amount_minor": 99_700, "currency": "usd"}});
    let client = Some(world.client);
    fact(
        world,
        "billing.invoice.payment_failed",
        "cli",
        at,
        &payload,
        client,
    )
}

fn paid(world: &World, invoice: &str, at: i64) -> EventEnvelope {
    let payload = json!({"invoice_id": invoice, "status": "paid"});
    let client = Some(world.client);
    fact(
        world,
        "billing.invoice.updated",
        invoice,
        at,
        &payload,
        client,
    )
}

fn webhook(world: &World, kind: &str, id: &str, at: i64) -> EventEnvelope {
    let payload = json!({"provider": "stripe", "type": "invoice.paid", "error": "billing is away"});
    fact(world, kind, id, at, &payload, None)
}

async fn alerts(world: &World) -> Vec<Alert> {
    let all = ListAlertsRequest {
        page_size: Some(100),
        ..Default::default()
    };
    let found = world.alerts().list_alerts(all).await;
    found.expect("a list").into_inner().data
}

async fn only(world: &World) -> Alert {
    let mut all = alerts(world).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

async fn told(world: &World, address: &str, beginning: &str, times: usize) {
    until(
        &format!("{address} is told {times} times: {beginning}"),
        async || {
            // What is tried again has its time.
            world.pass(1);
            let told = world.sent.to(address);
            let count = told
                .iter()
                .filter(|body| body.starts_with(beginning))
                .count();
            assert!(count <= times, "{told:?}");
            (count == times).then_some(())
        },
    )
    .await;
    // Until there is nothing left to tell.
    until("all is told", async || {
        world.pass(1);
        let jobs = "select count(*) from escalation.job where kind = 'tell_alert'";
        (world.postgres.count(jobs).await == 0).then_some(())
    })
    .await;
    let told = world.sent.to(address);
    let count = told
        .iter()
        .filter(|body| body.starts_with(beginning))
        .count();
    assert_eq!(count, times, "{told:?}");
}

fn once<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let key = uuid::Uuid::new_v4().to_string().parse().expect("ASCII");
    request.metadata_mut().insert("idempotency-key", key);
    request
}

fn to_address(channel: AlertChannel, address: &str) -> CreateAlertRouteRequest {
    CreateAlertRouteRequest {
        name: Some("Ops".to_owned()),
        channel: Some(channel.into()),
        address: Some(address.to_owned()),
        ..Default::default()
    }
}

async fn route(world: &World, wanted: CreateAlertRouteRequest) -> AlertRoute {
    let made = world.alert_routes().create_alert_route(once(wanted)).await;
    made.expect("a route").into_inner()
}

async fn resolve(world: &World, id: &str) -> Alert {
    let request = ResolveAlertRequest {
        alert_id: id.to_owned(),
    };
    let resolved = world.alerts().resolve_alert(request).await;
    resolved.expect("resolved").into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once_are_one_alert_that_is_told_once_and_the_next_after_its_end_is_new() {
    let world = World::new().await;
    let refuses = || {
        let payload = json!({"provider": "twilio", "code": "30034", "text": "not registered"});
        let kind = "messaging.provider.refused_us";
        let about = EventId::generate().to_string();
        fact(&world, kind, &about, 0, &payload, Some(world.client))
    };
    join_all((0..100).map(|_| deliver(&world, refuses()))).await;
    let first = only(&world).await;
    assert_eq!(first.kind(), AlertKind::ProviderRefusesUs);
    assert_eq!(
        (first.occurrences(), first.state()),
        (100, AlertState::Open)
    );
    assert_eq!(first.client_id(), world.client.to_string());
    told(&world, OWNER, "Critical: twilio refuses messages", 1).await;
    let body = world.sent.to(OWNER).remove(0);
    assert!(
        body.contains("alerts.md#provider_refuses_us") && body.contains(first.id()),
        "{body}"
    );

    // Ended by a person, by many at once; it is over once, and what comes now is new.
    let ends = (0..8).map(|_| resolve(&world, first.id()));
    let ended: BTreeSet<i64> = join_all(ends)
        .await
        .iter()
        .map(|one| one.resolved_at.as_ref().map_or(0, |at| at.seconds))
        .collect();
    assert_eq!(ended.len(), 1);
    told(&world, OWNER, "Over: twilio refuses messages", 1).await;
    deliver(&world, refuses()).await;
    told(&world, OWNER, "Critical: twilio refuses messages", 2).await;
    let open: Vec<Alert> = alerts(&world).await;
    assert_eq!(open.len(), 2);
    assert_ne!(open[0].id(), first.id());
    assert_eq!((open[0].occurrences(), open[1].occurrences()), (1, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_over_by_its_opposite_in_whatever_order_they_come_in() {
    let world = World::new().await;
    // Paid before anybody here heard that it had failed.
    deliver(&world, paid(&world, "inv_1", 10)).await;
    deliver(&world, failed(&world, "inv_1", 0)).await;
    assert!(alerts(&world).await.is_empty());
    // It fails anew, is counted, is paid; and an old failure comes late.
    deliver(&world, failed(&world, "inv_1", 20)).await;
    deliver(&world, failed(&world, "inv_1", 21)).await;
    told(&world, OWNER, "Critical: Collecting the invoice inv_1", 1).await;
    assert_eq!(only(&world).await.occurrences(), 2);
    deliver(&world, paid(&world, "inv_1", 30)).await;
    deliver(&world, failed(&world, "inv_1", 25)).await;
    let over = only(&world).await;
    assert_eq!(over.state(), AlertState::Resolved);
    assert_eq!(over.resolved_by(), "service:escalation");
    told(&world, OWNER, "Over: Collecting the invoice inv_1", 1).await;

    // Both at once, many times: whatever came in first, none of it is left.
    let pairs = (100..140).map(|number| {
        let invoice = format!("inv_{number}");
        let world = &world;
        async move {
            let (first, second) = (failed(world, &invoice, 40), paid(world, &invoice, 41));
            let both = match number % 2 {
                0 => [first, second],
                _ => [second, first],
            };
            join_all(both.map(|fact| deliver(world, fact))).await;
        }
    });
    join_all(pairs).await;
    let lasting = alerts(&world).await.into_iter();
    let lasting = lasting.filter(|alert| alert.state() != AlertState::Resolved);
    assert_eq!(lasting.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_of_a_kind_are_one_alert_that_is_over_when_all_of_them_are() {
    let world = World::new().await;
    let (dead, well) = (
        "integrations.webhook.dead",
        "integrations.webhook.recovered",
    );
    let ids: Vec<String> = (0..20).map(|number| format!("whe_{number}")).collect();
    join_all(
        ids.iter()
            .map(|id| deliver(&world, webhook(&world, dead, id, 0))),
    )
    .await;
    let one = only(&world).await;
    assert_eq!((one.subject(), one.occurrences()), ("stripe", 20));
    assert_eq!(one.client_id, None);
    let (last, others) = ids.split_last().expect("twenty");
    join_all(
        others
            .iter()
            .map(|id| deliver(&world, webhook(&world, well, id, 1))),
    )
    .await;
    assert_eq!(only(&world).await.state(), AlertState::Open);
    deliver(&world, webhook(&world, well, last, 1)).await;
    assert_eq!(only(&world).await.state(), AlertState::Resolved);
    // Whoever looks at webhooks that nobody knows to be dead changes nothing.
    deliver(&world, webhook(&world, well, "whe_99", 2)).await;
    assert_eq!(alerts(&world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_messaging_is_away_it_waits_and_is_told_once_to_whom_its_route_said() {
    let world = World::new().await;
    let ana = world.add_member(1).await;
    let by_text = CreateAlertRouteRequest {
        name: Some("Money".to_owned()),
        kinds: Some(AlertKinds {
            values: vec![AlertKind::PaymentFailed.into()],
        }),
        channel: Some(AlertChannel::Sms.into()),
        member_ids: Some(AlertMembers {
            values: vec![ana.id.to_string()],
        }),
        ..Default::default()
    };
    let money = route(&world, by_text).await;
    world.sent.away(6);
    deliver(&world, failed(&world, "inv_1", 0)).await;
    told(
        &world,
        &ana.phone,
        "Critical: Collecting the invoice inv_1",
        1,
    )
    .await;
    assert!(world.sent.to(OWNER).is_empty(), "her route took it");

    // The route is changed: the next one goes elsewhere, and that the first is over to her, who heard of it.
    let change = UpdateAlertRouteRequest {
        alert_route_id: money.id().to_owned(),
        channel: Some(AlertChannel::Email.into()),
        address: Some("ops@acme.test".to_owned()),
        etag: money.etag.clone(),
        ..Default::default()
    };
    let mut door = world.alert_routes();
    let changed = door.update_alert_route(once(change.clone())).await;
    let changed = changed.expect("changed").into_inner();
    assert_eq!(
        (changed.address(), &changed.member_ids),
        ("ops@acme.test", &None)
    );
    let stale = world.alert_routes().update_alert_route(once(change)).await;
    let stale = refused(&stale.expect_err("it has changed"));
    assert_eq!(stale.reason(), ErrorReason::EtagMismatch);
    world.sent.away(3);
    deliver(&world, paid(&world, "inv_1", 1)).await;
    deliver(&world, failed(&world, "inv_2", 1)).await;
    told(
        &world,
        "ops@acme.test",
        "Critical: Collecting the invoice inv_2",
        1,
    )
    .await;
    told(&world, &ana.phone, "Over: Collecting the invoice inv_1", 1).await;
    assert_eq!(world.sent.to(&ana.phone).len(), 2, "nothing more");

    // Without the route the owner hears of what is critical.
    let gone = DeleteAlertRouteRequest {
        alert_route_id: money.id().to_owned(),
    };
    let gone = world.alert_routes().delete_alert_route(gone).await;
    gone.expect("deleted");
    deliver(&world, failed(&world, "inv_3", 1)).await;
    told(&world, OWNER, "Critical: Collecting the invoice inv_3", 1).await;
    assert_eq!(world.sent.to("ops@acme.test").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_after_the_telling_says_nothing_twice() {
    let world = World::new().await;
    deliver(&world, failed(&world, "inv_1", 0)).await;
    told(&world, OWNER, "Critical: Collecting the invoice inv_1", 1).await;
    // As it stands when messaging has taken the notice and the process died before it could write so.
    for lost in [
        "update escalation.alert_notice set state = 'telling', message_id = null",
        "update escalation.alert set told_severity = null",
        "insert into escalation.job (id, kind, run_at, payload, agency_id, max_attempts)
         select gen_random_uuid(), 'tell_alert', now() - interval '1 day', jsonb_build_object('alert', id), agency_id, 20
         from escalation.alert",
    ] {
        world.postgres.execute(lost).await;
    }
    let said = "select count(*) from escalation.alert_notice n join escalation.alert a on a.id = n.alert_id
         where n.state = 'told' and a.told_severity = 'critical'";
    until("it is written that they know", async || {
        world.pass(1);
        (world.postgres.count(said).await == 1).then_some(())
    })
    .await;
    told(&world, OWNER, "Critical: Collecting the invoice inv_1", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_reaches_nobody_lets_the_owner_hear_of_what_is_critical() {
    let world = World::new().await;
    route(&world, to_address(AlertChannel::Email, "nobody@acme.test")).await;
    world.sent.refuses("nobody@acme.test");
    deliver(&world, failed(&world, "inv_1", 0)).await;
    told(&world, OWNER, "Critical: Collecting the invoice inv_1", 1).await;
    assert!(world.sent.to("nobody@acme.test").is_empty());
    for (channel, address) in [
        (AlertChannel::Sms, "nobody@acme.test"),
        (AlertChannel::Email, "+15125550100"),
    ] {
        let wrong = to_address(channel, address);
        let wrong = world.alert_routes().create_alert_route(once(wrong)).await;
        let problem = refused(&wrong.expect_err("nothing can be told there"));
        assert_eq!(problem.reason(), ErrorReason::InvalidRequest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_who_looks_stays_the_one_and_others_see_only_their_clients() {
    let world = World::new().await;
    let other = ClientId::generate();
    deliver(&world, failed(&world, "inv_1", 0)).await;
    deliver(
        &world,
        webhook(&world, "integrations.webhook.dead", "whe_1", 0),
    )
    .await;
    let theirs = async |client| {
        let list = ListAlertsRequest::default();
        let found = world.alerts_of(&[client]).list_alerts(list).await;
        found.expect("a list").into_inner().data
    };
    let of_client = theirs(world.client).await;
    assert_eq!(of_client.len(), 1);
    assert_eq!(of_client[0].kind(), AlertKind::PaymentFailed);
    assert!(theirs(other).await.is_empty());
    let id = of_client[0].id();
    let get = GetAlertRequest {
        alert_id: id.to_owned(),
    };
    let hidden = world.alerts_of(&[other]).get_alert(get.clone()).await;
    let hidden = refused(&hidden.expect_err("it is another client's"));
    assert_eq!(hidden.reason(), ErrorReason::NotFound);

    let looks = (0..20).map(|number| {
        let mut door = match number % 2 {
            0 => world.alerts(),
            _ => world.alerts_of(&[world.client]),
        };
        let alert_id = id.to_owned();
        async move {
            door.acknowledge_alert(AcknowledgeAlertRequest { alert_id })
                .await
        }
    });
    let who: BTreeSet<String> = join_all(looks)
        .await
        .into_iter()
        .map(|answer| {
            answer
                .expect("seen")
                .into_inner()
                .acknowledged_by()
                .to_owned()
        })
        .collect();
    assert_eq!(who.len(), 1, "{who:?}");
    // What happens again is counted, and whoever looks looks still.
    deliver(&world, failed(&world, "inv_1", 1)).await;
    let again = world
        .alerts()
        .get_alert(get)
        .await
        .expect("found")
        .into_inner();
    assert_eq!(
        (again.state(), again.occurrences()),
        (AlertState::Acknowledged, 2)
    );
    resolve(&world, id).await;
    let late = AcknowledgeAlertRequest {
        alert_id: id.to_owned(),
    };
    let late = world.alerts().acknowledge_alert(late).await;
    let late = refused(&late.expect_err("it is over"));
    assert_eq!(late.reason(), ErrorReason::AlertResolved);
    for (filter, wanted) in [
        (
            ListAlertsRequest {
                state: Some(AlertState::Open.into()),
                ..Default::default()
            },
            1,
        ),
        (
            ListAlertsRequest {
                severity: Some(AlertSeverity::Critical.into()),
                ..Default::default()
            },
            2,
        ),
        (
            ListAlertsRequest {
                kind: Some(AlertKind::WebhookDead.into()),
                ..Default::default()
            },
            1,
        ),
    ] {
        let found = world.alerts().list_alerts(filter).await.expect("a list");
        assert_eq!(found.into_inner().data.len(), wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_escalation_that_nobody_took_is_an_alert() {
    let world = World::new().await;
    let step = LadderStep {
        channels: vec!["sms".to_owned()],
        wait_seconds: Some(10),
        ..Default::default()
    };
    let ladder = PutLadderRequest {
        client_id: world.client.to_string(),
        steps: vec![step],
        rounds: Some(1),
        etag: None,
    };
    world.ladders().put_ladder(ladder).await.expect("a ladder");
    let raised = world.raise("roof 7").await;
    told(
        &world,
        OWNER,
        "Critical: Nobody took an escalation: roof 7 needs a person",
        1,
    )
    .await;
    let alert = only(&world).await;
    assert_eq!(
        (alert.kind(), alert.subject()),
        (AlertKind::EscalationUnanswered, raised.id())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_hear_of_a_service_that_is_down_for_two_looks_and_of_its_return() {
    let world = World::operating().await;
    let of_messaging = async || {
        let all = alerts(&world).await.into_iter();
        let mut all = all.filter(|alert| alert.subject() == "messaging/not_ready");
        all.next()
    };
    // Billing and integrations do not answer here; messaging does.
    until("the silent ones are seen", async || {
        world.pass(1);
        let all = alerts(&world).await;
        let silent = all
            .iter()
            .filter(|alert| alert.subject().ends_with("/no_answer"));
        (silent.count() == 2).then_some(())
    })
    .await;
    assert_eq!(of_messaging().await, None);
    world.messaging.set("carriers", Status::Unhealthy, "away");
    let down = until("it is seen", async || {
        world.pass(1);
        of_messaging().await
    })
    .await;
    assert_eq!(
        (down.kind(), down.severity()),
        (AlertKind::ServiceDown, AlertSeverity::Critical)
    );
    told(
        &world,
        OWNER,
        "Critical: messaging: a part of the role does not work",
        1,
    )
    .await;
    world.messaging.set("carriers", Status::Healthy, "");
    until("it is over", async || {
        world.pass(1);
        let found = of_messaging().await.expect("it was there");
        (found.state() == AlertState::Resolved).then_some(())
    })
    .await;
    told(
        &world,
        OWNER,
        "Over: messaging: a part of the role does not work",
        1,
    )
    .await;
}
