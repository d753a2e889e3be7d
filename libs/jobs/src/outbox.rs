//! Events leave in the transaction of their cause: one row an event, one row a consumer. The relay sends them.
//!
//! ```text
//!  emit ─▶ pending ──applied──▶ (delivery deleted)
//!            │  ▲ └─retry: later, the rest of its aggregate waits
//!            │  └───replay──── parked ──skip with a note──▶ (deleted)
//!            └──poisoned────────▲
//! ```
//! Order holds per (consumer, aggregate): a delivery is due only when no earlier one of its aggregate is left.
//! Deliberately absent: what events mean.

mod relay;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_proto::events::v1::EventEnvelope;
use mainstay_types::{AgencyId, ClientId, EventId, ServiceName};
use serde_json::Value;
use sqlx::PgConnection;

pub use relay::{Deliver, Relay, RelaySettings, RemoteInbox};
pub use sql::{replay_parked, skip_parked};

/// Chains of causes are cut here: longer is a loop.
pub const MAX_CAUSATION_DEPTH: i32 = 16;

/// A fact to tell other services.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Dotted, past tense: `identity.client.created`.
    pub event_type: &'static str,
    /// Version of the payload's shape.
    pub schema_version: i32,
    /// Whose fact.
    pub agency: AgencyId,
    /// The client it is about.
    pub client: Option<ClientId>,
    /// The noun it is about: `client`.
    pub aggregate_type: &'static str,
    /// That noun's id, as the outside spells it.
    pub aggregate_id: String,
    /// Taken under the aggregate's row lock, rising.
    pub sequence: i64,
    /// When it became true: the Clock's time.
    pub occurred_at: DateTime<Utc>,
    /// `Context::principal()`, or `service:…`.
    pub actor: String,
    /// What caused it, if an event did.
    pub cause: Option<Cause>,
    /// What became true.
    pub payload: Value,
    /// Who acts on it. None: kept for nobody, so refused.
    pub consumers: &'static [ServiceName],
}

/// The event that caused another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Its id.
    pub event: EventId,
    /// How many stand before it.
    pub depth: i32,
}

/// Writes the event and its deliveries in the caller's transaction.
///
/// # Errors
/// Whatever the database says. A chain of causes over [`MAX_CAUSATION_DEPTH`] violates
/// `outbox_event_causation_depth_check`; a sequence used twice `outbox_event_sequence_key` or `outbox_delivery_order_key`.
pub async fn emit(connection: &mut PgConnection, event: &NewEvent) -> mainstay_db::Result<EventId> {
    let id = EventId::generate();
    let traceparent = mainstay_runtime::telemetry::current_traceparent();
    sql::insert(connection, id, event, traceparent).await?;
    Ok(id)
}

/// A claimed delivery.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) envelope: EventEnvelope,
    pub(crate) event_id: uuid::Uuid,
    pub(crate) attempt: u32,
    pub(crate) fence: i64,
}

pub(crate) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
    }
}
