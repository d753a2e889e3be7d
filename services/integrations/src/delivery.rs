//! Handing on: the inbox is the queue of its own deliveries. A webhook that is due is leased, handed to the owner of its
//! meaning under the trace it came in with, and what that said is written to its row as the lease is given up, until it had
//! its effect or the tries are used up.
//! Deliberately absent: the effect, and what makes it happen once. Both are the owner's, in one transaction of its own.
//!
//! ```text
//!  due_at ──claim: + webhook_lease(fence)──▶ in hand ──had its effect──▶ due_at null
//!    ▲                                        │ │ └─refused, or the last try──▶ due_at null, dead, job_dead_letter
//!    └──failed, handed back, lease expired────┘ └─ whoever lost the lease writes nothing
//! ```

pub mod sql;

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_db::{Result, Worker, retrying};
use mainstay_jobs::backoff::Backoff;
use mainstay_jobs::outbox::{self, NewEvent};
use mainstay_jobs::queue::{Claim, Failed, Failure, OfKind};
use mainstay_jobs::{Handler, Job, JobError, Queue};
use mainstay_proto::billing::v1::stripe_event_service_client::StripeEventServiceClient;
use mainstay_proto::billing::v1::{
    HandleStripeEventRequest, HandleStripeEventResponse, StripeEventOutcome,
};
use mainstay_rpc::{Channels, ErrorReason, Problem, ServiceChannel, ServiceName};
use mainstay_runtime::Clock;
use mainstay_types::{AgencyId, ClientId, JobId, WebhookEventId};
use sqlx::PgConnection;
use tonic::Request;
use uuid::Uuid;

use crate::provider_event::ProviderEvents;
use crate::webhook::{Answer, Next, Pressure, Undelivered, Whose, rules};

/// What operators know it by, among dead letters and in the numbers of queues.
pub const KIND: &str = "deliver_webhook";

/// How long billing may take: it reads the object from Stripe again before it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// The webhooks that wait in the inbox. A job's id is the webhook's.
#[derive(Debug, Clone, Copy)]
pub struct Inbox;

#[tonic::async_trait]
impl Queue for Inbox {
    async fn claim(&self, connection: &mut PgConnection, claim: Claim<'_>) -> Result<Vec<Job>> {
        sql::claim(connection, claim).await
    }

    async fn heartbeat(
        &self,
        connection: &mut PgConnection,
        jobs: &[Uuid],
        fences: &[i64],
        lease_ms: f64,
    ) -> Result<Vec<Uuid>> {
        sql::heartbeat(connection, jobs, fences, lease_ms).await
    }

    /// What a try led to, and the end of its lease, [`Deliver`] has written in one.
    async fn complete(&self, _: &Worker, _: JobId, _: i64) -> Result<bool> {
        Ok(false)
    }

    async fn fail(
        &self,
        connection: &mut PgConnection,
        id: JobId,
        fence: i64,
        failure: Failure<'_>,
    ) -> Result<Failed> {
        let id = webhook(id);
        let error = rules::shortened(failure.error.to_owned());
        if failure.dead {
            let buried = sql::bury(connection, id, fence, &error, None).await?;
            return Ok(if buried {
                Failed::Buried
            } else {
                Failed::NotOurs
            });
        }
        let (next, due) = (Next::Failed { error }, failure.retry_at);
        let retried = sql::apply(connection, id, fence, &next, None, due, due).await?;
        Ok(if retried {
            Failed::Retried
        } else {
            Failed::NotOurs
        })
    }

    async fn snooze(
        &self,
        connection: &mut PgConnection,
        id: JobId,
        fence: i64,
        until: DateTime<Utc>,
    ) -> Result<bool> {
        sql::snooze(connection, webhook(id), fence, until).await
    }

    async fn hand_back(&self, connection: &mut PgConnection, runner: Uuid) -> Result<u64> {
        sql::hand_back(connection, runner).await
    }

    async fn rescue(
        &self,
        connection: &mut PgConnection,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<(i64, i64)> {
        sql::rescue(connection, now, limit).await
    }

    async fn summarize(
        &self,
        connection: &mut PgConnection,
        agency: AgencyId,
        now: DateTime<Utc>,
        most: i64,
    ) -> Result<Vec<OfKind>> {
        let numbers = sql::summarize(connection, agency, now, most).await?;
        let any = numbers.ready + numbers.running + numbers.scheduled > 0;
        Ok(any.then_some(numbers).into_iter().collect())
    }
}

fn webhook(id: JobId) -> WebhookEventId {
    WebhookEventId::from_uuid(id.uuid())
}

/// Hands webhooks on.
#[derive(Clone)]
pub struct Deliver {
    worker: Worker,
    stripe: StripeEventServiceClient<ServiceChannel>,
    providers: ProviderEvents,
    clock: Clock,
    pressure: Pressure,
}

impl Deliver {
    /// Reads webhooks through `worker`, reaches their owners through `channels`, lets those that come in go first.
    pub fn new(
        worker: Worker,
        channels: &Channels,
        providers: ProviderEvents,
        clock: Clock,
        pressure: Pressure,
    ) -> Self {
        let stripe = StripeEventServiceClient::new(channels.channel(ServiceName::Billing));
        Self {
            worker,
            stripe,
            providers,
            clock,
            pressure,
        }
    }

    /// What billing says, and whose it is.
    async fn hand_over(&self, webhook: Undelivered) -> (Answer, Option<Whose>) {
        let event = HandleStripeEventRequest {
            stripe_event_id: webhook.event_key,
            r#type: webhook.kind,
            body: webhook.body,
        };
        let mut request = Request::new(event);
        request.set_timeout(PATIENCE);
        match self.stripe.clone().handle_stripe_event(request).await {
            Ok(response) => understood(response.into_inner()),
            Err(status) => {
                let problem = Problem::from_status(&status);
                (refused_or_failed("billing", &problem), None)
            }
        }
    }

    /// Writes what a try led to, under its fence. Where somebody is to be alerted, or need not be any more, that is one with it.
    async fn write(
        &self,
        job: &Job,
        next: &Next,
        whose: Option<Whose>,
        given_up: bool,
    ) -> Result<bool> {
        let (id, now) = (webhook(job.id), self.clock.now());
        let retry_at = now + Backoff::JOBS.jittered(job.attempt);
        retrying(|| async {
            let event = match next {
                Next::Dead { .. } => "integrations.webhook.dead",
                Next::Processed { .. } if given_up => "integrations.webhook.recovered",
                _ => {
                    let mut connection = self.worker.connection().await?;
                    let conn = connection.conn();
                    let written = sql::apply(conn, id, job.fence, next, whose, now, retry_at).await;
                    if written.is_ok() {
                        connection.give_back();
                    }
                    return written;
                }
            };
            let mut tx = self.worker.tx().await?;
            let written = match next {
                Next::Dead { error } => sql::bury(tx.conn(), id, job.fence, error, whose).await?,
                _ => sql::apply(tx.conn(), id, job.fence, next, whose, now, retry_at).await?,
            };
            if written {
                tell(tx.conn(), (id, job.fence), event, now).await?;
            }
            tx.commit().await?;
            Ok(written)
        })
        .await
    }
}

/// What somebody is alerted with.
#[derive(Debug)]
pub struct Told {
    /// Whose it is.
    pub agency: AgencyId,
    /// `stripe`.
    pub provider: String,
    /// `invoice.paid`.
    pub kind: String,
    /// Why it was given up.
    pub error: Option<String>,
}

/// Tells escalation of a webhook, if it is known whose it is. It is the agency's: its client may be known only when it had its effect.
async fn tell(
    conn: &mut PgConnection,
    (id, fence): (WebhookEventId, i64),
    event_type: &'static str,
    now: DateTime<Utc>,
) -> Result<()> {
    let Some(told) = sql::find_told(conn, id).await? else {
        return Ok(());
    };
    let event = NewEvent {
        event_type,
        schema_version: 1,
        agency: told.agency,
        client: None,
        aggregate_type: "webhook_event",
        aggregate_id: id.to_string(),
        sequence: fence,
        occurred_at: now,
        actor: format!("service:{}", ServiceName::Integrations),
        cause: None,
        payload: serde_json::json!({
            "provider": told.provider,
            "type": told.kind,
            "error": told.error,
        }),
        consumers: &[ServiceName::Escalation],
    };
    outbox::emit(conn, &event).await?;
    Ok(())
}

#[tonic::async_trait]
impl Handler for Deliver {
    async fn run(&self, job: &Job) -> std::result::Result<(), JobError> {
        self.pressure.ease().await;
        let id = webhook(job.id);
        let found = {
            let mut connection = self.worker.connection().await?;
            let found = sql::find_undelivered(connection.conn(), id).await?;
            if found.is_none() {
                // A week that is gone, or an effect that it had through a release before this one.
                sql::release(connection.conn(), id, job.fence).await?;
            }
            connection.give_back();
            found
        };
        let Some(undelivered) = found else {
            return Ok(());
        };
        let given_up = undelivered.given_up;
        // No connection is held meanwhile: billing may ask Stripe before it answers.
        let (answer, whose) = match undelivered.provider.as_str() {
            "stripe" => self.hand_over(undelivered).await,
            _ => self.providers.hand_over(id, undelivered).await,
        };
        // What came before what it is about is nobody's fault, and the next try mends it.
        let early = matches!(answer, Answer::NotYet(_));
        let next = rules::after(answer, job.attempt, job.max_attempts);
        if !self.write(job, &next, whose, given_up).await? {
            return Err(JobError::LeaseLost);
        }
        match next {
            Next::Processed { .. } => return Ok(()),
            Next::Failed { error } if early => {
                tracing::info!(webhook_event.id = %id, job.attempt, error, "a webhook will be handed on again");
                return Ok(());
            }
            Next::Failed { error } => tracing::warn!(
                webhook_event.id = %id, job.attempt, error, "a webhook was not taken and will be handed on again"
            ),
            // What a provider told us has not had its effect, and will not by itself: somebody has to look. The health
            // report says so as well (`webhooks_dead`), for as long as it is true.
            Next::Dead { error } => tracing::error!(
                alert = "webhook_dead", webhook_event.id = %id, job.attempt, error,
                "a webhook was given up: see `mainstay webhook show`"
            ),
        }
        tracing::Span::current().record("otel.status_code", "ERROR");
        Ok(())
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
pub(crate) fn refused_or_failed(owner: &str, problem: &Problem) -> Answer {
    let text = format!("{owner} answered {problem}");
    match problem.reason() {
        ErrorReason::InvalidRequest | ErrorReason::PayloadTooLarge => Answer::Refused(text),
        _ => Answer::Failed(text),
    }
}
