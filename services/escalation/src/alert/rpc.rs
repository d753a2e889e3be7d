//! `AlertService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::failure;
use mainstay_proto::escalation::v1::{self as proto, alert_service_server::AlertService};
use mainstay_rpc::{field, open};
use tonic::{Request, Response, Status};

use super::{Alert, Filter, Kind, Severity, State};
use crate::Escalating;

#[tonic::async_trait]
impl AlertService for Escalating {
    async fn list_alerts(
        &self,
        request: Request<proto::ListAlertsRequest>,
    ) -> Result<Response<proto::ListAlertsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::new(
            "escalation.alerts",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(failure::page)?;
        let filter = Filter {
            state: State::given(request.state),
            severity: Severity::given(request.severity),
            kind: Kind::given(request.kind),
        };
        let page = super::list(self, &ctx.agency_scope(), filter, page).await?;
        Ok(Response::new(proto::ListAlertsResponse {
            data: page.rows.iter().map(whole).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_alert(
        &self,
        request: Request<proto::GetAlertRequest>,
    ) -> Result<Response<proto::Alert>, Status> {
        let (ctx, request) = open(request)?;
        let id = field::id("alert_id", &request.alert_id)?;
        let found = super::get(self, &ctx.agency_scope(), id).await?;
        Ok(Response::new(whole(&found)))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<proto::AcknowledgeAlertRequest>,
    ) -> Result<Response<proto::Alert>, Status> {
        let (ctx, request) = open(request)?;
        let id = field::id("alert_id", &request.alert_id)?;
        let after = super::acknowledge(self, &ctx, id).await?;
        Ok(Response::new(whole(&after)))
    }

    async fn resolve_alert(
        &self,
        request: Request<proto::ResolveAlertRequest>,
    ) -> Result<Response<proto::Alert>, Status> {
        let (ctx, request) = open(request)?;
        let id = field::id("alert_id", &request.alert_id)?;
        let after = super::resolve(self, &ctx, id).await?;
        Ok(Response::new(whole(&after)))
    }
}

fn whole(alert: &Alert) -> proto::Alert {
    // The agency's house, from which its own people are written to, is nobody's client.
    let client = alert
        .client
        .filter(|client| client.uuid() != alert.agency.uuid());
    proto::Alert {
        id: Some(alert.id.to_string()),
        kind: Some(alert.kind.answer()),
        severity: Some(alert.severity.answer()),
        subject: Some(alert.subject.clone()),
        client_id: client.map(|client| client.to_string()),
        summary: Some(alert.summary.clone()),
        runbook: Some(alert.kind.runbook()),
        state: Some(alert.state.answer()),
        occurrences: Some(alert.occurrences),
        first_seen_at: Some(field::timestamp(alert.first_seen_at)),
        last_seen_at: Some(field::timestamp(alert.last_seen_at)),
        acknowledged_by: alert.acknowledged_by.clone(),
        acknowledged_at: alert.acknowledged_at.map(field::timestamp),
        resolved_by: alert.resolved_by.clone(),
        resolved_at: alert.resolved_at.map(field::timestamp),
        traceparent: alert.traceparent.clone(),
    }
}
