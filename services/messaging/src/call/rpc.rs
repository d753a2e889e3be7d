//! `CallService`: protobuf to questions and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::call_service_server::CallService;
use mainstay_rpc::{field, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status as Refused};
use uuid::Uuid;

use super::rules::{Because, Status};
use super::{Call, Filter};
use crate::Messaging;
use crate::wire::page_problem;

#[tonic::async_trait]
impl CallService for Messaging {
    async fn list_calls(
        &self,
        request: Request<proto::ListCallsRequest>,
    ) -> Result<Response<proto::ListCallsResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let lead = request.lead_id.as_deref();
        let filter = Filter {
            lead: lead.map(|id| field::id("lead_id", id)).transpose()?,
            status: request.status.and_then(asked),
        };
        let page: PageRequest<Uuid> = PageRequest::new(
            "messaging.calls",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::page(self, tenant, filter, page).await?;
        Ok(Response::new(proto::ListCallsResponse {
            data: page
                .rows
                .iter()
                .map(|call| answer(tenant.client, call))
                .collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_call(
        &self,
        request: Request<proto::GetCallRequest>,
    ) -> Result<Response<proto::Call>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = field::id("call_id", &request.call_id)?;
        let found = super::get(self, tenant, id).await?;
        Ok(Response::new(answer(tenant.client, &found)))
    }
}

fn asked(status: i32) -> Option<Status> {
    match proto::CallStatus::try_from(status) {
        Ok(proto::CallStatus::Ringing) => Some(Status::Ringing),
        Ok(proto::CallStatus::InProgress) => Some(Status::InProgress),
        Ok(proto::CallStatus::Completed) => Some(Status::Completed),
        Ok(proto::CallStatus::Missed) => Some(Status::Missed),
        Ok(proto::CallStatus::Unspecified) | Err(_) => None,
    }
}

fn answer(client: ClientId, call: &Call) -> proto::Call {
    let status = match call.standing.status {
        Status::Ringing => proto::CallStatus::Ringing,
        Status::InProgress => proto::CallStatus::InProgress,
        Status::Completed => proto::CallStatus::Completed,
        Status::Missed => proto::CallStatus::Missed,
    };
    let because = call.standing.because.map(|because| match because {
        Because::NoAnswer => proto::CallMissedReason::NoAnswer,
        Because::Busy => proto::CallMissedReason::Busy,
        Because::Failed => proto::CallMissedReason::Failed,
        Because::Canceled => proto::CallMissedReason::Canceled,
    });
    proto::Call {
        id: Some(call.id.to_string()),
        client_id: Some(client.to_string()),
        lead_id: Some(call.lead.to_string()),
        sender: Some(call.sender.clone()),
        address: Some(call.address.clone()),
        status: Some(status.into()),
        missed_because: because.map(Into::into),
        duration_seconds: call.standing.seconds,
        provider: Some(call.provider.clone()),
        provider_id: Some(call.provider_id.clone()),
        started_at: Some(field::timestamp(call.started_at)),
        ended_at: call.ended_at.map(field::timestamp),
    }
}
