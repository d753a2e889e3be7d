//! `AuditService`: protobuf to queries and back.
//! Deliberately absent: what objects looked like before; that is not for lists.

use mainstay_proto::identity::v1::{self as proto, audit_service_server::AuditService};
use mainstay_rpc::open;
use tonic::{Request, Response, Status};

use super::{AuditEvent, Filter};
use crate::{Identity, failure, wire};

#[tonic::async_trait]
impl AuditService for Identity {
    async fn list_audit_events(
        &self,
        request: Request<proto::ListAuditEventsRequest>,
    ) -> Result<Response<proto::ListAuditEventsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = wire::page(
            "identity.audit_events",
            request.page_size,
            request.page_token.as_deref(),
        )?;
        let client = request
            .client_id
            .map(|text| wire::id("client_id", &text))
            .transpose()?;
        let filter = Filter {
            action: request.action,
            client,
        };
        let found = super::list(self, &ctx.agency_scope(), &filter, &page)
            .await
            .map_err(failure::database)?;
        let (data, next_page_token) = wire::listed(found, answer);
        Ok(Response::new(proto::ListAuditEventsResponse {
            data,
            next_page_token,
        }))
    }
}

fn answer(event: AuditEvent) -> proto::AuditEvent {
    proto::AuditEvent {
        id: Some(event.id.to_string()),
        action: Some(event.action),
        actor: Some(event.actor),
        target: Some(event.target_id),
        client_id: event.client_id.map(|id| id.to_string()),
        service: Some(event.service),
        request_id: event.request_id,
        trace_id: event.trace_id,
        occurred_at: Some(wire::timestamp(event.occurred_at)),
    }
}
