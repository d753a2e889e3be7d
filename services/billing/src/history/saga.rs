//! What a saga that is parked leaves behind for whoever alerts people, and what a decision about it does.
//! Deliberately absent: an audit row. Decisions have theirs, with their words; nobody parks a saga.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_jobs::outbox::{self, NewEvent};
use mainstay_types::{SagaId, Tenant};
use serde_json::json;
use sqlx::PgConnection;

use super::{ALERTING_CONSUMERS, By};

/// A saga that is parked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parked<'a> {
    /// Which.
    pub saga: SagaId,
    /// Under which lease.
    pub fence: i64,
    /// Its definition.
    pub definition: &'a str,
    /// The step that it stopped at.
    pub step: &'a str,
    /// Why.
    pub error: &'a str,
}

/// Nothing more happens to a saga by itself. A decision takes a lease of its own, so parking comes behind the decision that a fence
/// began with: the fence, doubled, orders both.
pub(crate) async fn saga_parked(
    conn: &mut PgConnection,
    tenant: Tenant,
    parked: &Parked<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    let event = NewEvent {
        event_type: "billing.saga.parked",
        schema_version: 1,
        agency: tenant.agency,
        client: Some(tenant.client),
        aggregate_type: "saga",
        aggregate_id: parked.saga.to_string(),
        sequence: parked.fence * 2 + 1,
        occurred_at: now,
        actor: "service:billing".to_owned(),
        cause: None,
        payload: json!({
            "saga_id": parked.saga,
            "definition": parked.definition,
            "step": parked.step,
            "error": parked.error,
        }),
        consumers: ALERTING_CONSUMERS,
    };
    outbox::emit(conn, &event).await?;
    Ok(())
}

/// Somebody decided on a parked saga, which goes on or is over under this fence.
pub(crate) async fn saga_decided(
    conn: &mut PgConnection,
    by: &By,
    tenant: Tenant,
    (saga, fence): (SagaId, i64),
    decision: &str,
) -> Result<()> {
    let event = NewEvent {
        event_type: "billing.saga.decided",
        schema_version: 1,
        agency: tenant.agency,
        client: Some(tenant.client),
        aggregate_type: "saga",
        aggregate_id: saga.to_string(),
        sequence: fence * 2,
        occurred_at: by.now,
        actor: by.principal.clone(),
        cause: None,
        payload: json!({ "saga_id": saga, "decision": decision }),
        consumers: ALERTING_CONSUMERS,
    };
    outbox::emit(conn, &event).await?;
    Ok(())
}
