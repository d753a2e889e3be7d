//! `ProviderEventService`, from integrations alone: protobuf to an event, and what became of it back.
//! Deliberately absent: reading the body; that is the event's.

use mainstay_jobs::failure;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::provider_event_service_server::ProviderEventService;
use mainstay_rpc::{Problem, field, open};
use tonic::{Request, Response, Status};

use super::{Error, Outcome, ProviderEvent, Sent};
use crate::Messaging;
use crate::carrier::Provider;
use crate::notice;

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::Unreadable(why) => Problem::invalid(Vec::new()).violation("body", why),
            Error::NotYet => Problem::unavailable(error),
            Error::Lead(error) => error.into(),
            Error::Consent(error) => error.into(),
            Error::Senders(problem) => problem,
            Error::Database(error) => failure::database(error),
        }
    }
}

#[tonic::async_trait]
impl ProviderEventService for Messaging {
    async fn handle_provider_event(
        &self,
        request: Request<proto::HandleProviderEventRequest>,
    ) -> Result<Response<proto::HandleProviderEventResponse>, Status> {
        let (_, request) = open(request)?;
        let client = request.client_id.as_deref();
        let endpoint = request.form_endpoint_id.as_deref();
        let form = match endpoint {
            None => None,
            Some(endpoint) => Some(Sent {
                endpoint: field::id("form_endpoint_id", endpoint)?,
                webhook: field::id("webhook_event_id", &request.webhook_event_id)?,
                content_type: request.content_type,
            }),
        };
        let event = ProviderEvent {
            agency: field::id("agency_id", &request.agency_id)?,
            client: client.map(|id| field::id("client_id", id)).transpose()?,
            provider: Provider::named(&request.provider),
            form,
            kind: request.r#type,
            body: request.body,
            received_at: request
                .received_at
                .as_ref()
                .and_then(field::time)
                .unwrap_or_else(|| self.clock.now()),
        };
        let handled = super::handle(self, &event).await.map_err(Problem::from)?;
        tracing::info!(
            provider = request.provider,
            kind = event.kind,
            outcome = ?handled.outcome,
            detail = handled.detail,
            "a provider's event"
        );
        let outcome = match handled.outcome {
            Outcome::Applied => proto::ProviderEventOutcome::Applied,
            Outcome::Duplicate => proto::ProviderEventOutcome::Duplicate,
            Outcome::Ignored => proto::ProviderEventOutcome::Ignored,
        };
        Ok(Response::new(proto::HandleProviderEventResponse {
            outcome: outcome.into(),
            detail: handled.detail,
            // Those of its house are no client's to see.
            client_id: handled
                .client
                .filter(|client| *client != notice::house(event.agency).client)
                .map(|id| id.to_string()),
        }))
    }
}
