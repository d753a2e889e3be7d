//! The audit log: every service's acts, once each, for ever.

use mainstay_jobs::audit::{RECORDED, Recorded};
use mainstay_proto::events::v1::event_inbox_service_client::EventInboxServiceClient;
use mainstay_proto::events::v1::{DeliverEventsRequest, EventEnvelope, EventOutcome};
use mainstay_proto::identity::v1 as proto;
use mainstay_testkit::in_time;
use mainstay_types::{AuditEventId, ClientId, EventId, ServiceName};
use prost_types::Timestamp;
use serde_json::json;

use crate::world::{Agency, World};

/// Waits until identity's relay has handed over every audit row.
async fn settled(world: &World) {
    // A signal would have to come from another process in production, too; the queue's emptiness is one.
    let empty = async {
        while world
            .postgres
            .count("select count(*) from identity.audit_outbox")
            .await
            > 0
        {
            tokio::task::yield_now().await;
        }
    };
    in_time("the relay hands everything over", empty).await;
}

async fn list(
    agency: &Agency<'_>,
    request: proto::ListAuditEventsRequest,
) -> Vec<proto::AuditEvent> {
    agency
        .owner
        .audit()
        .list_audit_events(request)
        .await
        .expect("a page")
        .into_inner()
        .data
}

fn recorded(agency: &Agency<'_>, client: Option<ClientId>) -> EventEnvelope {
    let id = EventId::generate();
    let payload = Recorded {
        service: ServiceName::Billing,
        action: "billing.plan.create".into(),
        target_type: "plan".into(),
        target_id: "plan_x".into(),
        before: None,
        after: Some(json!({"name": "Pro", "amount": 100})),
        request_id: Some("req_x".into()),
    };
    EventEnvelope {
        event_id: id.to_string(),
        r#type: RECORDED.to_owned(),
        schema_version: 1,
        agency_id: agency.text(),
        client_id: client.map(|id| id.to_string()),
        aggregate_type: "audit_event".into(),
        aggregate_id: AuditEventId::from_uuid(id.uuid()).to_string(),
        aggregate_sequence: 1,
        occurred_at: Some(Timestamp {
            seconds: 1_800_000_000,
            nanos: 0,
        }),
        actor: "mem_x".into(),
        causation_id: None,
        causation_depth: 0,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        payload_json: serde_json::to_string(&payload).expect("JSON"),
    }
}

#[tokio::test]
async fn what_the_owner_did_stands_in_the_log_with_who_and_what() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    settled(&world).await;
    let all = list(&agency, proto::ListAuditEventsRequest::default()).await;
    let actions: Vec<&str> = all
        .iter()
        .filter_map(|event| event.action.as_deref())
        .collect();
    assert_eq!(
        actions,
        [
            "identity.client.create",
            "identity.api_key.create",
            "identity.member.create",
            "identity.agency.create"
        ]
    );
    assert_eq!(all[0].actor, Some(agency.ensured.api_key.to_string()));
    assert_eq!(all[0].target, Some(client.to_string()));
    assert_eq!(all[0].service.as_deref(), Some("identity"));
    assert!(all[0].request_id.is_some());
    assert_eq!(all[3].actor.as_deref(), Some("service:identity"));
    let about = proto::ListAuditEventsRequest {
        client_id: Some(client.to_string()),
        ..Default::default()
    };
    assert_eq!(list(&agency, about).await.len(), 1);
    let of = proto::ListAuditEventsRequest {
        action: Some("identity.member.create".into()),
        ..Default::default()
    };
    assert_eq!(list(&agency, of).await.len(), 1);
    let two = world.agency("two").await;
    let theirs = proto::ListAuditEventsRequest {
        client_id: Some(client.to_string()),
        ..Default::default()
    };
    assert!(list(&two, theirs).await.is_empty());
}

#[tokio::test]
async fn another_services_record_is_taken_once_however_often_it_comes() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let envelope = recorded(&agency, Some(client));
    let mut inbox = EventInboxServiceClient::new(world.channel(ServiceName::Billing));
    for _ in 0..3 {
        let request = DeliverEventsRequest {
            events: vec![envelope.clone(), envelope.clone()],
        };
        let results = inbox
            .deliver_events(request)
            .await
            .expect("taken")
            .into_inner()
            .results;
        assert!(
            results
                .iter()
                .all(|result| result.outcome() == EventOutcome::Applied),
            "{results:?}"
        );
    }
    let of = proto::ListAuditEventsRequest {
        action: Some("billing.plan.create".into()),
        ..Default::default()
    };
    let listed = list(&agency, of).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].service.as_deref(), Some("billing"));
    assert_eq!(
        listed[0].trace_id.as_deref(),
        Some("0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!(listed[0].actor.as_deref(), Some("mem_x"));
}

#[tokio::test]
async fn the_log_cannot_be_rewritten_and_an_image_can_be_erased() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut inbox = EventInboxServiceClient::new(world.channel(ServiceName::Billing));
    let request = DeliverEventsRequest {
        events: vec![recorded(&agency, None)],
    };
    inbox.deliver_events(request).await.expect("taken");
    for sql in [
        "update identity.audit_event set actor = 'nobody'",
        "delete from identity.audit_event",
        "truncate identity.audit_event cascade",
    ] {
        let refused = sqlx::raw_sql(sql)
            .execute(&mut world.postgres.admin().await)
            .await;
        assert!(
            refused.expect_err(sql).to_string().contains("append-only"),
            "{sql}"
        );
    }
    world
        .postgres
        .execute("delete from identity.audit_image")
        .await;
    let left = "select count(*) from identity.audit_event where length(image_digest) = 32 and action = 'billing.plan.create'";
    assert_eq!(world.postgres.count(left).await, 1);
}
