//! `MemberService` and `MemberDirectoryService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_proto::identity::v1::{
    self as proto, MemberState, member_directory_service_server::MemberDirectoryService,
    member_service_server::MemberService,
};
use mainstay_rpc::{Violations, open};
use mainstay_types::{ClientId, Visible};
use tonic::{Request, Response, Status};

use super::{Member, NewMember, Post, State};
use crate::{Identity, wire};
use mainstay_jobs::once::Once;

#[tonic::async_trait]
impl MemberService for Identity {
    async fn create_member(
        &self,
        request: Request<proto::CreateMemberRequest>,
    ) -> Result<Response<proto::Member>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let mut faults = Violations::new();
        let name = faults.required("name", request.name);
        let email = faults.required("email", request.email);
        let post = post(request.role, request.client_ids, &mut faults);
        let (Some(name), Some(email), Some(post)) = (name, email, post) else {
            return Err(wire::invalid(faults).into());
        };
        let new = NewMember {
            name,
            email,
            phone: request.phone,
            post,
        };
        Ok(Response::new(super::create(self, &ctx, &once, new).await?))
    }

    async fn get_member(
        &self,
        request: Request<proto::GetMemberRequest>,
    ) -> Result<Response<proto::Member>, Status> {
        let (ctx, request) = open(request)?;
        let id = wire::id("member_id", &request.member_id)?;
        Ok(Response::new(answer(
            super::get(self, &ctx.agency_scope(), id).await?,
        )))
    }

    async fn list_members(
        &self,
        request: Request<proto::ListMembersRequest>,
    ) -> Result<Response<proto::ListMembersResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = wire::page(
            "identity.members",
            request.page_size,
            request.page_token.as_deref(),
        )?;
        let found = super::list(self, &ctx.agency_scope(), &page).await?;
        let (data, next_page_token) = wire::listed(found, answer);
        Ok(Response::new(proto::ListMembersResponse {
            data,
            next_page_token,
        }))
    }

    async fn set_member_role(
        &self,
        request: Request<proto::SetMemberRoleRequest>,
    ) -> Result<Response<proto::Member>, Status> {
        let (ctx, request) = open(request)?;
        let id = wire::id("member_id", &request.member_id)?;
        let mut faults = Violations::new();
        let Some(post) = post(request.role, request.client_ids, &mut faults) else {
            return Err(wire::invalid(faults).into());
        };
        Ok(Response::new(answer(
            super::set_role(self, &ctx, id, post).await?,
        )))
    }

    async fn deactivate_member(
        &self,
        request: Request<proto::DeactivateMemberRequest>,
    ) -> Result<Response<proto::Member>, Status> {
        let (ctx, request) = open(request)?;
        let id = wire::id("member_id", &request.member_id)?;
        Ok(Response::new(answer(
            super::deactivate(self, &ctx, id).await?,
        )))
    }
}

#[tonic::async_trait]
impl MemberDirectoryService for Identity {
    async fn lookup_member(
        &self,
        request: Request<proto::LookupMemberRequest>,
    ) -> Result<Response<proto::LookupMemberResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = wire::id("agency_id", &request.agency_id)?;
        let client = wire::id("client_id", &request.client_id)?;
        let tenant = ctx.service_tenant(agency, client)?;
        let id = wire::id("member_id", &request.member_id)?;
        let member = super::serving(self, tenant, id).await?;
        Ok(Response::new(proto::LookupMemberResponse {
            member_id: member.id.to_string(),
            name: member.name,
        }))
    }

    async fn list_serving_members(
        &self,
        request: Request<proto::ListServingMembersRequest>,
    ) -> Result<Response<proto::ListServingMembersResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = wire::id("agency_id", &request.agency_id)?;
        let client = request.client_id.as_deref();
        let client = client.map(|id| wire::id("client_id", id)).transpose()?;
        let scope = ctx.service_agency(agency)?;
        let members = super::all_serving(self, &scope, client, &request.permission).await?;
        let member = |member: super::sql::Serving| proto::ServingMember {
            member_id: member.id.to_string(),
            name: member.name,
            role: member.role,
            email: member.email,
            phone: member.phone,
        };
        Ok(Response::new(proto::ListServingMembersResponse {
            members: members.into_iter().map(member).collect(),
        }))
    }
}

/// The role and for whom; clients sorted and each once, so that equal posts are equal.
fn post(
    role: Option<String>,
    clients: Option<proto::ClientIds>,
    faults: &mut Violations,
) -> Option<Post> {
    let reach = match clients {
        None => Visible::All,
        Some(list) => {
            let mut clients = Vec::with_capacity(list.values.len());
            for (at, text) in list.values.iter().enumerate() {
                clients.extend(faults.check(&format!("client_ids[{at}]"), ClientId::parse(text)));
            }
            if list.values.is_empty() {
                faults.add(
                    "client_ids",
                    "names no client: leave it out for all clients",
                );
            }
            clients.sort_unstable();
            clients.dedup();
            Visible::Only(clients)
        }
    };
    let role = faults.required("role", role)?;
    faults.is_empty().then_some(Post { role, reach })
}

pub(super) fn answer(member: Member) -> proto::Member {
    let state = match member.state {
        State::Active => MemberState::Active,
        State::Deactivated => MemberState::Deactivated,
    };
    let clients = (!member.all_clients).then(|| proto::ClientIds {
        values: member.clients.iter().map(ToString::to_string).collect(),
    });
    proto::Member {
        id: Some(member.id.to_string()),
        person_id: Some(member.person_id.to_string()),
        name: Some(member.name),
        email: Some(member.email),
        phone: member.phone,
        role: Some(member.role),
        client_ids: clients,
        state: Some(state.into()),
        created_at: Some(wire::timestamp(member.created_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_means_all_clients_and_an_empty_one_means_a_mistake() {
        let mut faults = Violations::new();
        let everywhere = post(Some("agent".into()), None, &mut faults).expect("valid");
        assert_eq!(everywhere.reach, Visible::All);
        assert_eq!(
            post(
                Some("agent".into()),
                Some(proto::ClientIds::default()),
                &mut faults
            ),
            None
        );
        let client = ClientId::generate();
        let twice = proto::ClientIds {
            values: vec![client.to_string(), client.to_string()],
        };
        let some = post(Some("agent".into()), Some(twice), &mut Violations::new()).expect("valid");
        assert_eq!(some.reach, Visible::Only(vec![client]));
    }
}
