//! What every mutation leaves behind, in its own transaction: an audit row and a domain event.
//! Deliberately absent: a way to write one without the other.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, ClientId, ServiceName};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::audit::{self, AuditRecord};
use crate::outbox::{self, NewEvent};

/// Who did it, and when.
#[derive(Debug, Clone)]
pub struct By {
    /// In which agency.
    pub agency: AgencyId,
    /// `mem_…`, `key_…`, `service:billing`.
    pub actor: String,
    /// The request it belongs to.
    pub request_id: Option<String>,
    /// When.
    pub now: DateTime<Utc>,
}

impl By {
    /// The actor of a request.
    pub fn actor(ctx: &Context, now: DateTime<Utc>) -> Self {
        By {
            agency: ctx.agency,
            actor: ctx.principal(),
            request_id: Some(ctx.request_id.clone()),
            now,
        }
    }

    /// A service, for an agency that its request names.
    pub fn service(ctx: &Context, agency: AgencyId, now: DateTime<Utc>) -> Self {
        By {
            agency,
            ..Self::actor(ctx, now)
        }
    }

    /// The service itself, asked by nobody: at installation, say.
    pub fn itself(service: ServiceName, agency: AgencyId, now: DateTime<Utc>) -> Self {
        By {
            agency,
            actor: format!("service:{service}"),
            request_id: None,
            now,
        }
    }
}

/// What changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// The audit action: `identity.client.create`.
    pub action: &'static str,
    /// The event: `identity.client.created`.
    pub event: &'static str,
    /// The noun: `client`.
    pub noun: &'static str,
    /// Its id, as the outside spells it.
    pub target: String,
    /// The client it concerns, if one.
    pub client: Option<ClientId>,
    /// Rises by one with each change of this object, taken under its row lock.
    pub sequence: i64,
    /// What it was.
    pub before: Option<Value>,
    /// What it is.
    pub after: Value,
}

/// An object as audit and events hold it.
pub fn image(object: &impl Serialize) -> Value {
    // Our own plain structs: nothing in them that JSON cannot hold.
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// Writes both, in the caller's transaction.
///
/// Nobody consumes these events: the rows stand for their week. Those that somebody does are written with [`write_to`].
///
/// # Errors
/// Only the database's.
pub async fn write(conn: &mut PgConnection, by: &By, change: Change) -> Result<()> {
    write_to(conn, by, change, &[]).await
}

/// The same, of a change that others act on: the event is told to them, in the order of the object's changes.
///
/// # Errors
/// Only the database's.
pub async fn write_to(
    conn: &mut PgConnection,
    by: &By,
    change: Change,
    consumers: &'static [ServiceName],
) -> Result<()> {
    let record = AuditRecord {
        agency: by.agency,
        client: change.client,
        actor: &by.actor,
        action: change.action,
        target_type: change.noun,
        target_id: &change.target,
        before: change.before,
        after: Some(change.after.clone()),
        request_id: by.request_id.as_deref(),
        occurred_at: by.now,
    };
    audit::record(conn, &record).await?;
    let event = NewEvent {
        event_type: change.event,
        schema_version: 1,
        agency: by.agency,
        client: change.client,
        aggregate_type: change.noun,
        aggregate_id: change.target,
        sequence: change.sequence,
        occurred_at: by.now,
        actor: by.actor.clone(),
        cause: None,
        payload: change.after,
        consumers,
    };
    outbox::emit(conn, &event).await?;
    Ok(())
}
