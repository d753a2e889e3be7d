//! Calls to the services themselves, past the gateway, signed as a service of ours: what a stolen key could do.

use std::sync::Arc;

use anyhow::Context as _;
use mainstay_rpc::{Channels, ErrorReason, MethodInfo, Problem, Schema, ServiceKey, ServiceName};
use mainstay_testkit::PATIENCE;
use mainstay_transcode::RequestParts;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::Value;
use tonic::{Code, Request};

use crate::Platform;

/// The ways to all services, signed as `me`.
pub fn channels(platform: &Platform, me: ServiceName) -> anyhow::Result<Channels> {
    let secrets =
        std::fs::read(platform.data_dir().join("secrets.json")).context("secrets.json")?;
    let secrets: Value = serde_json::from_slice(&secrets)?;
    let name = format!("MAINSTAY_{}_SERVICE_KEY", me.as_str().to_uppercase());
    let seed = secrets["settings"][&name]
        .as_str()
        .with_context(|| format!("no {name} in secrets.json"))?;
    signed(platform, ServiceKey::from_hex(me, seed)?)
}

/// The ways to all services, signed with a key that nobody trusts.
pub fn forged(platform: &Platform, me: ServiceName) -> anyhow::Result<Channels> {
    signed(platform, ServiceKey::generate(me))
}

fn signed(platform: &Platform, key: ServiceKey) -> anyhow::Result<Channels> {
    let addresses = ServiceName::CONTEXTS
        .into_iter()
        .map(|service| {
            Ok((
                service,
                platform.dev_text(&format!("/grpc/{service}"))?.to_owned(),
            ))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Channels::new(Arc::new(key), addresses)?.patient(PATIENCE))
}

/// Exchanges an API key for the token that services take, as the gateway does.
pub async fn actor_token(gateway: &Channels, api_key: &str) -> anyhow::Result<String> {
    use mainstay_proto::identity::v1::{
        ExchangeCredentialRequest, credential_service_client::CredentialServiceClient,
    };
    let mut client = CredentialServiceClient::new(gateway.channel(ServiceName::Identity));
    let asked = ExchangeCredentialRequest {
        credential: api_key.to_owned(),
    };
    Ok(client.exchange_credential(asked).await?.into_inner().token)
}

/// How a call ended: the gRPC code, the reason, and the words.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// gRPC's code.
    pub code: Code,
    /// Our reason.
    pub reason: Option<ErrorReason>,
    /// All that the problem says.
    pub said: String,
}

/// Calls a method with a message.
pub async fn call(
    channels: &Channels,
    method: &MethodInfo,
    message: &DynamicMessage,
    token: Option<&str>,
) -> anyhow::Result<Ended> {
    let to: ServiceName = context_of(method)?;
    let mut request = Request::new(message.encode_to_vec().into());
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse()?);
    }
    Ok(match channels.channel(to).call_raw(method, request).await {
        Ok(_) => Ended {
            code: Code::Ok,
            reason: None,
            said: String::new(),
        },
        Err(status) => {
            let problem = Problem::from_status(&status);
            Ended {
                code: status.code(),
                reason: Some(problem.reason()),
                said: format!(
                    "{} {:?} {:?}",
                    problem.detail(),
                    problem.errors(),
                    problem.retry_after_seconds()
                ),
            }
        }
    })
}

/// The service that serves a method. Events are taken, and health and queues told, by all; the first context stands for
/// them.
fn context_of(method: &MethodInfo) -> anyhow::Result<ServiceName> {
    if matches!(method.context.as_str(), "events" | "health" | "jobs") {
        Ok(ServiceName::Identity)
    } else {
        Ok(method.context.parse()?)
    }
}

/// The message of a REST request, as the gateway would make it.
pub fn message(
    request: &crate::sample::Sample,
) -> anyhow::Result<(&'static MethodInfo, DynamicMessage)> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let found = Schema::mainstay()
        .route(&request.verb, path)
        .map_err(|_| anyhow::anyhow!("no route {} {path}", request.verb))?;
    let body = request
        .body
        .as_ref()
        .map(Value::to_string)
        .unwrap_or_default();
    let parts = RequestParts {
        query,
        body: body.as_bytes(),
        if_match: None,
    };
    let message = mainstay_transcode::decode_request(&found, parts)
        .map_err(|violations| anyhow::anyhow!("{} {path}: {violations:?}", request.verb))?;
    Ok((found.method, message))
}
