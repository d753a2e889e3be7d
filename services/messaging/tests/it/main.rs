//! Messaging on real PostgreSQL, behind its real stack, called as other services call it.
//! Deliberately absent: messages. There are none yet.

use std::sync::Arc;

use mainstay_messaging::Settings;
use mainstay_proto::events::v1::event_inbox_service_client::EventInboxServiceClient;
use mainstay_proto::events::v1::{DeliverEventsRequest, EventEnvelope, EventOutcome};
use mainstay_rpc::server::Limits;
use mainstay_rpc::{Channels, ServiceKey, ServiceName, ServiceRuntime, TrustedKeys};
use mainstay_runtime::clock::Clock;
use mainstay_runtime::health::Health;
use mainstay_runtime::shutdown::Shutdown;
use mainstay_testkit::TestDatabase;
use mainstay_types::{AgencyId, ClientId, EventId};
use tokio::net::TcpListener;

fn client_created(sequence: i64, aggregate_id: &str) -> EventEnvelope {
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

#[tokio::test(flavor = "multi_thread")]
async fn messaging_starts_answers_takes_every_event_once_and_stops() {
    let database = TestDatabase::new().await;
    let identity = ServiceKey::generate(ServiceName::Identity);
    let own = ServiceKey::generate(ServiceName::Messaging);
    let trusted = [&identity, &own]
        .into_iter()
        .fold(TrustedKeys::new(), |trusted, key| {
            trusted
                .trust(key.service(), &key.public_hex())
                .expect("a key of its own making")
        });
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback port is free");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    let channels = |key| {
        Channels::new(Arc::new(key), [(ServiceName::Messaging, address.clone())]).expect("a URL")
    };
    let callers = channels(identity);
    let (shutdown, health) = (Shutdown::new(), Health::new());
    let runtime = ServiceRuntime {
        me: ServiceName::Messaging,
        trusted,
        channels: channels(own),
        clock: Clock::system(0),
        shutdown: shutdown.clone(),
        health: health.clone(),
        listener,
        limits: Limits::default(),
    };
    let serving = tokio::spawn(mainstay_messaging::serve(
        Settings::default(),
        database.database("messaging").await,
        runtime,
    ));

    let mut inbox = EventInboxServiceClient::new(callers.channel(ServiceName::Messaging));
    let events = vec![
        client_created(1, "a"),
        client_created(2, "a"),
        client_created(1, "b"),
    ];
    for delivery in 1..=2 {
        let request = DeliverEventsRequest {
            events: events.clone(),
        };
        let results = inbox
            .deliver_events(request)
            .await
            .expect("taken")
            .into_inner()
            .results;
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
    assert!(health.ready());
    shutdown.trigger();
    serving.await.expect("no panic").expect("it served");
    assert!(!health.ready(), "a role that stops takes no traffic");
    assert_eq!(
        database
            .count("select count(*) from messaging.inbox_event")
            .await,
        3,
        "each once"
    );
}
