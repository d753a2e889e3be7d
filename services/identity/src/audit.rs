//! The audit log: who did what to what, from every service. Rows come as `audit.recorded` events and are append-only.
//! Deliberately absent: the chain over them, which a sealer will add beside these rows, never in them.

mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::{Page, PageRequest};
use mainstay_jobs::audit::{RECORDED, Recorded};
use mainstay_jobs::{Event, EventError, EventHandler, EventTx};
use mainstay_runtime::telemetry;
use mainstay_types::{AgencyScope, AuditEventId, ClientId};
use uuid::Uuid;

use crate::Identity;

/// Something somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its id.
    pub id: AuditEventId,
    /// The client it concerns.
    pub client_id: Option<ClientId>,
    /// The service that recorded it.
    pub service: String,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target_id: String,
    /// The request it belongs to.
    pub request_id: Option<String>,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
    /// When.
    pub occurred_at: DateTime<Utc>,
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this action.
    pub action: Option<String>,
    /// Only about this client.
    pub client: Option<ClientId>,
}

/// The agency's audit events, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    identity: &Identity,
    scope: &AgencyScope,
    filter: &Filter,
    request: &PageRequest<Uuid>,
) -> mainstay_db::Result<Page<AuditEvent>> {
    let mut tx = identity.database.agency(scope).await?;
    let rows = sql::list(
        tx.conn(),
        scope.agency,
        filter,
        request.after().copied(),
        request.limit(),
    )
    .await?;
    tx.commit().await?;
    Ok(request.page(rows, |last| last.id.uuid()))
}

/// Takes what services recorded. The inbox has seen to it that each is taken once.
#[derive(Debug, Clone, Copy)]
pub struct Log;

#[tonic::async_trait]
impl EventHandler for Log {
    async fn apply(&self, tx: &mut EventTx, event: &Event) -> Result<(), EventError> {
        if event.event_type != RECORDED {
            return Ok(());
        }
        let recorded: Recorded = event.payload()?;
        // Salted, so that an erased image cannot be guessed back from its digest.
        let salt: [u8; 16] = rand::random();
        let digest = rules::image_digest(&salt, recorded.before.as_ref(), recorded.after.as_ref());
        let trace_id = event
            .traceparent
            .as_deref()
            .and_then(telemetry::trace_id_of);
        let row = sql::NewEvent {
            agency: event.agency,
            id: AuditEventId::from_uuid(event.id.uuid()),
            client: event.client,
            service: recorded.service.as_str(),
            actor: &event.actor,
            action: &recorded.action,
            target_type: &recorded.target_type,
            target_id: &recorded.target_id,
            request_id: recorded.request_id.as_deref(),
            trace_id: trace_id.as_deref(),
            occurred_at: event.occurred_at,
            salt: &salt,
            image_digest: &digest,
            before: recorded.before.as_ref(),
            after: recorded.after.as_ref(),
        };
        Ok(sql::insert(tx.conn(), row).await?)
    }
}
