//! Events from billing's outbox into identity's inbox: once, in order, and past what is poisoned.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::TimeDelta;
use mainstay_db::{Database, Error};
use mainstay_jobs::{
    Event, EventError, EventHandler, EventTx, Inbox, NewEvent, Relay,
    audit::{self, AuditRecord, Recorded},
    outbox::{self, Deliver, RelaySettings, emit},
};
use mainstay_proto::events::v1::{EventEnvelope, EventOutcome, EventResult};
use mainstay_runtime::Shutdown;
use mainstay_types::{EventId, ServiceName, Tenant};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle};
use tonic::Status;

use crate::support::{Bench, noon, tenant};

/// Applies by writing a row of its own transaction, and reports what it was asked.
struct Recorder {
    asked: mpsc::UnboundedSender<Event>,
    answer: Arc<Mutex<Answer>>,
}

type Answer = Box<dyn Fn(&Event) -> Result<(), EventError> + Send>;

#[tonic::async_trait]
impl EventHandler for Recorder {
    async fn apply(&self, tx: &mut EventTx, event: &Event) -> Result<(), EventError> {
        let answer = (self.answer.lock().unwrap())(event);
        // An effect of the same transaction: a job of the consumer.
        sqlx::query("insert into job (id, kind, run_at, payload, max_attempts) values (gen_random_uuid(), 'effect', now(), $1, 1)")
            .bind(&event.payload)
            .execute(tx.conn())
            .await?;
        let _ = self.asked.send(event.clone());
        answer
    }
}

struct Stage {
    bench: Bench,
    identity: Database,
    inbox: Inbox,
    asked: mpsc::UnboundedReceiver<Event>,
    answer: Arc<Mutex<Answer>>,
}

impl Stage {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let identity = bench.test.database("identity").await;
        let (sender, asked) = mpsc::unbounded_channel();
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(|_| Ok(()))));
        let recorder = Recorder {
            asked: sender,
            answer: answer.clone(),
        };
        let inbox = Inbox::new(ServiceName::Identity, identity.worker(), recorder);
        Self {
            bench,
            identity,
            inbox,
            asked,
            answer,
        }
    }

    fn answer(&self, answer: impl Fn(&Event) -> Result<(), EventError> + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn relay(&self, to: impl Deliver) -> Relaying {
        let settings = RelaySettings {
            poll_interval: Duration::from_millis(10),
            patience: 3,
            ..RelaySettings::default()
        };
        let relay = Relay::new(
            ServiceName::Billing,
            self.bench.worker(),
            self.bench.clock.clone(),
            settings,
        )
        .to(ServiceName::Identity, to)
        .audit_to(self.inbox.clone());
        let shutdown = Shutdown::new();
        let task = tokio::spawn(relay.run(shutdown.clone()));
        Relaying { shutdown, task }
    }

    async fn emit(&self, t: Tenant, aggregate: &str, sequence: i64) -> EventId {
        let mut tx = self.bench.database.tenant(t).await.unwrap();
        let id = emit(tx.conn(), &event(t, aggregate, sequence))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        id
    }

    async fn effects(&self) -> i64 {
        self.bench
            .test
            .count("select count(*) from identity.job where kind = 'effect'")
            .await
    }

    async fn outstanding(&self) -> i64 {
        self.bench
            .test
            .count("select count(*) from billing.outbox_delivery")
            .await
    }
}

struct Relaying {
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Relaying {
    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }
}

fn event(t: Tenant, aggregate: &str, sequence: i64) -> NewEvent {
    NewEvent {
        event_type: "billing.subscription.activated",
        schema_version: 1,
        agency: t.agency,
        client: Some(t.client),
        aggregate_type: "subscription",
        aggregate_id: aggregate.to_owned(),
        sequence,
        occurred_at: noon(),
        actor: "service:billing".to_owned(),
        cause: None,
        payload: json!({ "aggregate": aggregate, "sequence": sequence }),
        consumers: &[ServiceName::Identity],
    }
}

#[tokio::test]
async fn an_event_is_told_only_if_its_cause_commits() {
    let mut stage = Stage::new().await;
    let t = tenant();
    let mut tx = stage.bench.database.tenant(t).await.unwrap();
    emit(tx.conn(), &event(t, "a", 1)).await.unwrap();
    drop(tx);
    let id = stage.emit(t, "b", 1).await;
    let relaying = stage.relay(stage.inbox.clone());
    let told = stage.asked.recv().await.unwrap();
    assert_eq!(
        (told.id, told.agency, told.client),
        (id, t.agency, Some(t.client))
    );
    assert_eq!(told.payload, json!({ "aggregate": "b", "sequence": 1 }));
    while stage.outstanding().await > 0 {}
    relaying.stop().await;
    assert_eq!(stage.effects().await, 1);
}

#[tokio::test]
async fn a_request_tells_nothing_in_another_clients_name() {
    let stage = Stage::new().await;
    let mut tx = stage.bench.database.tenant(tenant()).await.unwrap();
    let refused = emit(tx.conn(), &event(tenant(), "a", 1)).await;
    assert!(matches!(refused, Err(Error::Other(_))), "{refused:?}");
}

#[tokio::test]
async fn a_sequence_is_used_once_and_a_loop_of_causes_is_cut() {
    let stage = Stage::new().await;
    let t = tenant();
    let first = stage.emit(t, "a", 1).await;
    let mut tx = stage.bench.database.tenant(t).await.unwrap();
    let twice = emit(tx.conn(), &event(t, "a", 1)).await.unwrap_err();
    // Both tables refuse it; which speaks first is PostgreSQL's choice.
    let refused_by = twice.constraint().unwrap();
    assert!(
        ["outbox_event_sequence_key", "outbox_delivery_order_key"].contains(&refused_by),
        "{refused_by}"
    );
    drop(tx);
    let mut tx = stage.bench.database.tenant(t).await.unwrap();
    let mut looping = event(t, "a", 2);
    looping.cause = Some(outbox::Cause {
        event: first,
        depth: outbox::MAX_CAUSATION_DEPTH,
    });
    let cut = emit(tx.conn(), &looping).await.unwrap_err();
    assert_eq!(cut.constraint(), Some("outbox_event_causation_depth_check"));
}

/// Delivers each batch twice, as a lost answer would.
struct Twice(Inbox);

#[tonic::async_trait]
impl Deliver for Twice {
    async fn deliver(&self, events: Vec<EventEnvelope>) -> Result<Vec<EventResult>, Status> {
        self.0.deliver(events.clone()).await?;
        self.0.deliver(events).await
    }
}

#[tokio::test]
async fn a_second_delivery_is_harmless() {
    let mut stage = Stage::new().await;
    let t = tenant();
    for sequence in 1..=3 {
        stage.emit(t, "a", sequence).await;
    }
    let relaying = stage.relay(Twice(stage.inbox.clone()));
    for sequence in 1..=3 {
        assert_eq!(stage.asked.recv().await.unwrap().sequence, sequence);
    }
    while stage.outstanding().await > 0 {}
    relaying.stop().await;
    assert_eq!(stage.effects().await, 3);
    assert!(stage.asked.try_recv().is_err());
}

#[tokio::test]
async fn two_deliveries_at_once_have_one_effect() {
    let stage = Stage::new().await;
    let t = tenant();
    let envelope = EventEnvelope {
        event_id: EventId::generate().to_string(),
        r#type: "billing.subscription.activated".to_owned(),
        schema_version: 1,
        agency_id: t.agency.to_string(),
        client_id: Some(t.client.to_string()),
        aggregate_type: "subscription".to_owned(),
        aggregate_id: "a".to_owned(),
        aggregate_sequence: 1,
        occurred_at: Some(prost_types::Timestamp::default()),
        actor: "service:billing".to_owned(),
        payload_json: "{}".to_owned(),
        ..EventEnvelope::default()
    };
    let (one, other) = tokio::join!(
        stage.inbox.take(vec![envelope.clone()]),
        stage.inbox.take(vec![envelope])
    );
    for results in [one, other] {
        assert_eq!(results[0].outcome(), EventOutcome::Applied, "{results:?}");
    }
    assert_eq!(stage.effects().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_keep_the_order_of_each_aggregate() {
    let mut stage = Stage::new().await;
    let t = tenant();
    for sequence in 1..=20 {
        for aggregate in ["a", "b", "c"] {
            stage.emit(t, aggregate, sequence).await;
        }
    }
    let relays = [
        stage.relay(stage.inbox.clone()),
        stage.relay(stage.inbox.clone()),
    ];
    let mut last = std::collections::HashMap::new();
    for _ in 0..60 {
        let event = stage.asked.recv().await.unwrap();
        let before = last
            .insert(event.aggregate_id.clone(), event.sequence)
            .unwrap_or(0);
        assert_eq!(event.sequence, before + 1, "{}", event.aggregate_id);
    }
    while stage.outstanding().await > 0 {}
    for relay in relays {
        relay.stop().await;
    }
    assert_eq!(stage.effects().await, 60);
}

#[tokio::test]
async fn a_poisoned_event_blocks_only_its_aggregate_until_a_person_decides() {
    let mut stage = Stage::new().await;
    let t = tenant();
    stage.answer(|event| {
        if event.aggregate_id == "bad" && event.sequence < 3 {
            Err(EventError::poisoned("no such plan"))
        } else {
            Ok(())
        }
    });
    let first = stage.emit(t, "bad", 1).await;
    let second = stage.emit(t, "bad", 2).await;
    stage.emit(t, "bad", 3).await;
    stage.emit(t, "good", 1).await;
    stage.emit(t, "good", 2).await;
    let relaying = stage.relay(stage.inbox.clone());
    let parked = "select count(*) from billing.outbox_delivery where state = 'parked' and last_error = 'no such plan'";
    while stage.effects().await < 2 || stage.bench.test.count(parked).await < 1 {}
    assert_eq!(
        stage.outstanding().await,
        3,
        "the rest of its aggregate waits"
    );

    // Skipped: the next of the aggregate comes, and is as bad.
    let mut tx = stage.bench.worker().tx().await.unwrap();
    assert!(
        outbox::skip_parked(tx.conn(), first, ServiceName::Identity)
            .await
            .unwrap()
    );
    assert!(
        !outbox::skip_parked(tx.conn(), second, ServiceName::Identity)
            .await
            .unwrap(),
        "not parked yet"
    );
    tx.commit().await.unwrap();
    while stage.bench.test.count(parked).await < 1 {}

    // Mended: tried again, and the last one follows.
    stage.answer(|_| Ok(()));
    let mut tx = stage.bench.worker().tx().await.unwrap();
    assert!(
        outbox::replay_parked(tx.conn(), second, ServiceName::Identity, noon())
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    while stage.outstanding().await > 0 {}
    relaying.stop().await;
    assert_eq!(stage.effects().await, 4);
    stage.asked.close();
}

#[tokio::test]
async fn an_event_that_cannot_be_applied_now_comes_again_and_is_parked_when_patience_ends() {
    let mut stage = Stage::new().await;
    let t = tenant();
    stage.answer(|_| Err(EventError::retry("the plan is not here yet")));
    stage.emit(t, "a", 1).await;
    let relaying = stage.relay(stage.inbox.clone());
    for attempt in 1..=3 {
        stage.asked.recv().await.unwrap();
        // The pause is reckoned from when the refusal is written.
        let written =
            format!("select count(*) from billing.outbox_delivery where attempt = {attempt}");
        while stage.bench.test.count(&written).await < 1 {}
        stage.bench.hand.advance(TimeDelta::minutes(2));
    }
    let parked = "select count(*) from billing.outbox_delivery where state = 'parked'";
    assert_eq!(stage.bench.test.count(parked).await, 1);
    relaying.stop().await;
    assert_eq!(stage.effects().await, 0, "what was refused left nothing");
}

/// Not to be reached at first.
struct AwayAtFirst(Mutex<u32>, Inbox);

#[tonic::async_trait]
impl Deliver for AwayAtFirst {
    async fn deliver(&self, events: Vec<EventEnvelope>) -> Result<Vec<EventResult>, Status> {
        {
            let mut left = self.0.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return Err(Status::unavailable("connection refused"));
            }
        }
        self.1.deliver(events).await
    }
}

#[tokio::test]
async fn a_consumer_that_was_away_costs_its_events_no_attempt() {
    let mut stage = Stage::new().await;
    let t = tenant();
    let hand = stage.bench.hand.clone();
    stage.emit(t, "a", 1).await;
    // More often than patience lasts.
    let relaying = stage.relay(AwayAtFirst(Mutex::new(4), stage.inbox.clone()));
    let advancing = tokio::spawn(async move {
        loop {
            hand.advance(TimeDelta::seconds(1));
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(stage.asked.recv().await.unwrap().sequence, 1);
    advancing.abort();
    while stage.outstanding().await > 0 {}
    relaying.stop().await;
    assert_eq!(stage.effects().await, 1);
}

#[tokio::test]
async fn malformed_events_are_poison_not_crashes() {
    let stage = Stage::new().await;
    let t = tenant();
    let bad = [
        EventEnvelope::default(),
        EventEnvelope {
            event_id: EventId::generate().to_string(),
            agency_id: t.client.to_string(),
            ..Default::default()
        },
    ];
    for result in stage.inbox.take(bad.to_vec()).await.iter().take(1) {
        assert_eq!(result.outcome(), EventOutcome::Poisoned);
    }
}

#[tokio::test]
async fn audit_rows_reach_identity_once() {
    let mut stage = Stage::new().await;
    let t = tenant();
    let mut tx = stage.bench.database.tenant(t).await.unwrap();
    let id = audit::record(
        tx.conn(),
        &AuditRecord {
            agency: t.agency,
            client: Some(t.client),
            actor: "key_1",
            action: "billing.subscriptions.cancel",
            target_type: "subscription",
            target_id: "msub_1",
            before: Some(json!({ "status": "active" })),
            after: Some(json!({ "status": "canceled" })),
            request_id: Some("req_1"),
            occurred_at: noon(),
        },
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let relaying = stage.relay(stage.inbox.clone());
    let event = stage.asked.recv().await.unwrap();
    while stage
        .bench
        .test
        .count("select count(*) from billing.audit_outbox")
        .await
        > 0
    {}
    relaying.stop().await;
    assert_eq!(
        (event.event_type.as_str(), event.actor.as_str()),
        (audit::RECORDED, "key_1")
    );
    assert_eq!(
        (event.aggregate_id, event.occurred_at),
        (id.to_string(), noon())
    );
    let recorded: Recorded = serde_json::from_value(event.payload).unwrap();
    assert_eq!(recorded.service, ServiceName::Billing);
    assert_eq!(recorded.after, Some(json!({ "status": "canceled" })));
    stage.identity.ping().await.unwrap();
}
