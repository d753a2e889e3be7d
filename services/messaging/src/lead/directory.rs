//! `LeadDirectoryService`, for services that are told of a lead by a request.
//! Deliberately absent: addresses. Whoever writes to a lead does it through here anyway.

use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::lead_directory_service_server::LeadDirectoryService;
use mainstay_rpc::{Problem, field, open};
use mainstay_types::LeadId;
use tonic::{Request, Response, Status};

use super::current;
use crate::{Messaging, conversation};

#[tonic::async_trait]
impl LeadDirectoryService for Messaging {
    async fn lookup_lead(
        &self,
        request: Request<proto::LookupLeadRequest>,
    ) -> Result<Response<proto::LookupLeadResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = field::id("agency_id", &request.agency_id)?;
        let tenant = ctx.service_tenant(agency, field::id("client_id", &request.client_id)?)?;
        let id: LeadId = field::id("lead_id", &request.lead_id)?;
        let mut tx = self
            .database
            .tenant(tenant)
            .await
            .map_err(mainstay_jobs::failure::database)?;
        let found = current(tx.conn(), tenant, id).await?;
        let found = found.ok_or_else(|| Problem::not_found("lead"))?;
        let open = conversation::open_with(tx.conn(), tenant, found.id)
            .await
            .map_err(mainstay_jobs::failure::database)?;
        Ok(Response::new(proto::LookupLeadResponse {
            lead_id: found.id.to_string(),
            name: found.name,
            conversation_id: open.map(|id| id.to_string()),
        }))
    }
}
