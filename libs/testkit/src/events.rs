//! What every service that takes events must hold to, whatever the events mean to it.
//! Deliberately absent: effects. Each service tests its own.
#![expect(
    clippy::expect_used,
    reason = "a service that does not hold to it has failed, and the message is for its reader"
)]

use std::future::Future;

use mainstay_db::Database;
use mainstay_proto::events::v1::event_inbox_service_client::EventInboxServiceClient;
use mainstay_proto::events::v1::{DeliverEventsRequest, EventEnvelope, EventOutcome};
use mainstay_rpc::ServiceRuntime;
use mainstay_runtime::Clock;
use mainstay_types::{AgencyId, ClientId, EventId, ServiceName};

use crate::{Stage, TestDatabase};

/// `identity.client.created`, of a client of its own.
pub fn client_created(sequence: i64, aggregate_id: &str) -> EventEnvelope {
    EventEnvelope {
        event_id: EventId::generate().to_string(),
        r#type: "identity.client.created".to_owned(),
        schema_version: 1,
        agency_id: AgencyId::generate().to_string(),
        client_id: Some(ClientId::generate().to_string()),
        aggregate_type: "client".to_owned(),
        aggregate_id: aggregate_id.to_owned(),
        aggregate_sequence: sequence,
        occurred_at: Some(prost_types::Timestamp::default()),
        actor: "service:identity".to_owned(),
        payload_json: "{}".to_owned(),
        ..EventEnvelope::default()
    }
}

/// The service starts, is ready, takes every event once however often it is delivered, and stops.
///
/// # Panics
/// When it does not.
pub async fn starts_takes_every_event_once_and_stops<S, E>(
    me: ServiceName,
    serve: impl FnOnce(Database, ServiceRuntime) -> S,
) where
    S: Future<Output = Result<(), E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let database = TestDatabase::new().await;
    let mut stage = Stage::new(&[me]).await;
    let runtime = stage.runtime(me, &Clock::system(0));
    let health = runtime.health.clone();
    let serving = tokio::spawn(serve(database.database(me.as_str()).await, runtime));

    let mut inbox = EventInboxServiceClient::new(stage.channel(ServiceName::Identity, me));
    let events = vec![
        client_created(1, "a"),
        client_created(2, "a"),
        client_created(1, "b"),
    ];
    for delivery in 1..=2 {
        let request = DeliverEventsRequest {
            events: events.clone(),
        };
        let taken = inbox.deliver_events(request).await.expect("taken");
        let results = taken.into_inner().results;
        assert_eq!(results.len(), 3);
        for (result, event) in results.iter().zip(&events) {
            assert_eq!(result.event_id, event.event_id);
            assert_eq!(
                result.outcome(),
                EventOutcome::Applied,
                "delivery {delivery}: {}",
                result.error
            );
        }
    }
    let mut changes = health.subscribe();
    changes
        .wait_for(|report| report.ready())
        .await
        .expect("the role lives");
    stage.shutdown().trigger();
    serving.await.expect("no panic").expect("it served");
    assert!(!health.ready(), "a role that stops takes no traffic");
    let counted = format!("select count(*) from {me}.inbox_event");
    assert_eq!(database.count(&counted).await, 3, "each once");
}
