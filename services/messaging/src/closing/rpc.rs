//! `ClientClosingService`: protobuf to a command.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_proto::messaging::v1::{
    CloseClientRequest, CloseClientResponse, client_closing_service_server::ClientClosingService,
};
use mainstay_rpc::{field, open};
use tonic::{Request, Response, Status};

use crate::Messaging;

#[tonic::async_trait]
impl ClientClosingService for Messaging {
    async fn close_client(
        &self,
        request: Request<CloseClientRequest>,
    ) -> Result<Response<CloseClientResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = field::id("agency_id", &request.agency_id)?;
        let tenant = ctx.service_tenant(agency, field::id("client_id", &request.client_id)?)?;
        super::close(self, &ctx, tenant).await?;
        Ok(Response::new(CloseClientResponse {}))
    }
}
