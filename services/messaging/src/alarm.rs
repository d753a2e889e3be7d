//! What messaging tells whoever alerts people: each a fact of its own, written in the transaction in which it became true.
//! Deliberately absent: who hears of it, and how often. Escalation counts, and decides.

use chrono::{DateTime, Utc};
use mainstay_jobs::outbox::{self, NewEvent};
use mainstay_types::{EventId, ServiceName, Tenant};
use serde_json::Value;
use sqlx::PgConnection;

/// Tells it.
pub(crate) async fn tell(
    conn: &mut PgConnection,
    tenant: Tenant,
    event_type: &'static str,
    payload: Value,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let event = NewEvent {
        event_type,
        schema_version: 1,
        agency: tenant.agency,
        // The house is no client.
        client: (!crate::notice::is_house(tenant)).then_some(tenant.client),
        aggregate_type: "alarm",
        // Nothing comes before or after it.
        aggregate_id: EventId::generate().to_string(),
        sequence: 1,
        occurred_at: now,
        actor: format!("service:{}", ServiceName::Messaging),
        cause: None,
        payload,
        consumers: &[ServiceName::Escalation],
    };
    outbox::emit(conn, &event).await?;
    Ok(())
}
