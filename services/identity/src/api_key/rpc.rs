//! `ApiKeyService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use chrono::TimeDelta;
use mainstay_proto::identity::v1::{
    self as proto, PermissionScope, api_key_service_server::ApiKeyService,
};
use mainstay_rpc::{Violations, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status};

use super::{ApiKey, NewKey};
use crate::{Identity, permission, role, wire};
use mainstay_jobs::once::Once;

/// How long the old secret works beside the new one when the caller does not say.
const OVERLAP_SECONDS: i64 = 3600;

#[tonic::async_trait]
impl ApiKeyService for Identity {
    async fn create_api_key(
        &self,
        request: Request<proto::CreateApiKeyRequest>,
    ) -> Result<Response<proto::CreateApiKeyResponse>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let new = new_key(request, self.clock.now())?;
        Ok(Response::new(super::create(self, &ctx, &once, new).await?))
    }

    async fn get_api_key(
        &self,
        request: Request<proto::GetApiKeyRequest>,
    ) -> Result<Response<proto::ApiKey>, Status> {
        let (ctx, request) = open(request)?;
        let id = wire::id("api_key_id", &request.api_key_id)?;
        Ok(Response::new(answer(
            super::get(self, &ctx.agency_scope(), id).await?,
        )))
    }

    async fn list_api_keys(
        &self,
        request: Request<proto::ListApiKeysRequest>,
    ) -> Result<Response<proto::ListApiKeysResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = wire::page(
            "identity.api_keys",
            request.page_size,
            request.page_token.as_deref(),
        )?;
        let found = super::list(self, &ctx.agency_scope(), &page).await?;
        let (data, next_page_token) = wire::listed(found, answer);
        Ok(Response::new(proto::ListApiKeysResponse {
            data,
            next_page_token,
        }))
    }

    async fn rotate_api_key(
        &self,
        request: Request<proto::RotateApiKeyRequest>,
    ) -> Result<Response<proto::CreateApiKeyResponse>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let id = wire::id("api_key_id", &request.api_key_id)?;
        // The rules bound it to a week; what is beyond them never comes here.
        let overlap = TimeDelta::try_seconds(request.overlap_seconds.unwrap_or(OVERLAP_SECONDS))
            .unwrap_or_default();
        Ok(Response::new(
            super::rotate(self, &ctx, &once, id, overlap).await?,
        ))
    }

    async fn revoke_api_key(
        &self,
        request: Request<proto::RevokeApiKeyRequest>,
    ) -> Result<Response<proto::ApiKey>, Status> {
        let (ctx, request) = open(request)?;
        let id = wire::id("api_key_id", &request.api_key_id)?;
        Ok(Response::new(answer(super::revoke(self, &ctx, id).await?)))
    }
}

fn new_key(
    request: proto::CreateApiKeyRequest,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<NewKey, Status> {
    let mut faults = Violations::new();
    let name = faults.required("name", request.name);
    let client = request
        .client_id
        .and_then(|text| faults.check("client_id", ClientId::parse(&text)));
    if client.is_some() {
        for (at, name) in request.permissions.iter().enumerate() {
            if permission::find(name).is_some_and(|known| known.scope == PermissionScope::Agency) {
                faults.add(
                    format!("permissions[{at}]"),
                    "is held for the agency: a key for one client cannot have it",
                );
            }
        }
    }
    let permissions = role::known(request.permissions, &mut faults);
    let expires_at = match request.expires_at {
        None => None,
        Some(at) => {
            let at = wire::time(&at).filter(|at| *at > now);
            faults.check("expires_at", at.ok_or("must be in the future"))
        }
    };
    match name {
        Some(name) if faults.is_empty() => Ok(NewKey {
            name,
            client,
            member: None,
            permissions,
            expires_at,
        }),
        _ => Err(wire::invalid(faults).into()),
    }
}

/// Without its secret, as the answer is stored; whoever made the secret adds it.
pub(super) fn made(key: ApiKey) -> proto::CreateApiKeyResponse {
    proto::CreateApiKeyResponse {
        id: Some(key.id.to_string()),
        name: Some(key.name),
        secret: None,
        client_id: key.client_id.map(|id| id.to_string()),
        permissions: key.permissions,
        expires_at: key.expires_at.map(wire::timestamp),
        created_at: Some(wire::timestamp(key.created_at)),
    }
}

fn answer(key: ApiKey) -> proto::ApiKey {
    proto::ApiKey {
        id: Some(key.id.to_string()),
        name: Some(key.name),
        prefix: Some(key.prefix),
        client_id: key.client_id.map(|id| id.to_string()),
        permissions: key.permissions,
        expires_at: key.expires_at.map(wire::timestamp),
        last_used_at: key.last_used_at.map(wire::timestamp),
        revoked_at: key.revoked_at.map(wire::timestamp),
        created_at: Some(wire::timestamp(key.created_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn a_clients_key_cannot_hold_what_is_the_agencys() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        let request = |permission: &str, client: Option<ClientId>| proto::CreateApiKeyRequest {
            name: Some("ci".into()),
            client_id: client.map(|id| id.to_string()),
            permissions: vec![permission.into()],
            expires_at: None,
        };
        let client = Some(ClientId::generate());
        assert!(new_key(request("identity.clients.read", client), now).is_ok());
        assert!(new_key(request("identity.clients.create", client), now).is_err());
        assert!(new_key(request("identity.clients.create", None), now).is_ok());
    }

    #[test]
    fn a_key_cannot_be_made_ended() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        let request = |at| proto::CreateApiKeyRequest {
            name: Some("ci".into()),
            client_id: None,
            permissions: vec!["identity.clients.read".into()],
            expires_at: Some(wire::timestamp(at)),
        };
        assert!(new_key(request(now), now).is_err());
        assert!(new_key(request(now + TimeDelta::seconds(1)), now).is_ok());
    }
}
