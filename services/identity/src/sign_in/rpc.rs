//! `SignInService`: protobuf to commands and back.
//! Deliberately absent: an actor. Whoever signs in is nobody yet.

use mainstay_proto::identity::v1::{
    self as proto, SignInChannel, sign_in_service_server::SignInService,
};
use mainstay_rpc::token::access;
use mainstay_rpc::{Problem, Violations, open};
use tonic::{Request, Response, Status};

use crate::address::Address;
use crate::session::{self, Opened};
use crate::{Identity, wire};

#[tonic::async_trait]
impl SignInService for Identity {
    async fn request_code(
        &self,
        request: Request<proto::RequestCodeRequest>,
    ) -> Result<Response<proto::RequestCodeResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = request.agency.clone();
        let address = address(request)?;
        let key = ctx.idempotency_key.as_deref();
        let challenge = super::request(self, &address, agency.as_deref(), key).await?;
        Ok(Response::new(proto::RequestCodeResponse {
            challenge_id: Some(challenge.id.to_string()),
            expires_at: Some(wire::timestamp(challenge.expires_at)),
        }))
    }

    async fn verify_code(
        &self,
        request: Request<proto::VerifyCodeRequest>,
    ) -> Result<Response<proto::SignedIn>, Status> {
        let (_, request) = open(request)?;
        let mut faults = Violations::new();
        let id = faults.required("challenge_id", request.challenge_id);
        let code = faults.required("code", request.code);
        let (Some(id), Some(code)) = (id, code) else {
            return Err(wire::invalid(faults).into());
        };
        let id = wire::id("challenge_id", &id)?;
        let opened = super::verify(self, id, &code).await?;
        Ok(Response::new(signed_in(opened)))
    }

    async fn refresh_session(
        &self,
        request: Request<proto::RefreshSessionRequest>,
    ) -> Result<Response<proto::SignedIn>, Status> {
        let (_, request) = open(request)?;
        let mut faults = Violations::new();
        let Some(token) = faults.required("refresh_token", request.refresh_token) else {
            return Err(wire::invalid(faults).into());
        };
        let opened = session::refresh(self, &token).await?;
        Ok(Response::new(signed_in(opened)))
    }

    async fn get_key_set(
        &self,
        request: Request<proto::GetKeySetRequest>,
    ) -> Result<Response<proto::KeySet>, Status> {
        let (_, _) = open(request)?;
        let keys = self.access.published().into_iter();
        let keys = keys.map(|key| proto::PublicKey {
            kty: Some("OKP".to_owned()),
            crv: Some("Ed25519".to_owned()),
            x: Some(key.x),
            kid: Some(key.kid),
            r#use: Some("sig".to_owned()),
            alg: Some("EdDSA".to_owned()),
        });
        Ok(Response::new(proto::KeySet {
            keys: keys.collect(),
        }))
    }
}

fn address(request: proto::RequestCodeRequest) -> Result<Address, Problem> {
    let mut faults = Violations::new();
    let text = faults.required("identifier", request.identifier);
    let channel = match request.channel.map(SignInChannel::try_from) {
        Some(Ok(channel @ (SignInChannel::Sms | SignInChannel::Email))) => Some(channel),
        _ => {
            faults.add("channel", "must be `sms` or `email`");
            None
        }
    };
    let address = match (channel, text) {
        (Some(channel), Some(text)) => {
            let read = match channel {
                SignInChannel::Sms => Address::phone(&text),
                _ => Address::email(&text),
            };
            faults.check("identifier", read)
        }
        _ => None,
    };
    address
        .filter(|_| faults.is_empty())
        .ok_or_else(|| wire::invalid(faults))
}

fn signed_in(opened: Opened) -> proto::SignedIn {
    proto::SignedIn {
        access_token: Some(opened.access_token),
        refresh_token: Some(opened.refresh_token),
        expires_in_seconds: Some(access::LIFE.num_seconds()),
        person: Some(proto::Person {
            id: Some(opened.member.person_id.to_string()),
            name: Some(opened.member.name),
            email: Some(opened.member.email),
        }),
        session_id: Some(opened.session.to_string()),
        agency_id: Some(opened.agency.to_string()),
    }
}
