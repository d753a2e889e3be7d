//! Many webhooks, one commit: whatever arrives while the calls before are out, up to 64, is stored in one call, and
//! each sender is answered only after that call returned. When nothing else is under way a webhook goes out at once; beside
//! another call it waits for company or for that call's end, and for neither longer than [`COMPANY`]. A batch that the
//! store refuses is stored one by one, beside the other batches, so that a bad webhook harms only itself.
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
/// Calls at once: while one is committed, the next is gathered and sent. More would only make each smaller.
const CALLS: usize = 2;
/// A call pays for its commit whatever it brings. One beside another waits until it brings so many, or is alone.
const WORTH_A_CALL: usize = 16;
/// How long it waits for them at most: the call beside it may hang, and hangs for itself alone.
const COMPANY: Duration = Duration::from_millis(20);
/// Single webhooks of refused batches on their way at once.
const CALLS_ALONE: usize = 8;
/// How long a sender waits, in the queue and for the commit together. Well below what any sender waits by itself, so that
/// it hears 503 and not nothing.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// Starts the task that gathers batches out of at most `most_waiting` webhooks.
    pub fn start(channels: Channels, most_waiting: usize) -> Self {
        let (queue, waiting) = mpsc::channel(most_waiting.max(1));
        tokio::spawn(gather(Store::new(channels), waiting));
        Self { queue }
    }

    /// Stores a verified webhook; returns when it is durable.
    pub async fn store(&self, webhook: Webhook) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Waiting { webhook, answer })
            .map_err(|_| not_stored())?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            // It may yet be stored; then the sender's next try is the duplicate.
            Ok(Err(_)) | Err(_) => Err(not_stored()),
        }
    }

    /// How many wait to be sent to the store.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

fn not_stored() -> Refusal {
    Refusal::unavailable("The webhook is not stored; send it again.", 5)
}

async fn gather(store: Store, mut queue: mpsc::Receiver<Waiting>) {
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
        // While all calls are out, webhooks gather in the queue and, past its end, are answered 503.
        let Ok(place) = Arc::clone(&calls).acquire_owned().await else {
            return;
        };
        let batch;
        (batch, next) = gather_batch(first, &mut queue, &calls, tokio::time::sleep(COMPANY)).await;
        let store = store.clone();
        tokio::spawn(async move {
            let refused = store.together(batch).await;
            // Before those that are left go one by one: they must not hold up the batches behind them.
            drop(place);
            store.one_by_one(refused).await;
        });
    }
}

/// What waits now, and while another call is out and this one would bring little, what comes until patience ends.
async fn gather_batch(
    first: Waiting,
    queue: &mut mpsc::Receiver<Waiting>,
    calls: &Semaphore,
    patience: impl Future<Output = ()>,
) -> (Vec<Waiting>, Option<Waiting>) {
    let mut batch = Batch::of(first);
    let others = u32::try_from(CALLS - 1).unwrap_or(u32::MAX);
    tokio::pin!(patience);
    loop {
        if let Some(next) = batch.fill(queue) {
            return (batch.waiting, Some(next));
        }
        if batch.waiting.len() >= WORTH_A_CALL {
            return (batch.waiting, None);
        }
        tokio::select! {
            // Nothing else is out.
            _ = calls.acquire_many(others) => {
                let next = batch.fill(queue);
                return (batch.waiting, next);
            }
            more = queue.recv() => match more {
                Some(one) => if let Some(next) = batch.push(one) {
                    return (batch.waiting, Some(next));
                },
                None => return (batch.waiting, None),
            },
            () = &mut patience => return (batch.waiting, None),
        }
    }
}

/// Webhooks that go in one call.
struct Batch {
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl Batch {
    fn of(first: Waiting) -> Self {
        Self {
            bytes: first.webhook.body.len(),
            waiting: vec![first],
        }
    }

    /// Takes what waits, as far as it fits; gives the first that does not.
    fn fill(&mut self, queue: &mut mpsc::Receiver<Waiting>) -> Option<Waiting> {
        while self.waiting.len() < MOST_IN_BATCH {
            let one = queue.try_recv().ok()?;
            if let Some(next) = self.push(one) {
                return Some(next);
            }
        }
        None
    }

    /// Whoever waits no longer is left out; what does not fit is given back.
    fn push(&mut self, one: Waiting) -> Option<Waiting> {
        if one.answer.is_closed() {
            return None;
        }
        if self.bytes + one.webhook.body.len() > MOST_BYTES {
            return Some(one);
        }
        self.bytes += one.webhook.body.len();
        self.waiting.push(one);
        None
    }
}

#[derive(Clone)]
struct Store {
    channels: Channels,
    alone: Arc<Semaphore>,
}

impl Store {
    fn new(channels: Channels) -> Self {
        Self {
            channels,
            alone: Arc::new(Semaphore::new(CALLS_ALONE)),
        }
    }

    /// Stores a batch in one call. Gives back those that have no answer yet: one of them spoils the rest.
    async fn together(&self, batch: Vec<Waiting>) -> Vec<Waiting> {
        let webhooks: Vec<Webhook> = batch.iter().map(|one| one.webhook.clone()).collect();
        match self.call(webhooks).await {
            Ok(results) => {
                for (one, result) in batch.into_iter().zip(results) {
                    // A sender that has gone away will send again; the store knows the webhook then.
                    let _ = one.answer.send(Ok(result));
                }
                Vec::new()
            }
            Err(refusal) if batch.len() == 1 || is_passing(&refusal) => {
                for one in batch {
                    let _ = one.answer.send(Err(told(&refusal)));
                }
                Vec::new()
            }
            Err(refusal) => {
                tracing::warn!(
                    reason = refusal.reason.as_str_name(),
                    size = batch.len(),
                    "a batch of webhooks was refused; storing them one by one"
                );
                batch
            }
        }
    }

    /// Each in a call of its own, some at once.
    async fn one_by_one(&self, batch: Vec<Waiting>) {
        let calls = batch.into_iter().map(|one| async {
            let Ok(_place) = self.alone.acquire().await else {
                return;
            };
            let result = self.call(vec![one.webhook]).await;
            let answer = result
                .and_then(|results| results.into_iter().next().ok_or_else(not_stored))
                .map_err(|refusal| told(&refusal));
            let _ = one.answer.send(answer);
        });
        futures_util::future::join_all(calls).await;
    }

    async fn call(&self, webhooks: Vec<Webhook>) -> Result<Vec<StoredWebhook>, Refusal> {
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
            request.set_timeout(PATIENCE);
            let integrations = self.channels.channel(ServiceName::Integrations);
            let results = WebhookIntakeServiceClient::new(integrations)
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn waiting(key: &str, bytes: usize) -> (Waiting, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let webhook = Webhook {
            event_key: key.to_owned(),
            body: vec![b'x'; bytes].into(),
            ..Webhook::default()
        };
        (Waiting { webhook, answer }, answered)
    }

    fn fill(
        first: Waiting,
        queue: &mut mpsc::Receiver<Waiting>,
    ) -> (Vec<Waiting>, Option<Waiting>) {
        let mut batch = Batch::of(first);
        let next = batch.fill(queue);
        (batch.waiting, next)
    }

    fn keys(batch: &[Waiting]) -> Vec<&str> {
        batch
            .iter()
            .map(|one| one.webhook.event_key.as_str())
            .collect()
    }

    #[test]
    fn a_batch_is_what_waits_as_far_as_it_fits() {
        let (send, mut queue) = mpsc::channel(200);
        let mut held = Vec::new();
        let mut offer = |key: &str, bytes| {
            let (one, answered) = waiting(key, bytes);
            held.push(answered);
            one
        };
        let first = offer("alone", 10);
        let (batch, next) = fill(first, &mut queue);
        assert_eq!(keys(&batch), ["alone"], "nothing is waited for");
        assert!(next.is_none());

        for n in 0..100 {
            assert!(send.try_send(offer(&n.to_string(), 10)).is_ok());
        }
        let first = offer("first", 10);
        let (batch, next) = fill(first, &mut queue);
        assert_eq!((batch.len(), next.is_none()), (MOST_IN_BATCH, true));
        while queue.try_recv().is_ok() {}

        for key in ["b", "c"] {
            assert!(send.try_send(offer(key, MOST_BYTES / 2)).is_ok());
        }
        let first = offer("a", MOST_BYTES / 2);
        let (batch, next) = fill(first, &mut queue);
        assert_eq!(keys(&batch), ["a", "b"]);
        assert_eq!(
            next.map(|one| one.webhook.event_key).as_deref(),
            Some("c"),
            "what did not fit opens the next"
        );
    }

    #[tokio::test]
    async fn a_batch_that_brings_little_waits_for_more_or_for_the_call_before_it() {
        let (send, mut queue) = mpsc::channel(200);
        let calls = Semaphore::new(CALLS);
        let mut held = Vec::new();
        let mut offer = |key: &str| {
            let (one, answered) = waiting(key, 10);
            held.push(answered);
            one
        };
        let _own = calls.acquire().await;
        let (batch, _) = gather_batch(offer("alone"), &mut queue, &calls, pending()).await;
        assert_eq!(keys(&batch), ["alone"], "no other call is out");

        let other = calls.acquire().await;
        assert!(send.try_send(offer("second")).is_ok());
        let first = offer("first");
        let mut gathered = Box::pin(gather_batch(first, &mut queue, &calls, pending()));
        assert!(futures_util::poll!(gathered.as_mut()).is_pending());
        assert!(send.try_send(offer("third")).is_ok());
        assert!(futures_util::poll!(gathered.as_mut()).is_pending());
        drop(other);
        let (batch, _) = gathered.await;
        assert_eq!(
            keys(&batch),
            ["first", "second", "third"],
            "the other has ended"
        );

        let _other = calls.acquire().await;
        for n in 1..WORTH_A_CALL {
            assert!(send.try_send(offer(&n.to_string())).is_ok());
        }
        let (batch, _) = gather_batch(offer("0"), &mut queue, &calls, pending()).await;
        assert_eq!(batch.len(), WORTH_A_CALL, "it brings enough");
    }

    #[tokio::test]
    async fn a_call_that_hangs_holds_nobody_up_but_its_own() {
        let (_send, mut queue) = mpsc::channel(200);
        let calls = Semaphore::new(CALLS);
        let (_own, _hangs) = (calls.acquire().await, calls.acquire().await);
        let (lone, _held) = waiting("lone", 10);
        let (end, ended) = oneshot::channel();
        let patience = async { ended.await.unwrap_or_default() };
        let mut gathered = Box::pin(gather_batch(lone, &mut queue, &calls, patience));
        assert!(futures_util::poll!(gathered.as_mut()).is_pending());
        assert!(end.send(()).is_ok());
        let (batch, _) = gathered.await;
        assert_eq!(keys(&batch), ["lone"], "the other call is still out");
    }

    #[test]
    fn whoever_waits_no_longer_is_left_out() {
        let (send, mut queue) = mpsc::channel(10);
        let (gone, answered) = waiting("gone", 10);
        drop(answered);
        let (stays, _held) = waiting("stays", 10);
        assert!(send.try_send(gone).is_ok() && send.try_send(stays).is_ok());
        let (first, _also_held) = waiting("first", 10);
        let (batch, _) = fill(first, &mut queue);
        assert_eq!(keys(&batch), ["first", "stays"]);
    }
}
