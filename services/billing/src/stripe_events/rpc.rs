//! Stripe's events over gRPC, from integrations alone.
//! Deliberately absent: signatures. The gateway verified the bytes before they were stored.

use mainstay_proto::billing::v1::{
    HandleStripeEventRequest, HandleStripeEventResponse, StripeEventOutcome,
    stripe_event_service_server::StripeEventService,
};
use mainstay_rpc::{Problem, open};
use tonic::{Request, Response, Status};

use super::{Intake, IntakeError, Outcome, StripeEvent};
use crate::wire::database_problem;

/// Takes Stripe's events.
#[derive(Debug)]
pub struct StripeEventRpc {
    intake: Intake,
}

impl StripeEventRpc {
    /// With these.
    pub fn new(intake: Intake) -> Self {
        Self { intake }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Problem {
        match error {
            IntakeError::Stripe(failure) => Problem::unavailable(failure),
            IntakeError::Identity(problem) => Problem::unavailable(problem),
            IntakeError::Database(error) => database_problem(error),
        }
    }
}

#[tonic::async_trait]
impl StripeEventService for StripeEventRpc {
    async fn handle_stripe_event(
        &self,
        request: Request<HandleStripeEventRequest>,
    ) -> Result<Response<HandleStripeEventResponse>, Status> {
        let (_, request) = open(request)?;
        let event = StripeEvent::read(request.stripe_event_id, request.r#type, &request.body)
            .map_err(|error| {
                let message = format!("is no event with an object: {error}");
                Problem::invalid(Vec::new()).violation("body", message)
            })?;
        let handled = super::handle(&self.intake, &event)
            .await
            .map_err(Problem::from)?;
        let outcome = match handled.outcome {
            Outcome::Applied => StripeEventOutcome::Applied,
            Outcome::Duplicate => StripeEventOutcome::Duplicate,
            Outcome::Ignored => StripeEventOutcome::Ignored,
            Outcome::Retry => StripeEventOutcome::Retry,
        };
        tracing::info!(
            event = event.id,
            kind = event.kind,
            outcome = outcome.as_str_name(),
            detail = handled.detail,
            "Stripe event"
        );
        Ok(Response::new(HandleStripeEventResponse {
            outcome: outcome.into(),
            detail: handled.detail,
            agency_id: handled.tenant.map(|tenant| tenant.agency.to_string()),
            client_id: handled.tenant.map(|tenant| tenant.client.to_string()),
        }))
    }
}
