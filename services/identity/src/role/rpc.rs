//! `RoleService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_proto::identity::v1::{self as proto, role_service_server::RoleService};
use mainstay_rpc::{Violations, open};
use tonic::{Request, Response, Status};

use super::{NewRole, Role, rules};
use crate::{Identity, permission, wire};
use mainstay_jobs::once::Once;

#[tonic::async_trait]
impl RoleService for Identity {
    async fn list_permissions(
        &self,
        request: Request<proto::ListPermissionsRequest>,
    ) -> Result<Response<proto::ListPermissionsResponse>, Status> {
        open(request)?;
        let data = permission::all().iter().map(|known| proto::Permission {
            name: Some(known.name.to_owned()),
            scope: Some(known.scope.into()),
            description: Some(known.description.to_owned()),
        });
        Ok(Response::new(proto::ListPermissionsResponse {
            data: data.collect(),
        }))
    }

    async fn create_role(
        &self,
        request: Request<proto::CreateRoleRequest>,
    ) -> Result<Response<proto::Role>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let mut faults = Violations::new();
        let permissions = rules::known(request.permissions, &mut faults);
        let name = faults.required("name", request.name);
        let (Some(name), true) = (name, faults.is_empty()) else {
            return Err(wire::invalid(faults).into());
        };
        let new = NewRole {
            name,
            description: request.description,
            permissions,
        };
        Ok(Response::new(super::create(self, &ctx, &once, new).await?))
    }

    async fn get_role(
        &self,
        request: Request<proto::GetRoleRequest>,
    ) -> Result<Response<proto::Role>, Status> {
        let (ctx, request) = open(request)?;
        let id = wire::id("role_id", &request.role_id)?;
        Ok(Response::new(answer(
            super::get(self, &ctx.agency_scope(), id).await?,
        )))
    }

    async fn list_roles(
        &self,
        request: Request<proto::ListRolesRequest>,
    ) -> Result<Response<proto::ListRolesResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = wire::page(
            "identity.roles",
            request.page_size,
            request.page_token.as_deref(),
        )?;
        let found = super::list(self, &ctx.agency_scope(), &page).await?;
        let (data, next_page_token) = wire::listed(found, answer);
        Ok(Response::new(proto::ListRolesResponse {
            data,
            next_page_token,
        }))
    }
}

pub(super) fn answer(role: Role) -> proto::Role {
    proto::Role {
        id: Some(role.id.to_string()),
        built_in: Some(role.built_in().is_some()),
        name: Some(role.name),
        description: role.description,
        permissions: role.permissions,
        created_at: role.created_at.map(wire::timestamp),
    }
}
