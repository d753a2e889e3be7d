//! Many webhooks, one commit: those that arrive within a millisecond, up to 64, are stored in one call, and
//! each sender is answered only after that call returned. A batch that the store refuses is stored one by
//! one, so that a bad webhook harms only itself.
//! Deliberately absent: retrying for the sender; a webhook that is not stored is answered 503 and comes again.

use std::{sync::Arc, time::Duration};

use mainstay_proto::{
    errors::v1::ErrorReason,
    integrations::v1::{
        StoreWebhooksRequest, StoredWebhook, Webhook,
        webhook_intake_service_client::WebhookIntakeServiceClient,
    },
};
use mainstay_rpc::Channels;
use mainstay_runtime::telemetry;
use mainstay_types::ServiceName;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::Request;
use tracing::Instrument as _;

use crate::refusal::Refusal;

/// The most webhooks in one call.
const MOST_IN_BATCH: usize = 64;
/// The most bytes of bodies in one call, below what a service takes at once.
const MOST_BYTES: usize = 2 * 1024 * 1024;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_millis(1);
/// Webhooks that wait to be gathered.
const QUEUE: usize = 1024;
/// Calls at once.
const CALLS: usize = 8;
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

type Answer = Result<StoredWebhook, Refusal>;

struct Waiting {
    webhook: Webhook,
    answer: oneshot::Sender<Answer>,
}

/// The way into the store. It ends with its last handle.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
}

impl Intake {
    /// Starts the task that gathers batches.
    pub fn start(channels: Channels) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(gather(channels, waiting));
        Self { queue }
    }

    /// Stores a verified webhook; returns when it is durable.
    pub async fn store(&self, webhook: Webhook) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Waiting { webhook, answer })
            .map_err(|_| not_stored())?;
        answered.await.unwrap_or_else(|_| Err(not_stored()))
    }
}

fn not_stored() -> Refusal {
    Refusal::unavailable("The webhook is not stored; send it again.", 5)
}

async fn gather(channels: Channels, mut queue: mpsc::Receiver<Waiting>) {
    let calls = Arc::new(Semaphore::new(CALLS));
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut bytes = first.webhook.body.len();
        let mut batch = vec![first];
        let until = tokio::time::Instant::now() + GATHER;
        while batch.len() < MOST_IN_BATCH {
            let Ok(Some(one)) = tokio::time::timeout_at(until, queue.recv()).await else {
                break;
            };
            bytes += one.webhook.body.len();
            if bytes > MOST_BYTES {
                next = Some(one);
                break;
            }
            batch.push(one);
        }
        // While all calls are out, webhooks gather in the queue and, past its end, are answered 503.
        let Ok(place) = Arc::clone(&calls).acquire_owned().await else {
            return;
        };
        let channels = channels.clone();
        tokio::spawn(async move {
            store(&channels, batch).await;
            drop(place);
        });
    }
}

async fn store(channels: &Channels, batch: Vec<Waiting>) {
    let webhooks: Vec<Webhook> = batch.iter().map(|one| one.webhook.clone()).collect();
    match call_store(channels, webhooks).await {
        Ok(results) => {
            for (one, result) in batch.into_iter().zip(results) {
                // A sender that has gone away will send again; the store knows the webhook then.
                let _ = one.answer.send(Ok(result));
            }
        }
        Err(refusal) if batch.len() == 1 || is_passing(&refusal) => {
            for one in batch {
                let _ = one.answer.send(Err(told(&refusal)));
            }
        }
        Err(refusal) => {
            tracing::warn!(
                reason = refusal.reason.as_str_name(),
                size = batch.len(),
                "a batch of webhooks was refused; storing them one by one"
            );
            for one in batch {
                let result = call_store(channels, vec![one.webhook]).await;
                let answer = result
                    .and_then(|results| results.into_iter().next().ok_or_else(not_stored))
                    .map_err(|refusal| told(&refusal));
                let _ = one.answer.send(answer);
            }
        }
    }
}

// Passing: the same batch may be taken a moment later, and splitting it would only add load.
fn is_passing(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason,
        ErrorReason::Unavailable | ErrorReason::DeadlineExceeded | ErrorReason::RateLimited
    )
}

// Senders understand two answers here: what you sent is wrong, or send it again.
fn told(refusal: &Refusal) -> Refusal {
    match refusal.reason {
        ErrorReason::InvalidRequest | ErrorReason::PayloadTooLarge => refusal.clone(),
        _ => not_stored(),
    }
}

async fn call_store(
    channels: &Channels,
    webhooks: Vec<Webhook>,
) -> Result<Vec<StoredWebhook>, Refusal> {
    let count = webhooks.len();
    let span = tracing::info_span!(
        "store webhooks",
        "mainstay.role" = "gateway",
        webhooks = count
    );
    // The call joins the story of the first; the others' stories go on from what is stored with each.
    if let Some(parent) = webhooks
        .first()
        .and_then(|webhook| webhook.traceparent.as_deref())
    {
        telemetry::set_parent(&span, parent);
    }
    async {
        let mut request = Request::new(StoreWebhooksRequest { webhooks });
        request.set_timeout(STORE_TIMEOUT);
        let results = WebhookIntakeServiceClient::new(channels.channel(ServiceName::Integrations))
            .store_webhooks(request)
            .await
            .map_err(|status| Refusal::of_status(ServiceName::Integrations, &status))?
            .into_inner()
            .results;
        // Fewer results than webhooks would answer 200 for one that may not be stored.
        if results.len() == count {
            Ok(results)
        } else {
            tracing::error!(
                count,
                results = results.len(),
                "the webhook store answered for another number of webhooks"
            );
            Err(not_stored())
        }
    }
    .instrument(span)
    .await
}
