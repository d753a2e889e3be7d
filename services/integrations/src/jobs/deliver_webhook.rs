//! Hands a stored webhook to the owner of its meaning, under the trace it came in with, until that has taken it or the
//! tries are used up; every outcome is written to the webhook's row.
//! Deliberately absent: the effect, and what makes it happen once. Both are the owner's, in one transaction of its own.

use std::time::Duration;

use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError};
use mainstay_proto::billing::v1::stripe_event_service_client::StripeEventServiceClient;
use mainstay_proto::billing::v1::{
    HandleStripeEventRequest, HandleStripeEventResponse, StripeEventOutcome,
};
use mainstay_rpc::{Channels, ErrorReason, Problem, ServiceChannel, ServiceName};
use mainstay_runtime::Clock;
use mainstay_types::{AgencyId, ClientId, WebhookEventId};
use tonic::Request;
use uuid::Uuid;

use crate::webhook::{Answer, Next, Undelivered, WebhookError, Whose, rules, sql};

/// The job's kind. The statement that stores webhooks enqueues it.
pub const KIND: &str = "deliver_webhook";

/// How long billing may take: it reads the object from Stripe again before it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the job is given.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Payload {
    /// The webhook.
    pub webhook_event_id: Uuid,
}

/// Runs the job.
#[derive(Debug, Clone)]
pub struct DeliverWebhook {
    worker: Worker,
    stripe: StripeEventServiceClient<ServiceChannel>,
    clock: Clock,
}

impl DeliverWebhook {
    /// Reads webhooks through `worker`, reaches their owners through `channels`.
    pub fn new(worker: Worker, channels: &Channels, clock: Clock) -> Self {
        let stripe = StripeEventServiceClient::new(channels.channel(ServiceName::Billing));
        Self {
            worker,
            stripe,
            clock,
        }
    }

    /// One try. None: there is nothing to do any more.
    async fn try_once(
        &self,
        id: WebhookEventId,
        attempts: u32,
        max_attempts: u32,
    ) -> Result<Option<Next>, WebhookError> {
        let webhook = {
            let mut connection = self.worker.connection().await?;
            sql::find_undelivered(connection.conn(), id).await?
        };
        let Some(webhook) = webhook else {
            return Ok(None);
        };
        // No connection is held meanwhile: billing may ask Stripe before it answers.
        let (answer, whose) = self.hand_over(webhook).await;
        let next = rules::after(answer, attempts, max_attempts);
        let mut connection = self.worker.connection().await?;
        sql::apply(connection.conn(), id, &next, whose, self.clock.now()).await?;
        Ok(Some(next))
    }

    /// What its owner says, and whose it is.
    async fn hand_over(&self, webhook: Undelivered) -> (Answer, Option<Whose>) {
        if webhook.provider != "stripe" {
            let refusal = format!("no service takes webhooks of {}", webhook.provider);
            return (Answer::Refused(refusal), None);
        }
        let event = HandleStripeEventRequest {
            stripe_event_id: webhook.event_key,
            r#type: webhook.kind,
            body: webhook.body,
        };
        let mut request = Request::new(event);
        request.set_timeout(PATIENCE);
        match self.stripe.clone().handle_stripe_event(request).await {
            Ok(response) => understood(response.into_inner()),
            Err(status) => (refused_or_failed(&Problem::from_status(&status)), None),
        }
    }
}

#[tonic::async_trait]
impl Handler for DeliverWebhook {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let payload: Payload = job.payload()?;
        let id = WebhookEventId::from_uuid(payload.webhook_event_id);
        let tried = self.try_once(id, job.attempt, job.max_attempts).await;
        match tried.map_err(JobError::retry)? {
            None | Some(Next::Processed { .. }) => Ok(()),
            Some(Next::Failed { error }) => Err(JobError::retry(error)),
            // A dead letter beside the dead row: whoever watches the queue sees it as well.
            Some(Next::Dead { error }) => Err(JobError::dead(error)),
        }
    }
}

fn understood(response: HandleStripeEventResponse) -> (Answer, Option<Whose>) {
    let agency = response
        .agency_id
        .as_deref()
        .and_then(|id| AgencyId::parse(id).ok());
    let client = response
        .client_id
        .as_deref()
        .and_then(|id| ClientId::parse(id).ok());
    let whose = agency.map(|agency| Whose { agency, client });
    let said = |word: &str| match response.detail.as_str() {
        "" => word.to_owned(),
        detail => format!("{word}: {detail}"),
    };
    let answer = match response.outcome() {
        StripeEventOutcome::Applied => Answer::Done(said("applied")),
        StripeEventOutcome::Duplicate => Answer::Done(said("had its effect before")),
        StripeEventOutcome::Ignored => Answer::Done(said("has no effect here")),
        StripeEventOutcome::Retry => Answer::NotYet(said("cannot have its effect yet")),
        // A newer billing's outcome, or none: trying again is harmless, taking it for done is not.
        StripeEventOutcome::Unspecified => Answer::Failed(said("billing gave no outcome")),
    };
    (answer, whose)
}

/// Only what is wrong with the event itself is refused for good. Anything else can be over at the next try.
fn refused_or_failed(problem: &Problem) -> Answer {
    let text = format!("billing answered {problem}");
    match problem.reason() {
        ErrorReason::InvalidRequest | ErrorReason::PayloadTooLarge => Answer::Refused(text),
        _ => Answer::Failed(text),
    }
}
