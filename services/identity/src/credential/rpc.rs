//! `CredentialService`: protobuf to the exchange and back.
//! Deliberately absent: logging what was sent.

use mainstay_proto::identity::v1::{self as proto, credential_service_server::CredentialService};
use mainstay_rpc::{Problem, open};
use tonic::{Request, Response, Status};

use crate::{Identity, wire};

#[tonic::async_trait]
impl CredentialService for Identity {
    async fn exchange_credential(
        &self,
        request: Request<proto::ExchangeCredentialRequest>,
    ) -> Result<Response<proto::ExchangeCredentialResponse>, Status> {
        let (_, request) = open(request)?;
        let exchanged = super::exchange(self, &request.credential)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(proto::ExchangeCredentialResponse {
            expires_at: Some(wire::timestamp(exchanged.claims.expires_at())),
            principal: exchanged.principal,
            agency_id: exchanged.claims.agy.to_string(),
            token: exchanged.token,
        }))
    }
}
