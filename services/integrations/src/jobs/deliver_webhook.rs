//! Hands a stored webhook to the owner of its meaning, under the trace it came in with, until that has taken it or the
//! tries are used up; every outcome is written to the webhook's row.
//! Deliberately absent: the effect, and what makes it happen once. Both are the owner's, in one transaction of its own.

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_jobs::{Handler, Job, JobError};
use mainstay_proto::billing::v1::stripe_event_service_client::StripeEventServiceClient;
use mainstay_proto::billing::v1::{HandleStripeEventRequest, HandleStripeEventResponse, StripeEventOutcome};
use mainstay_rpc::{Channels, Problem, ServiceChannel, ServiceName};
use mainstay_runtime::Clock;
use mainstay_types::{AgencyId, ClientId, WebhookEventId};
use tonic::{Code, Status};

use crate::webhook::{Answer, Next, Undelivered, Whose, rules, sql};

/// The job's kind. The statement that stores webhooks enqueues it.
pub const KIND: &str = "deliver_webhook";

/// What the job is given.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Payload {
    /// The webhook.
    #[serde(with = "bare_uuid")]
    pub webhook_event_id: WebhookEventId,
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
        Self { worker, stripe, clock }
    }

    /// What its owner says, and whose it is.
    async fn hand_over(&self, webhook: Undelivered) -> (Answer, Option<Whose>) {
        match webhook.provider.as_str() {
            "stripe" => {
                let event = HandleStripeEventRequest {
                    stripe_event_id: webhook.event_key,
                    r#type: webhook.kind,
                    body: webhook.body,
                };
                // The connection is not held meanwhile: billing may ask Stripe before it answers.
                match self.stripe.clone().handle_stripe_event(event).await {
                    Ok(response) => understood(&response.into_inner()),
                    Err(status) => (failed(&status), None),
                }
            }
            other => (Answer::Refused(format!("nobody takes webhooks of {other}")), None),
        }
    }
}
