//! Owns the way of an event to its receivers: which ones get it, attempts with back-off, what they answered, and the
//! bound on everything. `signer`: the proof of origin.
//!
//! Deliberately absent: any order. No provider promises one, so deliveries run side by side and a late one is not
//! waited for.

mod signer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_runtime::telemetry;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::clock;
use crate::core::Core;
use crate::faults::Faults;
use crate::store::{Delivery, EventRecord, Origin, Record, Settled, Tx, World};
use crate::stripe::{self, kind};
use crate::{resend, sendgrid, twilio};

pub(crate) use signer::Signer;

const CONCURRENT: usize = 32;
const CONCURRENT_PER_ENDPOINT: usize = 16;
/// How far the dispatcher looks into the queue for an endpoint that has room.
const LOOK_AHEAD: usize = 2_000;
const FIRST_DELAY_MS: i64 = 200;
const LONGEST_DELAY_MS: i64 = 30_000;
/// About three hours of an endpoint that is away. Registering it again makes everything outstanding due at once.
const MOST_ATTEMPTS: u32 = 400;
/// Between held-back events, so that they leave in reverse.
const REORDER_STEP_MS: i64 = 100;
/// Of an answer that is read, at most.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Kinds of object that deliveries name as their endpoint.
const ENDPOINTS: [&str; 4] = [
    kind::WEBHOOK_ENDPOINT,
    twilio::ACCOUNT,
    resend::ACCOUNT,
    sendgrid::ACCOUNT,
];

/// Where an attempt goes, and how patient its provider is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub url: String,
    pub signer: Signer,
    pub timeout: Duration,
    pub patience: Patience,
}

/// What becomes of a delivery that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Again and again, with growing pauses.
    BackOff,
    /// So often, at once, after failures of these kinds only.
    AtOnce { retries: u32, after: Failures },
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failures {
    pub unreachable: bool,
    pub unanswered: bool,
    pub refused_4xx: bool,
    pub refused_5xx: bool,
}

impl Failures {
    fn cover(self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Taken { .. } => false,
            Outcome::Unreachable => self.unreachable,
            Outcome::Unanswered => self.unanswered,
            Outcome::Refused(400..=499) => self.refused_4xx,
            Outcome::Refused(_) => self.refused_5xx,
        }
    }
}

/// What an attempt came to.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// 2xx. The body as far as it is read: `None` where it is not text or too long.
    Taken {
        content_type: String,
        body: Option<String>,
    },
    Refused(u16),
    /// No connection came about.
    Unreachable,
    /// It did, but no answer, or none in time.
    Unanswered,
}

/// Adds to a transaction the deliveries that its events cause, with the faults that strike them.
pub(crate) fn plan(world: &World, faults: &Faults, record: &mut Record) {
    if record.events.is_empty() {
        return;
    }
    let listening: Vec<(&str, &Value)> = world
        .oldest_first(kind::WEBHOOK_ENDPOINT)
        .map(|e| (e["id"].as_str().unwrap_or_default(), e))
        .collect();
    let now_ms = clock::wall_ms();
    let count = record.events.len();
    let mut next_id = world.next_delivery_id();
    let mut planned = Vec::new();
    for (index, event) in record.events.iter().enumerate() {
        let strike = faults.strike_event(&event.provider, &event.operation, &event.event_type);
        let due_ms = strike.held_back_ms.map_or(now_ms, |held| {
            let behind = i64::try_from(count - index).unwrap_or(0) * REORDER_STEP_MS;
            now_ms + i64::try_from(held).unwrap_or(0) + behind
        });
        let endpoints: Vec<&str> = match &event.endpoint {
            Some(only) => vec![only],
            None => listening
                .iter()
                .filter(|(_, endpoint)| wants(endpoint, &event.event_type))
                .map(|(id, _)| *id)
                .collect(),
        };
        for endpoint in endpoints {
            for _ in 0..strike.copies {
                let late = strike.late_ms.saturating_add(match strike.shuffled_ms {
                    0 => 0,
                    most => rand::random_range(0..=most),
                });
                let due_ms = due_ms.saturating_add(i64::try_from(late).unwrap_or(0));
                planned.push(Delivery {
                    id: next_id,
                    event: event.id.clone(),
                    endpoint: endpoint.to_owned(),
                    due_ms,
                    attempts: 0,
                });
                next_id += 1;
            }
        }
    }
    record.deliveries = planned;
}

fn wants(endpoint: &Value, event_type: &str) -> bool {
    endpoint["status"] == "enabled"
        && endpoint["enabled_events"].as_array().is_some_and(|types| {
            types
                .iter()
                .any(|wanted| wanted == "*" || wanted == event_type)
        })
}

/// Makes everything outstanding for an endpoint due at once: it has just said that it is there.
pub(crate) fn due_now(world: &World, endpoint: &str) -> Vec<Settled> {
    let due_ms = clock::wall_ms();
    world
        .deliveries()
        .filter(|delivery| delivery.endpoint == endpoint)
        .map(|delivery| Settled::Retry {
            id: delivery.id,
            attempts: 0,
            due_ms,
        })
        .collect()
}

/// Where a delivery goes now, if its endpoint is still there.
fn target(world: &World, delivery: &Delivery, event: &EventRecord) -> Option<Target> {
    match event.provider.as_str() {
        twilio::NAME => twilio::target(world, delivery, event),
        resend::NAME => resend::target(world, delivery, event),
        sendgrid::NAME => sendgrid::target(world, delivery),
        _ => stripe::webhook_endpoint::target(world, delivery),
    }
}

/// Tells the provider what the receiver answered, where that means something to it.
fn tell(tx: &mut Tx<'_>, event: &EventRecord, outcome: &Outcome) {
    if event.provider == twilio::NAME {
        twilio::answered(tx, event, outcome);
    }
}

/// An attempt that is over.
struct Finished {
    delivery: Delivery,
    event: Arc<EventRecord>,
    patience: Patience,
    outcome: Outcome,
}

/// Delivers until told to stop. What is on its way then is not waited for: it is in the journal, due again at start.
pub(crate) async fn deliver(core: Arc<Core>, mut stopped: watch::Receiver<bool>) {
    let mut sending: JoinSet<Finished> = JoinSet::new();
    let mut on_the_way: HashMap<u64, String> = HashMap::new();
    loop {
        let next_due = start_due(&core, &mut sending, &mut on_the_way);
        let pause = next_due.map_or(Duration::from_secs(60), |due_ms| {
            Duration::from_millis(
                u64::try_from(due_ms - clock::wall_ms())
                    .unwrap_or(0)
                    .clamp(1, 60_000),
            )
        });
        tokio::select! {
            _ = stopped.changed() => return,
            () = core.deliveries.notified() => {}
            Some(finished) = sending.join_next(), if !sending.is_empty() => {
                if let Ok(finished) = finished {
                    on_the_way.remove(&finished.delivery.id);
                    settle(&core, &finished);
                }
            }
            () = tokio::time::sleep(pause), if sending.len() < CONCURRENT => {}
        }
    }
}

/// Starts what is due as far as there is room; returns when the next one wants to leave.
fn start_due(
    core: &Arc<Core>,
    sending: &mut JoinSet<Finished>,
    on_the_way: &mut HashMap<u64, String>,
) -> Option<i64> {
    let now_ms = clock::wall_ms();
    let mut per_endpoint: HashMap<String, usize> = HashMap::new();
    for endpoint in on_the_way.values() {
        *per_endpoint.entry(endpoint.clone()).or_default() += 1;
    }
    let mut gone = Vec::new();
    let mut next_due = None;
    core.read(|world| {
        let endpoints = ENDPOINTS
            .iter()
            .map(|kind| world.oldest_first(kind).count());
        let endpoints = endpoints.sum::<usize>();
        for delivery in world.deliveries_by_due().take(LOOK_AHEAD) {
            let full = |busy: &&usize| **busy >= CONCURRENT_PER_ENDPOINT;
            // Where nobody has room, thousands that wait need not be looked at.
            if sending.len() >= CONCURRENT
                || per_endpoint.values().filter(full).count() >= endpoints.max(1)
            {
                return;
            }
            if on_the_way.contains_key(&delivery.id) {
                continue;
            }
            if delivery.due_ms > now_ms {
                next_due = Some(delivery.due_ms);
                return;
            }
            let busy = per_endpoint.entry(delivery.endpoint.clone()).or_default();
            if *busy >= CONCURRENT_PER_ENDPOINT {
                continue;
            }
            let event = world.event(&delivery.event);
            let target = event
                .as_ref()
                .and_then(|event| target(world, delivery, event));
            let (Some(target), Some(event)) = (target, event) else {
                gone.push(Settled::GivenUp { id: delivery.id });
                continue;
            };
            *busy += 1;
            on_the_way.insert(delivery.id, delivery.endpoint.clone());
            sending.spawn(attempt(core.http.clone(), delivery.clone(), event, target));
        }
    });
    if !gone.is_empty() {
        log_failure(core.commit(|_| {
            (
                Record {
                    settled: gone,
                    ..Record::default()
                },
                (),
            )
        }));
    }
    next_due
}

async fn attempt(
    http: reqwest::Client,
    delivery: Delivery,
    event: Arc<EventRecord>,
    target: Target,
) -> Finished {
    let span = tracing::info_span!(
        "sim.webhook",
        otel.name = format!("{}.sim webhook {}", event.provider, event.event_type),
        mainstay.role = "sandbox",
        event = %event.id,
        event_type = %event.event_type,
        attempt = delivery.attempts + 1,
        status = tracing::field::Empty,
    );
    if let Some(parent) = &event.traceparent {
        telemetry::set_parent(&span, parent);
    }
    let own = span.in_scope(telemetry::current_traceparent);
    let mut request = http
        .post(&target.url)
        .timeout(target.timeout)
        .body(event.body.to_string());
    // Signed anew for every attempt: receivers refuse a timestamp older than five minutes.
    let now = clock::wall_seconds();
    for (name, value) in target.signer.headers(&target.url, &event.body, now) {
        request = request.header(name, value);
    }
    if let Some(traceparent) = own.as_ref().or(event.traceparent.as_ref()) {
        request = request.header("traceparent", traceparent);
    }
    let outcome = async {
        match request.send().await {
            Ok(response) => read(response).await,
            Err(error) if error.is_connect() => Outcome::Unreachable,
            Err(_) => Outcome::Unanswered,
        }
    };
    let outcome = outcome.instrument(span.clone()).await;
    match &outcome {
        Outcome::Taken { .. } => span.record("status", 200),
        Outcome::Refused(status) => span.record("status", status),
        Outcome::Unreachable | Outcome::Unanswered => &span,
    };
    Finished {
        delivery,
        event,
        patience: target.patience,
        outcome,
    }
}

async fn read(mut response: reqwest::Response) -> Outcome {
    if !response.status().is_success() {
        return Outcome::Refused(response.status().as_u16());
    }
    let content_type = response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let mut body = Vec::new();
    let body = loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_ANSWER => body.extend(chunk),
            Ok(None) => break String::from_utf8(body).ok(),
            Ok(Some(_)) | Err(_) => break None,
        }
    };
    Outcome::Taken { content_type, body }
}

fn settle(core: &Core, finished: &Finished) {
    let Finished {
        delivery,
        event,
        patience,
        outcome,
    } = finished;
    let attempts = delivery.attempts + 1;
    let id = delivery.id;
    log_failure(core.commit(|world| {
        let again = |attempts: u32, delay_ms: i64| Settled::Retry {
            id,
            attempts,
            due_ms: clock::wall_ms() + delay_ms,
        };
        // Registered anew while this attempt was under way: then it is due at once, whatever this attempt says.
        let rearmed = world
            .delivery(id)
            .is_some_and(|d| d.attempts < delivery.attempts);
        let settled = match (outcome, patience) {
            (Outcome::Taken { .. }, _) => Settled::Delivered { id },
            (failure, Patience::AtOnce { retries, after }) => {
                if attempts <= *retries && after.cover(failure) {
                    again(attempts, 0)
                } else {
                    Settled::GivenUp { id }
                }
            }
            (_, Patience::BackOff) if attempts >= MOST_ATTEMPTS => {
                tracing::warn!(event = %delivery.event, attempts, "webhook given up");
                Settled::GivenUp { id }
            }
            (_, Patience::BackOff) if rearmed => again(1, FIRST_DELAY_MS),
            (_, Patience::BackOff) => again(attempts, delay_ms(attempts)),
        };
        let origin = Origin {
            operation: event.operation.clone(),
            traceparent: event.traceparent.clone(),
            ..Origin::default()
        };
        let mut tx = Tx::new(world, world.now(), origin);
        if !matches!(settled, Settled::Retry { .. }) {
            tell(&mut tx, event, outcome);
        }
        let mut record = tx.into_record();
        record.settled = vec![settled];
        (record, ())
    }));
}

/// Doubles from 200 ms to 30 s; the upper half is random, so that a returning receiver is not met by all at once.
fn delay_ms(attempts: u32) -> i64 {
    let full = FIRST_DELAY_MS
        .saturating_mul(1 << attempts.saturating_sub(1).min(20))
        .min(LONGEST_DELAY_MS);
    full / 2 + rand::random_range(0..=full / 2)
}

fn log_failure(committed: std::io::Result<()>) {
    if let Err(error) = committed {
        tracing::error!(%error, "a webhook's outcome could not be journaled; it will be delivered again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_bounded() {
        for attempts in 1..200 {
            let delay = delay_ms(attempts);
            assert!(
                (FIRST_DELAY_MS / 2..=LONGEST_DELAY_MS).contains(&delay),
                "attempt {attempts}: {delay}"
            );
        }
    }
}
