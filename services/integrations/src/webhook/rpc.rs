//! The intake over gRPC, for the gateway: protobuf to values and back.
//! Deliberately absent: decisions, and what operators ask ([`super::events`]).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::Wake;
use mainstay_proto::integrations::v1 as proto;
use mainstay_proto::integrations::v1::webhook_intake_service_server::WebhookIntakeService;
use mainstay_rpc::field::time;
use mainstay_rpc::{Problem, Violations, open};
use mainstay_runtime::telemetry;
use secrecy::ExposeSecret;
use tonic::{Request, Response, Status};

use super::{Key, NewWebhook, Pressure};
use crate::Integrations;
use crate::config::VerificationSecrets;
use crate::form_endpoint;
use crate::provider_account::{self, Provider};

/// Websites' forms, which no secret signs.
const FORMS: &str = "forms";
/// What the platform's own endpoint of a provider stands for.
const OWN_ACCOUNT: &str = "default";

/// Takes in what the gateway verified, and tells it what to verify with.
#[derive(Clone)]
pub struct Intake {
    /// Whose accounts webhooks come for.
    pub integrations: Integrations,
    /// Where they are stored.
    pub inbox: Worker,
    /// What webhooks of the platform's own accounts may be signed with.
    pub secrets: Arc<VerificationSecrets>,
    /// Who hands on what was stored.
    pub wake: Wake,
    /// What makes handing on wait meanwhile.
    pub pressure: Pressure,
}

#[tonic::async_trait]
impl WebhookIntakeService for Intake {
    async fn store_webhooks(
        &self,
        request: Request<proto::StoreWebhooksRequest>,
    ) -> Result<Response<proto::StoreWebhooksResponse>, Status> {
        let (_, message) = open(request)?;
        let crowd = self.pressure.taken_in(message.webhooks.len());
        let now = self.integrations.clock.now();
        let mut faults = Violations::new();
        let webhooks: Vec<NewWebhook> = message
            .webhooks
            .into_iter()
            .enumerate()
            .map(|(place, webhook)| read(place, webhook, now, &mut faults))
            .collect();
        faults.finish()?;
        let stored = super::store(&self.inbox, webhooks, now)
            .await
            .map_err(Problem::from)?;
        // In a crowd whoever hands on looks from time to time, not for each call.
        if !crowd && stored.iter().any(|stored| !stored.duplicate) {
            self.wake.wake();
        }
        let results = stored.into_iter().map(|stored| proto::StoredWebhook {
            id: stored.id.to_string(),
            duplicate: stored.duplicate,
        });
        Ok(Response::new(proto::StoreWebhooksResponse {
            results: results.collect(),
        }))
    }

    async fn list_verification_secrets(
        &self,
        request: Request<proto::ListVerificationSecretsRequest>,
    ) -> Result<Response<proto::ListVerificationSecretsResponse>, Status> {
        let (_, message) = open(request)?;
        let (provider, token) = (message.provider.as_str(), message.endpoint_token.as_str());
        if !token.is_empty() {
            return Ok(Response::new(self.of_account(provider, token).await?));
        }
        let secrets = match provider {
            "stripe" => &self.secrets.stripe,
            "twilio" => &self.secrets.twilio,
            _ => return Err(Problem::not_found("webhook endpoint").into()),
        };
        // Never an empty list, which would look like a valid answer.
        if secrets.is_empty() {
            return Err(Problem::not_found("webhook endpoint").into());
        }
        Ok(Response::new(proto::ListVerificationSecretsResponse {
            secrets: secrets
                .iter()
                .map(|secret| secret.expose_secret().to_owned())
                .collect(),
            account: OWN_ACCOUNT.to_owned(),
            allowed_origins: Vec::new(),
            call_forwards: std::collections::BTreeMap::new(),
        }))
    }
}

impl Intake {
    /// What the webhooks of the account with this token may be signed with, or from where its forms may come.
    async fn of_account(
        &self,
        provider: &str,
        token: &str,
    ) -> Result<proto::ListVerificationSecretsResponse, Problem> {
        let unknown = || Problem::not_found("webhook endpoint");
        if provider == FORMS {
            return match form_endpoint::taking(&self.integrations, token).await {
                Ok(taking) => Ok(proto::ListVerificationSecretsResponse {
                    secrets: Vec::new(),
                    account: taking.endpoint.to_string(),
                    allowed_origins: taking.allowed_origins,
                    ..Default::default()
                }),
                Err(form_endpoint::Error::NotFound) => Err(unknown()),
                Err(error) => Err(error.into()),
            };
        }
        let provider = Provider::named(provider).ok_or_else(unknown)?;
        match provider_account::verifying(&self.integrations, provider, token).await {
            Ok(known) => Ok(proto::ListVerificationSecretsResponse {
                secrets: known.secrets,
                account: known.account.to_string(),
                allowed_origins: Vec::new(),
                call_forwards: known.call_forwards.into_iter().collect(),
            }),
            Err(provider_account::Error::NotFound) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What PostgreSQL's text cannot hold is a fault of the field, not of the batch's transaction.
fn read(
    place: usize,
    webhook: proto::Webhook,
    now: DateTime<Utc>,
    faults: &mut Violations,
) -> NewWebhook {
    for (field, text) in [
        ("account", &webhook.account),
        ("event_key", &webhook.event_key),
        ("type", &webhook.r#type),
        ("content_type", &webhook.content_type),
    ] {
        if text.contains('\0') {
            faults.add(
                format!("webhooks[{place}].{field}"),
                "may not contain the character U+0000",
            );
        }
    }
    // A trace context that is none starts no trace; that is no reason to lose a webhook.
    let traceparent = webhook
        .traceparent
        .filter(|text| telemetry::trace_id_of(text).is_some());
    NewWebhook {
        key: Key {
            provider: webhook.provider,
            account: webhook.account,
            event_key: webhook.event_key,
        },
        kind: webhook.r#type,
        content_type: webhook.content_type,
        body: webhook.body,
        received_at: webhook.received_at.as_ref().and_then(time).unwrap_or(now),
        traceparent,
    }
}
