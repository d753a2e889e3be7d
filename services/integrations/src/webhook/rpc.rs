//! The webhook inbox over gRPC: intake for the gateway, the list for operators. Protobuf to values and back.
//! Deliberately absent: decisions.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use mainstay_db::{Database, PageRequest};
use mainstay_jobs::Wake;
use mainstay_proto::integrations::v1::webhook_event_service_server::WebhookEventService;
use mainstay_proto::integrations::v1::webhook_intake_service_server::WebhookIntakeService;
use mainstay_proto::integrations::v1::{self as proto, WebhookEventState};
use mainstay_rpc::{Problem, Violations, open};
use mainstay_runtime::{Clock, telemetry};
use mainstay_types::WebhookEventId;
use secrecy::ExposeSecret;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Filter, Key, NewWebhook, State, WebhookEvent};
use crate::config::VerificationSecrets;

/// What the platform's own endpoint of a provider stands for.
const OWN_ACCOUNT: &str = "default";

/// Takes in what the gateway verified, and tells it what to verify with.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Where it is stored.
    pub database: Database,
    /// What webhooks may be signed with.
    pub secrets: Arc<VerificationSecrets>,
    /// The platform's time.
    pub clock: Clock,
    /// Who hands on what was stored.
    pub wake: Wake,
}

#[tonic::async_trait]
impl WebhookIntakeService for Intake {
    async fn store_webhooks(
        &self,
        request: Request<proto::StoreWebhooksRequest>,
    ) -> Result<Response<proto::StoreWebhooksResponse>, Status> {
        let (_, message) = open(request)?;
        let now = self.clock.now();
        let mut faults = Violations::new();
        let webhooks: Vec<NewWebhook> = message
            .webhooks
            .into_iter()
            .enumerate()
            .map(|(place, webhook)| read(place, webhook, now, &mut faults))
            .collect();
        faults.finish()?;
        let stored = super::store(&self.database.worker(), webhooks, now)
            .await
            .map_err(Problem::from)?;
        if stored.iter().any(|stored| !stored.duplicate) {
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
        // Endpoints of single accounts come with those accounts' credentials (INT-16); there is none to find yet.
        let secrets = match (message.provider.as_str(), message.endpoint_token.as_str()) {
            ("stripe", "") => &self.secrets.stripe,
            _ => return Err(Problem::not_found("webhook endpoint").into()),
        };
        Ok(Response::new(proto::ListVerificationSecretsResponse {
            secrets: secrets
                .iter()
                .map(|secret| secret.expose_secret().to_owned())
                .collect(),
            account: OWN_ACCOUNT.to_owned(),
        }))
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
        received_at: webhook.received_at.and_then(time).unwrap_or(now),
        traceparent,
    }
}

fn time(at: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.timestamp(),
        // the database keeps no leap seconds, so this is below a thousand million
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}

/// Shows the inbox to operators.
#[derive(Debug, Clone)]
pub struct Events {
    /// Where it is stored.
    pub database: Database,
}

#[tonic::async_trait]
impl WebhookEventService for Events {
    async fn list_webhook_events(
        &self,
        request: Request<proto::ListWebhookEventsRequest>,
    ) -> Result<Response<proto::ListWebhookEventsResponse>, Status> {
        let (context, message) = open(request)?;
        let mut faults = Violations::new();
        let page = faults.check(
            "page_token",
            PageRequest::<Uuid>::new(
                "integrations.webhook_events",
                message.page_size,
                message.page_token.as_deref(),
            ),
        );
        let filter = Filter {
            provider: message.provider.clone(),
            state: asked_state(message.state),
            kind: message.r#type,
        };
        faults.finish()?;
        let page = page.ok_or_else(|| Problem::internal("a page without a fault"))?;
        let rows = super::list(&self.database, &context.agency_scope(), &filter, &page)
            .await
            .map_err(Problem::from)?;
        let page = page.page(rows, |last| last.id.uuid());
        let data: Result<Vec<_>, Problem> = page.rows.into_iter().map(show).collect();
        Ok(Response::new(proto::ListWebhookEventsResponse {
            data: data?,
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_webhook_event(
        &self,
        request: Request<proto::GetWebhookEventRequest>,
    ) -> Result<Response<proto::WebhookEvent>, Status> {
        let (context, message) = open(request)?;
        let mut faults = Violations::new();
        let id = faults.check(
            "webhook_event_id",
            WebhookEventId::parse(&message.webhook_event_id),
        );
        faults.finish()?;
        let id = id.ok_or_else(|| Problem::internal("an id without a fault"))?;
        let event = super::get(&self.database, &context.agency_scope(), id)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(show(event)?))
    }
}

/// The state asked for. Numbers that are no state were refused by the server stack.
fn asked_state(asked: Option<i32>) -> Option<State> {
    match asked.and_then(|number| WebhookEventState::try_from(number).ok())? {
        WebhookEventState::Unspecified => None,
        WebhookEventState::Received => Some(State::Received),
        WebhookEventState::Processed => Some(State::Processed),
        WebhookEventState::Failed => Some(State::Failed),
        WebhookEventState::Dead => Some(State::Dead),
    }
}

fn show(event: WebhookEvent) -> Result<proto::WebhookEvent, Problem> {
    let state = State::try_from(event.state.as_str()).map_err(super::WebhookError::from)?;
    let state = match state {
        State::Received => WebhookEventState::Received,
        State::Processed => WebhookEventState::Processed,
        State::Failed => WebhookEventState::Failed,
        State::Dead => WebhookEventState::Dead,
    };
    Ok(proto::WebhookEvent {
        id: Some(event.id.to_string()),
        provider: Some(event.provider),
        event_id: Some(event.event_key),
        r#type: Some(event.kind),
        state: Some(state.into()),
        attempts: Some(event.attempts),
        received_at: Some(timestamp(event.received_at)),
        processed_at: event.processed_at.map(timestamp),
        error: event.error,
        trace_id: event
            .traceparent
            .as_deref()
            .and_then(telemetry::trace_id_of),
        client_id: event.client.map(|client| client.to_string()),
        outcome: event.outcome,
    })
}
