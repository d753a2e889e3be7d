//! `FormEndpointService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::integrations::v1 as proto;
use mainstay_proto::integrations::v1::form_endpoint_service_server::FormEndpointService;
use mainstay_rpc::{Violations, field, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status};

use super::{FormEndpoint, rules};
use crate::Integrations;
use crate::wire::page_problem;

#[tonic::async_trait]
impl FormEndpointService for Integrations {
    async fn create_form_endpoint(
        &self,
        request: Request<proto::CreateFormEndpointRequest>,
    ) -> Result<Response<proto::CreateFormEndpointResponse>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let mut faults = Violations::new();
        for (place, origin) in request.allowed_origins.iter().enumerate() {
            if !rules::is_origin(origin) {
                faults.add(
                    format!("allowed_origins[{place}]"),
                    "must be an origin as browsers send it, such as https://acme.test",
                );
            }
        }
        faults.finish()?;
        let new = (request.name.unwrap_or_default(), request.allowed_origins);
        Ok(Response::new(super::create(self, &ctx, new, &once).await?))
    }

    async fn list_form_endpoints(
        &self,
        request: Request<proto::ListFormEndpointsRequest>,
    ) -> Result<Response<proto::ListFormEndpointsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::new(
            "integrations.form_endpoints",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let tenant = ctx.tenant();
        let page = super::list(self, tenant, page).await?;
        let shown = page.rows.into_iter().map(|row| show(tenant.client, row));
        Ok(Response::new(proto::ListFormEndpointsResponse {
            data: shown.collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_form_endpoint(
        &self,
        request: Request<proto::DeleteFormEndpointRequest>,
    ) -> Result<Response<proto::DeleteFormEndpointResponse>, Status> {
        let (ctx, request) = open(request)?;
        let id = field::id("form_endpoint_id", &request.form_endpoint_id)?;
        super::delete(self, &ctx, id).await?;
        Ok(Response::new(proto::DeleteFormEndpointResponse {}))
    }
}

/// The answer of whoever made it, still without the token.
pub(super) fn made(client: ClientId, endpoint: &FormEndpoint) -> proto::CreateFormEndpointResponse {
    proto::CreateFormEndpointResponse {
        id: Some(endpoint.id.to_string()),
        client_id: Some(client.to_string()),
        name: Some(endpoint.name.clone()),
        token: None,
        allowed_origins: endpoint.allowed_origins.clone(),
        created_at: Some(field::timestamp(endpoint.created_at)),
    }
}

fn show(client: ClientId, endpoint: FormEndpoint) -> proto::FormEndpoint {
    proto::FormEndpoint {
        id: Some(endpoint.id.to_string()),
        client_id: Some(client.to_string()),
        name: Some(endpoint.name),
        allowed_origins: endpoint.allowed_origins,
        created_at: Some(field::timestamp(endpoint.created_at)),
    }
}
