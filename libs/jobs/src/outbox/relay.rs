//! Sends what is in the outbox: one task a consumer, so that one that is away does not hold up the others; and the audit
//! rows, to identity. Deliberately absent: leadership. Any number of relays may run; rows are leased and fenced.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mainstay_db::{Error, Worker};
use mainstay_proto::events::v1::{
    DeliverEventsRequest, EventEnvelope, EventOutcome, EventResult,
    event_inbox_service_client::EventInboxServiceClient,
};
use mainstay_rpc::{Channels, ServiceChannel};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_types::ServiceName;
use tokio::sync::Notify;
use tonic::Status;
use tracing::Instrument;
use uuid::Uuid;

use super::{Delivery, sql};
use crate::{audit, backoff::Backoff, runner::Wake};

/// How events reach a consumer.
#[tonic::async_trait]
pub trait Deliver: Send + Sync + 'static {
    /// Hands over a batch; a result for each, in order. An error: none of them is known to have arrived.
    async fn deliver(&self, events: Vec<EventEnvelope>) -> Result<Vec<EventResult>, Status>;
}

/// A consumer's `EventInboxService` over gRPC.
#[derive(Debug, Clone)]
pub struct RemoteInbox(EventInboxServiceClient<ServiceChannel>);

impl RemoteInbox {
    /// The inbox of that service.
    pub fn new(channels: &Channels, consumer: ServiceName) -> Self {
        Self(EventInboxServiceClient::new(channels.channel(consumer)))
    }
}

#[tonic::async_trait]
impl Deliver for RemoteInbox {
    async fn deliver(&self, events: Vec<EventEnvelope>) -> Result<Vec<EventResult>, Status> {
        let mut client = self.0.clone();
        let answer = client
            .deliver_events(DeliverEventsRequest { events })
            .await?;
        Ok(answer.into_inner().results)
    }
}

/// Limits of a relay.
#[derive(Debug, Clone, Copy)]
pub struct RelaySettings {
    /// Events a call.
    pub batch: usize,
    /// How often it looks when nothing wakes it.
    pub poll_interval: Duration,
    /// How long a claim holds: longer than a call may take.
    pub lease: Duration,
    /// From which failed attempt on an event is parked although its consumer still says "later".
    pub patience: u32,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            batch: 50,
            poll_interval: Duration::from_millis(500),
            lease: Duration::from_secs(15),
            patience: 30,
        }
    }
}

/// Sends the events of one schema.
pub struct Relay {
    service: ServiceName,
    worker: Worker,
    clock: Clock,
    settings: RelaySettings,
    consumers: HashMap<ServiceName, Arc<dyn Deliver>>,
    audit: Option<Arc<dyn Deliver>>,
    wakes: HashMap<ServiceName, Arc<Notify>>,
    audit_wake: Arc<Notify>,
}

impl Relay {
    /// A relay without consumers.
    pub fn new(
        service: ServiceName,
        worker: Worker,
        clock: Clock,
        settings: RelaySettings,
    ) -> Self {
        Self {
            service,
            worker,
            clock,
            settings,
            consumers: HashMap::new(),
            audit: None,
            wakes: HashMap::new(),
            audit_wake: Arc::default(),
        }
    }

    /// Sends events for this consumer there.
    pub fn to(mut self, consumer: ServiceName, deliver: impl Deliver) -> Self {
        self.consumers.insert(consumer, Arc::new(deliver));
        self.wakes.insert(consumer, Arc::default());
        self
    }

    /// Sends audit rows there: identity's inbox.
    pub fn audit_to(mut self, deliver: impl Deliver) -> Self {
        self.audit = Some(Arc::new(deliver));
        self
    }

    /// One wake for every task; call it after a commit that emitted events or recorded audit rows.
    pub fn wakes(&self) -> Vec<Wake> {
        self.wakes
            .values()
            .chain([&self.audit_wake])
            .map(|notify| Wake::of(Arc::clone(notify)))
            .collect()
    }

    /// Sends until the stop; a batch that is on its way is finished.
    pub async fn run(self, shutdown: Shutdown) {
        let events = self.consumers.iter().map(|(consumer, deliver)| {
            let wake = self.wakes.get(consumer).cloned().unwrap_or_default();
            (Sends::Events(*consumer), deliver, wake)
        });
        let audit = self
            .audit
            .iter()
            .map(|deliver| (Sends::Audit, deliver, Arc::clone(&self.audit_wake)));
        let mut tasks = tokio::task::JoinSet::new();
        for (sends, deliver, wake) in events.chain(audit) {
            let lane = Lane {
                service: self.service,
                worker: self.worker.clone(),
                clock: self.clock.clone(),
                settings: self.settings,
                deliver: Arc::clone(deliver),
                sends,
            };
            tasks.spawn(lane.run(shutdown.clone(), wake));
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// What a lane sends.
#[derive(Clone, Copy)]
enum Sends {
    Events(ServiceName),
    Audit,
}

/// What became of a round.
enum Round {
    /// There may be more: again at once.
    Busy,
    /// Nothing is due.
    Idle,
    /// The consumer was not reached: not too soon again.
    Away,
}

/// One consumer's way.
struct Lane {
    service: ServiceName,
    worker: Worker,
    clock: Clock,
    settings: RelaySettings,
    deliver: Arc<dyn Deliver>,
    sends: Sends,
}

impl Lane {
    async fn run(self, shutdown: Shutdown, wake: Arc<Notify>) {
        let mut failures = 0;
        while !shutdown.is_triggered() {
            let round = match self.sends {
                Sends::Events(consumer) => self.send(consumer).await,
                Sends::Audit => self.send_audit().await,
            };
            let pause = match round {
                Ok(Round::Busy) => {
                    failures = 0;
                    continue;
                }
                Ok(Round::Idle) => {
                    failures = 0;
                    self.settings.poll_interval
                }
                Ok(Round::Away) => {
                    failures += 1;
                    let back_soon = Backoff {
                        cap: Duration::from_secs(5),
                        ..Backoff::EVENTS
                    };
                    back_soon.jittered(failures)
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(service = %self.service, error = &error as &dyn std::error::Error, failures, "events cannot be relayed");
                    Backoff::EVENTS.jittered(failures)
                }
            };
            tokio::select! {
                () = shutdown.triggered() => {}
                () = wake.notified(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.settings.batch).unwrap_or(100)
    }

    fn lease_ms(&self) -> f64 {
        self.settings.lease.as_secs_f64() * 1000.0
    }

    /// The call, in a span that continues the trace of the events where they share one.
    async fn call(
        &self,
        consumer: ServiceName,
        events: Vec<EventEnvelope>,
    ) -> Result<Vec<EventResult>, Status> {
        let expected = events.len();
        let shared = match events.split_first() {
            Some((first, rest)) if rest.iter().all(|e| e.traceparent == first.traceparent) => {
                first.traceparent.clone()
            }
            _ => None,
        };
        let span = tracing::info_span!(
            "events",
            otel.name = format!("events to {consumer}"),
            otel.kind = "producer",
            mainstay.role = self.service.as_str(),
            events = expected,
        );
        if let Some(traceparent) = shared {
            mainstay_runtime::telemetry::set_parent(&span, &traceparent);
        }
        let call = self.deliver.deliver(events).instrument(span);
        // The claim must outlast the call.
        let results = tokio::time::timeout(self.settings.lease / 2, call)
            .await
            .map_err(|_| Status::deadline_exceeded("the consumer did not answer in time"))??;
        if results.len() == expected {
            Ok(results)
        } else {
            Err(Status::internal(
                "the consumer answered for another number of events",
            ))
        }
    }

    async fn send(&self, consumer: ServiceName) -> Result<Round, Error> {
        let now = self.clock.now();
        let mut tx = self.worker.claim().await?;
        let batch = sql::claim(tx.conn(), consumer, self.limit(), now, self.lease_ms()).await?;
        // Not held during the call.
        tx.commit().await?;
        if batch.is_empty() {
            return Ok(Round::Idle);
        }
        let events = batch
            .iter()
            .map(|delivery| delivery.envelope.clone())
            .collect();
        let answer = self.call(consumer, events).await;
        let mut connection = self.worker.connection().await?;
        let results = match answer {
            Ok(results) => results,
            Err(status) => {
                tracing::warn!(service = %self.service, %consumer, code = ?status.code(), message = status.message(), "a consumer of events cannot be reached");
                let (ids, fences) = keys(batch.iter());
                let later = now + Backoff::EVENTS.jittered(1);
                sql::postponed(connection.conn(), consumer, &ids, &fences, later).await?;
                return Ok(Round::Away);
            }
        };
        let (applied, others): (Vec<_>, Vec<_>) = batch
            .iter()
            .zip(&results)
            .partition(|(_, result)| result.outcome() == EventOutcome::Applied);
        let (ids, fences) = keys(applied.into_iter().map(|(delivery, _)| delivery));
        sql::delivered(connection.conn(), consumer, &ids, &fences).await?;
        for (delivery, result) in others {
            let park = result.outcome() == EventOutcome::Poisoned
                || delivery.attempt >= self.settings.patience;
            let later = self.clock.now() + Backoff::EVENTS.jittered(delivery.attempt);
            sql::failed(
                connection.conn(),
                consumer,
                delivery,
                &result.error,
                later,
                park,
            )
            .await?;
            let (event, event_type) = (&delivery.envelope.event_id, &delivery.envelope.r#type);
            if park {
                tracing::error!(service = %self.service, %consumer, event, event_type, error = result.error, "an event is parked: its aggregate waits for a person");
            } else {
                tracing::warn!(service = %self.service, %consumer, event, event_type, error = result.error, "an event was not applied and will be sent again");
            }
        }
        Ok(Round::Busy)
    }

    async fn send_audit(&self) -> Result<Round, Error> {
        let mut tx = self.worker.claim().await?;
        let batch = audit::claim(tx.conn(), self.service, self.limit(), self.lease_ms()).await?;
        tx.commit().await?;
        if batch.is_empty() {
            return Ok(Round::Idle);
        }
        let events = batch.iter().map(|row| row.envelope.clone()).collect();
        let answer = self.call(ServiceName::Identity, events).await;
        // What is not taken is sent again when its lease ends; the order of audit rows is identity's to make.
        let mut connection = self.worker.connection().await?;
        match answer {
            Ok(results) => {
                let (taken, left): (Vec<_>, Vec<_>) = batch
                    .iter()
                    .zip(&results)
                    .partition(|(_, result)| result.outcome() == EventOutcome::Applied);
                let (ids, fences) = keys(taken.into_iter().map(|(row, _)| row));
                audit::taken(connection.conn(), &ids, &fences).await?;
                for (row, result) in &left {
                    tracing::error!(service = %self.service, row = row.envelope.event_id, error = result.error, "identity does not take an audit row");
                }
                Ok(if left.is_empty() {
                    Round::Busy
                } else {
                    Round::Away
                })
            }
            Err(status) => {
                tracing::warn!(service = %self.service, code = ?status.code(), message = status.message(), "audit rows cannot be delivered");
                let (ids, fences) = keys(batch.iter());
                audit::postponed(connection.conn(), &ids, &fences).await?;
                Ok(Round::Away)
            }
        }
    }
}

fn keys<'a>(deliveries: impl Iterator<Item = &'a Delivery>) -> (Vec<Uuid>, Vec<i64>) {
    deliveries
        .map(|delivery| (delivery.event_id, delivery.fence))
        .unzip()
}
