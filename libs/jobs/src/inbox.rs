//! Events of other services, taken once: the note that an event was seen and its effect are one transaction.
//! Deliberately absent: order. The sender keeps it per aggregate; a handler that needs more compares sequences.

use std::{collections::HashSet, error::Error as StdError, sync::Arc};

use chrono::{DateTime, Utc};
use mainstay_db::{AgencyTx, TenantTx, Worker};
use mainstay_proto::events::v1::{
    DeliverEventsRequest, DeliverEventsResponse, EventEnvelope, EventOutcome, EventResult,
    event_inbox_service_server::{EventInboxService, EventInboxServiceServer},
};
use mainstay_types::{AgencyId, AgencyScope, ClientId, EventId, ServiceName, Tenant, Visible};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgConnection;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::outbox::{Cause, Deliver};

/// An event that came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// `identity.client.created`.
    pub event_type: String,
    /// Version of the payload's shape.
    pub schema_version: i32,
    /// Whose it is.
    pub agency: AgencyId,
    /// The client it is about.
    pub client: Option<ClientId>,
    /// The noun it is about.
    pub aggregate_type: String,
    /// That noun's id.
    pub aggregate_id: String,
    /// Rises with each event of the aggregate.
    pub sequence: i64,
    /// When it became true.
    pub occurred_at: DateTime<Utc>,
    /// Who made it true.
    pub actor: String,
    /// What caused it.
    pub causation_id: Option<String>,
    /// How many events stand before it.
    pub causation_depth: i32,
    /// The trace of the transaction that made it true.
    pub traceparent: Option<String>,
    /// What became true.
    pub payload: Value,
}

impl Event {
    /// The payload, typed.
    ///
    /// # Errors
    /// [`EventError::Poisoned`]: another delivery would read the same.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, EventError> {
        T::deserialize(&self.payload).map_err(EventError::poisoned)
    }

    /// What events caused by this one carry.
    pub fn as_cause(&self) -> Cause {
        Cause {
            event: self.id,
            depth: self.causation_depth,
        }
    }

    fn read(envelope: EventEnvelope) -> Result<Self, String> {
        let EventEnvelope {
            event_id,
            agency_id,
            client_id,
            occurred_at,
            payload_json,
            ..
        } = &envelope;
        let at = occurred_at.ok_or("occurred_at is missing")?;
        Ok(Self {
            id: event_id.parse().map_err(|e| format!("event_id {e}"))?,
            agency: agency_id.parse().map_err(|e| format!("agency_id {e}"))?,
            client: client_id
                .as_deref()
                .map(str::parse)
                .transpose()
                .map_err(|e| format!("client_id {e}"))?,
            occurred_at: u32::try_from(at.nanos)
                .ok()
                .and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos))
                .ok_or("occurred_at is no time")?,
            payload: serde_json::from_str(payload_json).map_err(|e| format!("payload_json {e}"))?,
            event_type: envelope.r#type,
            schema_version: envelope.schema_version,
            aggregate_type: envelope.aggregate_type,
            aggregate_id: envelope.aggregate_id,
            sequence: envelope.aggregate_sequence,
            actor: envelope.actor,
            causation_id: envelope.causation_id,
            causation_depth: envelope.causation_depth,
            traceparent: envelope.traceparent,
        })
    }
}

/// The worker's transaction in which an event has its effect: of its client where it names one, else of its agency.
#[derive(Debug)]
pub enum EventTx {
    /// The event is about a client.
    Tenant(TenantTx),
    /// The event is about the agency.
    Agency(AgencyTx),
}

impl EventTx {
    /// What `query!(…).execute(…)` takes.
    pub fn conn(&mut self) -> &mut PgConnection {
        match self {
            EventTx::Tenant(tx) => tx.conn(),
            EventTx::Agency(tx) => tx.conn(),
        }
    }

    /// The client's transaction.
    ///
    /// # Errors
    /// [`EventError::Poisoned`] when the event names no client.
    pub fn tenant(&mut self) -> Result<&mut TenantTx, EventError> {
        match self {
            EventTx::Tenant(tx) => Ok(tx),
            EventTx::Agency(_) => Err(EventError::poisoned("the event names no client")),
        }
    }

    async fn commit(self) -> mainstay_db::Result<()> {
        match self {
            EventTx::Tenant(tx) => tx.commit().await,
            EventTx::Agency(tx) => tx.commit().await,
        }
    }
}

type Source = Box<dyn StdError + Send + Sync>;

/// Why an event was not applied.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Send it again later.
    #[error("{0}")]
    Retry(Source),
    /// It can never be applied: a person must look. Its aggregate waits.
    #[error("{0}")]
    Poisoned(Source),
}

impl EventError {
    /// Send it again later.
    pub fn retry(source: impl Into<Source>) -> Self {
        Self::Retry(source.into())
    }

    /// A person must look.
    pub fn poisoned(source: impl Into<Source>) -> Self {
        Self::Poisoned(source.into())
    }
}

impl From<mainstay_db::Error> for EventError {
    fn from(error: mainstay_db::Error) -> Self {
        Self::Retry(error.into())
    }
}

impl From<sqlx::Error> for EventError {
    fn from(error: sqlx::Error) -> Self {
        mainstay_db::Error::from(error).into()
    }
}

/// What a service does about events.
#[tonic::async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// Applies the event in `tx`, which is committed with the note that it was seen. Types that mean nothing here are
    /// `Ok`: a sender may tell more than one asked for.
    async fn apply(&self, tx: &mut EventTx, event: &Event) -> Result<(), EventError>;

    /// After the commit: for wake-ups. Not called for repeats, and not at all when the process dies in between.
    fn applied(&self, _event: &Event) {}
}

/// Notes that `consumer` takes this event. False: it had it before; the effect is there.
///
/// # Errors
/// Whatever the database says.
pub async fn first_time(
    connection: &mut PgConnection,
    consumer: &str,
    event: EventId,
) -> mainstay_db::Result<bool> {
    let noted = sqlx::query!(
        "insert into inbox_event (event_id, consumer) values ($1, $2) on conflict do nothing",
        event.uuid(),
        consumer,
    )
    .execute(connection)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// A service's inbox: the gRPC server of `EventInboxService`, and a [`Deliver`] for events to itself.
#[derive(Clone)]
pub struct Inbox {
    service: ServiceName,
    worker: Worker,
    handler: Arc<dyn EventHandler>,
}

impl Inbox {
    /// An inbox whose effects are `handler`'s.
    pub fn new(service: ServiceName, worker: Worker, handler: impl EventHandler) -> Self {
        Self {
            service,
            worker,
            handler: Arc::new(handler),
        }
    }

    /// The gRPC service.
    pub fn server(self) -> EventInboxServiceServer<Self> {
        EventInboxServiceServer::new(self)
    }

    /// Takes a batch in order. After an event that was not applied, later ones of its aggregate wait.
    pub async fn take(&self, events: Vec<EventEnvelope>) -> Vec<EventResult> {
        let mut blocked = HashSet::new();
        let mut results = Vec::with_capacity(events.len());
        for envelope in events {
            let event_id = envelope.event_id.clone();
            let aggregate = (
                envelope.aggregate_type.clone(),
                envelope.aggregate_id.clone(),
            );
            let outcome = if blocked.contains(&aggregate) {
                Err(EventError::retry(
                    "an earlier event of its aggregate was not applied",
                ))
            } else {
                self.take_one(envelope).await
            };
            let (outcome, error) = match outcome {
                Ok(()) => (EventOutcome::Applied, String::new()),
                Err(failure) => {
                    blocked.insert(aggregate);
                    let outcome = match failure {
                        EventError::Retry(_) => EventOutcome::Retry,
                        EventError::Poisoned(_) => EventOutcome::Poisoned,
                    };
                    (outcome, failure.to_string())
                }
            };
            results.push(EventResult {
                event_id,
                outcome: outcome.into(),
                error,
            });
        }
        results
    }

    async fn take_one(&self, envelope: EventEnvelope) -> Result<(), EventError> {
        let event = Event::read(envelope).map_err(EventError::poisoned)?;
        let span = tracing::info_span!(
            "event",
            otel.name = format!("event {}", event.event_type),
            otel.kind = "consumer",
            otel.status_code = tracing::field::Empty,
            mainstay.role = self.service.as_str(),
            event.id = %event.id,
        );
        if let Some(traceparent) = &event.traceparent {
            mainstay_runtime::telemetry::set_parent(&span, traceparent);
        }
        let applied = self.apply(&event).instrument(span.clone()).await;
        if let Err(error) = &applied {
            span.record("otel.status_code", "ERROR");
            let _entered = span.enter();
            tracing::warn!(event.id = %event.id, event.event_type, error = error as &dyn StdError, "an event was not applied");
        }
        applied
    }

    async fn apply(&self, event: &Event) -> Result<(), EventError> {
        let mut tx = match event.client {
            Some(client) => EventTx::Tenant(
                self.worker
                    .tenant(Tenant {
                        agency: event.agency,
                        client,
                    })
                    .await?,
            ),
            None => {
                let scope = AgencyScope {
                    agency: event.agency,
                    visible: Visible::All,
                };
                EventTx::Agency(self.worker.agency(&scope).await?)
            }
        };
        if !first_time(tx.conn(), self.service.as_str(), event.id).await? {
            return Ok(());
        }
        self.handler.apply(&mut tx, event).await?;
        tx.commit().await?;
        self.handler.applied(event);
        Ok(())
    }
}

#[tonic::async_trait]
impl EventInboxService for Inbox {
    async fn deliver_events(
        &self,
        request: Request<DeliverEventsRequest>,
    ) -> Result<Response<DeliverEventsResponse>, Status> {
        // The stack has let in only our own services.
        let (_, request) = mainstay_rpc::open(request)?;
        let results = self.take(request.events).await;
        Ok(Response::new(DeliverEventsResponse { results }))
    }
}

/// Events that a service sends to itself need no wire.
#[tonic::async_trait]
impl Deliver for Inbox {
    async fn deliver(&self, events: Vec<EventEnvelope>) -> Result<Vec<EventResult>, Status> {
        Ok(self.take(events).await)
    }
}
