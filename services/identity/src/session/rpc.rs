//! `SessionService`: protobuf to commands and back.
//! Deliberately absent: sessions of others. Deactivating a member ends that member's.

use mainstay_proto::identity::v1::{self as proto, session_service_server::SessionService};
use mainstay_rpc::{Context, open};
use tonic::{Request, Response, Status};

use super::Session;
use crate::{Identity, wire};

#[tonic::async_trait]
impl SessionService for Identity {
    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = wire::page(
            "identity.sessions",
            request.page_size,
            request.page_token.as_deref(),
        )?;
        let found = super::list(self, &ctx, &page).await?;
        let (data, next_page_token) = wire::listed(found, |session| answer(&ctx, session));
        Ok(Response::new(proto::ListSessionsResponse {
            data,
            next_page_token,
        }))
    }

    async fn revoke_session(
        &self,
        request: Request<proto::RevokeSessionRequest>,
    ) -> Result<Response<proto::RevokeSessionResponse>, Status> {
        let (ctx, request) = open(request)?;
        let id = wire::id("session_id", &request.session_id)?;
        super::revoke(self, &ctx, id).await?;
        Ok(Response::new(proto::RevokeSessionResponse {}))
    }

    async fn sign_out(
        &self,
        request: Request<proto::SignOutRequest>,
    ) -> Result<Response<proto::SignOutResponse>, Status> {
        // The refresh token ends with the session, whether or not it was sent.
        let (ctx, _) = open(request)?;
        super::sign_out(self, &ctx).await?;
        Ok(Response::new(proto::SignOutResponse {}))
    }
}

fn answer(ctx: &Context, session: Session) -> proto::Session {
    proto::Session {
        id: Some(session.id.to_string()),
        agency_id: Some(session.agency.to_string()),
        current: Some(ctx.session() == Some(session.id)),
        created_at: Some(wire::timestamp(session.created_at)),
        last_used_at: Some(wire::timestamp(session.last_used_at)),
        expires_at: Some(wire::timestamp(session.expires_at)),
    }
}
