//! `ClientService`, `ClientOnboardingService`, `ClientOffboardingService` and `ClientDirectoryService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_proto::identity::v1::{
    self as proto, ClientState, client_directory_service_server::ClientDirectoryService,
    client_offboarding_service_server::ClientOffboardingService,
    client_onboarding_service_server::ClientOnboardingService,
    client_service_server::ClientService,
};
use mainstay_rpc::{ClientDirectory, Violations, open};
use mainstay_types::{AgencyId, ClientId};
use tonic::{Request, Response, Status};

use super::{Client, Edit, NewClient, Origin, State, rules};
use crate::{Identity, failure, wire};
use mainstay_jobs::once::Once;

#[tonic::async_trait]
impl ClientService for Identity {
    async fn create_client(
        &self,
        request: Request<proto::CreateClientRequest>,
    ) -> Result<Response<proto::Client>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let new = new_client(request)?;
        Ok(Response::new(super::create(self, &ctx, &once, new).await?))
    }

    async fn get_client(
        &self,
        request: Request<proto::GetClientRequest>,
    ) -> Result<Response<proto::Client>, Status> {
        let (ctx, _) = open(request)?;
        let client = super::get(self, &ctx.agency_scope(), ctx.tenant().client).await?;
        Ok(Response::new(answer(client)))
    }

    async fn list_clients(
        &self,
        request: Request<proto::ListClientsRequest>,
    ) -> Result<Response<proto::ListClientsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = wire::page(
            "identity.clients",
            request.page_size,
            request.page_token.as_deref(),
        )?;
        let state = request.state.and_then(|_| state(request.state()));
        let found = super::list(self, &ctx.agency_scope(), state, &page).await?;
        let (data, next_page_token) = wire::listed(found, answer);
        Ok(Response::new(proto::ListClientsResponse {
            data,
            next_page_token,
        }))
    }

    async fn update_client(
        &self,
        request: Request<proto::UpdateClientRequest>,
    ) -> Result<Response<proto::Client>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let edit = Edit {
            name: request.name,
            email: request.email,
            phone: request.phone,
            time_zone: request.time_zone,
        };
        let client = super::update(self, &ctx, &once, edit, request.etag.as_deref()).await?;
        Ok(Response::new(client))
    }
}

#[tonic::async_trait]
impl ClientOnboardingService for Identity {
    async fn ensure_client(
        &self,
        request: Request<proto::EnsureClientRequest>,
    ) -> Result<Response<proto::EnsureClientResponse>, Status> {
        let (ctx, request) = open(request)?;
        let scope = ctx.service_agency(wire::id("agency_id", &request.agency_id)?)?;
        let mut faults = Violations::new();
        let Some(email) = faults.required("email", request.email) else {
            return Err(wire::invalid(faults).into());
        };
        let origin = Origin(request.origin);
        let new = NewClient {
            name: request.name,
            email,
            phone: request.phone,
            time_zone: request.time_zone.unwrap_or_else(|| "UTC".to_owned()),
            state: State::Active,
        };
        let (client, created) = super::ensure(self, &ctx, &scope, &origin, &new).await?;
        Ok(Response::new(proto::EnsureClientResponse {
            client: Some(answer(client)),
            created,
        }))
    }
}

#[tonic::async_trait]
impl ClientOffboardingService for Identity {
    async fn cancel_client(
        &self,
        request: Request<proto::CancelClientRequest>,
    ) -> Result<Response<proto::CancelClientResponse>, Status> {
        let (ctx, request) = open(request)?;
        let scope = ctx.service_agency(wire::id("agency_id", &request.agency_id)?)?;
        let id = wire::id("client_id", &request.client_id)?;
        let client = super::cancel(self, &ctx, &scope, id).await?;
        Ok(Response::new(proto::CancelClientResponse {
            client: Some(answer(client)),
        }))
    }
}

#[tonic::async_trait]
impl ClientDirectoryService for Identity {
    async fn lookup_client(
        &self,
        request: Request<proto::LookupClientRequest>,
    ) -> Result<Response<proto::LookupClientResponse>, Status> {
        let (ctx, request) = open(request)?;
        let scope = ctx.service_agency(wire::id("agency_id", &request.agency_id)?)?;
        let client = super::get(self, &scope, wire::id("client_id", &request.client_id)?).await?;
        Ok(Response::new(proto::LookupClientResponse {
            client: Some(answer(client)),
        }))
    }
}

/// Identity asks its own tables.
#[tonic::async_trait]
impl ClientDirectory for Identity {
    async fn exists(&self, agency: AgencyId, client: ClientId) -> Result<bool, Status> {
        super::exists(self, agency, client)
            .await
            .map_err(|error| failure::database(error).into())
    }
}

fn new_client(request: proto::CreateClientRequest) -> Result<NewClient, Status> {
    let mut faults = Violations::new();
    let wanted = request
        .state
        .map_or(Some(State::Active), |_| state(request.state()));
    if !matches!(
        wanted,
        Some(State::Prospect | State::Onboarding | State::Active)
    ) {
        faults.add(
            "state",
            "a client is made as a prospect, onboarding or active",
        );
    }
    let name = faults.required("name", request.name);
    let email = faults.required("email", request.email);
    let time_zone = faults.required("time_zone", request.time_zone);
    match (name, email, time_zone, wanted) {
        (Some(name), Some(email), Some(time_zone), Some(state)) if faults.is_empty() => {
            Ok(NewClient {
                name,
                email,
                phone: request.phone,
                time_zone,
                state,
            })
        }
        _ => Err(wire::invalid(faults).into()),
    }
}

fn state(state: ClientState) -> Option<State> {
    match state {
        ClientState::Unspecified => None,
        ClientState::Prospect => Some(State::Prospect),
        ClientState::Onboarding => Some(State::Onboarding),
        ClientState::Active => Some(State::Active),
        ClientState::Suspended => Some(State::Suspended),
        ClientState::Canceled => Some(State::Canceled),
    }
}

pub(super) fn answer(client: Client) -> proto::Client {
    let state = match client.state {
        State::Prospect => ClientState::Prospect,
        State::Onboarding => ClientState::Onboarding,
        State::Active => ClientState::Active,
        State::Suspended => ClientState::Suspended,
        State::Canceled => ClientState::Canceled,
    };
    proto::Client {
        id: Some(client.id.to_string()),
        etag: Some(rules::etag(client.version)),
        name: Some(client.name),
        email: Some(client.email),
        phone: client.phone,
        time_zone: Some(client.time_zone),
        state: Some(state.into()),
        created_at: Some(wire::timestamp(client.created_at)),
        updated_at: Some(wire::timestamp(client.updated_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_not_made_canceled() {
        let request = |state| proto::CreateClientRequest {
            name: Some("Acme".into()),
            email: Some("owner@acme.test".into()),
            phone: None,
            time_zone: Some("America/Chicago".into()),
            state,
        };
        assert_eq!(
            new_client(request(None)).expect("valid").state,
            State::Active
        );
        let prospect = Some(ClientState::Prospect.into());
        assert_eq!(
            new_client(request(prospect)).expect("valid").state,
            State::Prospect
        );
        for refused in [
            ClientState::Unspecified,
            ClientState::Suspended,
            ClientState::Canceled,
        ] {
            assert!(
                new_client(request(Some(refused.into()))).is_err(),
                "{refused:?}"
            );
        }
    }
}
