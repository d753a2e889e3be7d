//! Who did what, written with the effect, in the service's own schema. The relay hands the rows to identity as events of
//! type [`RECORDED`]; identity seals them. Deliberately absent: reading; the log is identity's.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_proto::events::v1::EventEnvelope;
use mainstay_types::{AgencyId, AuditEventId, ClientId, EventId, ServiceName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::outbox::{Delivery, timestamp};

/// The event's type.
pub const RECORDED: &str = "audit.recorded";

/// One audited act. Never put secrets into `before` and `after`.
#[derive(Debug, Clone)]
pub struct AuditRecord<'a> {
    /// In which agency.
    pub agency: AgencyId,
    /// On which client.
    pub client: Option<ClientId>,
    /// `Context::principal()`.
    pub actor: &'a str,
    /// The permission or RPC that names the act: `billing.subscriptions.cancel`.
    pub action: &'a str,
    /// The noun acted on: `subscription`.
    pub target_type: &'a str,
    /// Its id as the outside spells it.
    pub target_id: &'a str,
    /// As it was.
    pub before: Option<Value>,
    /// As it became.
    pub after: Option<Value>,
    /// The request.
    pub request_id: Option<&'a str>,
    /// The Clock's time.
    pub occurred_at: DateTime<Utc>,
}

/// The payload of [`RECORDED`]; agency, client, actor, time and trace stand in the envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The service that recorded it.
    pub service: ServiceName,
    /// What was done.
    pub action: String,
    /// To which noun.
    pub target_type: String,
    /// To which of them.
    pub target_id: String,
    /// As it was.
    pub before: Option<Value>,
    /// As it became.
    pub after: Option<Value>,
    /// The request.
    pub request_id: Option<String>,
}

/// Writes the row in the transaction of the effect.
///
/// # Errors
/// Whatever the database says.
pub async fn record(
    connection: &mut PgConnection,
    record: &AuditRecord<'_>,
) -> Result<AuditEventId> {
    let id = AuditEventId::generate();
    sqlx::query!(
        "insert into audit_outbox (id, agency_id, tenant_id, actor, action, target_type, target_id, before, after,
                                   request_id, traceparent, occurred_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        id.uuid(),
        record.agency.uuid(),
        record.client.map(|client| client.uuid()),
        record.actor,
        record.action,
        record.target_type,
        record.target_id,
        record.before,
        record.after,
        record.request_id,
        mainstay_runtime::telemetry::current_traceparent(),
        record.occurred_at,
    )
    .execute(connection)
    .await?;
    Ok(id)
}

pub(crate) async fn claim(
    connection: &mut PgConnection,
    service: ServiceName,
    limit: i64,
    lease_ms: f64,
) -> Result<Vec<Delivery>> {
    let rows = sqlx::query!(
        "with free as (
           select id from audit_outbox where leased_until is null or leased_until < clock_timestamp()
           order by id limit $1 for update skip locked
         )
         update audit_outbox a
         set fence = nextval('outbox_fence'), leased_until = clock_timestamp() + make_interval(secs => $2::float8 / 1000)
         from free where a.id = free.id
         returning a.id, a.agency_id, a.tenant_id, a.actor, a.action, a.target_type, a.target_id, a.before, a.after,
                   a.request_id, a.traceparent, a.occurred_at, a.fence",
        limit,
        lease_ms,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let payload = Recorded {
                service,
                action: row.action,
                target_type: row.target_type,
                target_id: row.target_id,
                before: row.before,
                after: row.after,
                request_id: row.request_id,
            };
            Delivery {
                event_id: row.id,
                attempt: 1,
                fence: row.fence,
                envelope: EventEnvelope {
                    event_id: EventId::from_uuid(row.id).to_string(),
                    r#type: RECORDED.to_owned(),
                    schema_version: 1,
                    agency_id: AgencyId::from_uuid(row.agency_id).to_string(),
                    client_id: row.tenant_id.map(|id| ClientId::from_uuid(id).to_string()),
                    aggregate_type: "audit_event".to_owned(),
                    aggregate_id: AuditEventId::from_uuid(row.id).to_string(),
                    aggregate_sequence: 1,
                    occurred_at: Some(timestamp(row.occurred_at)),
                    actor: row.actor,
                    causation_id: None,
                    causation_depth: 0,
                    traceparent: row.traceparent,
                    payload_json: serde_json::to_string(&payload).expect("strings and JSON values"),
                },
            }
        })
        .collect())
}

pub(crate) async fn taken(
    connection: &mut PgConnection,
    ids: &[Uuid],
    fences: &[i64],
) -> Result<()> {
    sqlx::query!(
        "delete from audit_outbox a using unnest($1::uuid[], $2::bigint[]) as mine (id, fence)
         where a.id = mine.id and a.fence = mine.fence",
        ids,
        fences,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn postponed(
    connection: &mut PgConnection,
    ids: &[Uuid],
    fences: &[i64],
) -> Result<()> {
    sqlx::query!(
        "update audit_outbox a set leased_until = null
         from unnest($1::uuid[], $2::bigint[]) as mine (id, fence) where a.id = mine.id and a.fence = mine.fence",
        ids,
        fences,
    )
    .execute(connection)
    .await?;
    Ok(())
}
