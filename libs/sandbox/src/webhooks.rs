//! Owns the way of an event to its endpoints: which ones get it, the signature, attempts with back-off, and the
//! bound on everything.
//!
//! Deliberately absent: any order. Stripe promises none, so deliveries run side by side and a late one is not waited
//! for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use mainstay_runtime::telemetry;
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::clock;
use crate::core::Core;
use crate::faults::Faults;
use crate::store::{Delivery, EventRecord, Record, Settled, World};
use crate::stripe::kind;

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

/// Adds to a transaction the deliveries that its events cause, with the faults that strike them.
pub(crate) fn plan(world: &World, faults: &Faults, record: &mut Record) {
    if record.events.is_empty() {
        return;
    }
    let endpoints: Vec<(&str, &Value)> = world
        .oldest_first(kind::WEBHOOK_ENDPOINT)
        .map(|e| (e["id"].as_str().unwrap_or_default(), e))
        .collect();
    let now_ms = clock::wall_ms();
    let count = record.events.len();
    let mut next_id = world.next_delivery_id();
    let mut planned = Vec::new();
    for (index, event) in record.events.iter().enumerate() {
        let strike = faults.strike_event("stripe", &event.operation, &event.event_type);
        let due_ms = strike.held_back_ms.map_or(now_ms, |held| {
            let behind = i64::try_from(count - index).unwrap_or(0) * REORDER_STEP_MS;
            now_ms + i64::try_from(held).unwrap_or(0) + behind
        });
        for (endpoint, _) in endpoints
            .iter()
            .filter(|(_, endpoint)| wants(endpoint, &event.event_type))
        {
            for _ in 0..strike.copies {
                let (event, endpoint) = (event.id.clone(), (*endpoint).to_owned());
                planned.push(Delivery {
                    id: next_id,
                    event,
                    endpoint,
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

/// `Stripe-Signature` of a body: HMAC-SHA256 of `t.body` under the endpoint's secret.
fn signature(secret: &str, timestamp: i64, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    format!(
        "t={timestamp},v1={}",
        hex::encode(mac.finalize().into_bytes())
    )
}

/// Delivers until told to stop. What is on its way then is not waited for: it is in the journal, due again at start.
pub(crate) async fn deliver(core: Arc<Core>, mut stopped: watch::Receiver<bool>) {
    let mut sending: JoinSet<(Delivery, bool)> = JoinSet::new();
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
                if let Ok((delivery, delivered)) = finished {
                    on_the_way.remove(&delivery.id);
                    settle(&core, &delivery, delivered);
                }
            }
            () = tokio::time::sleep(pause), if sending.len() < CONCURRENT => {}
        }
    }
}

/// Starts what is due as far as there is room; returns when the next one wants to leave.
fn start_due(
    core: &Arc<Core>,
    sending: &mut JoinSet<(Delivery, bool)>,
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
        for delivery in world.deliveries_by_due().take(LOOK_AHEAD) {
            if sending.len() >= CONCURRENT {
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
            let endpoint = world.get(kind::WEBHOOK_ENDPOINT, &delivery.endpoint);
            let (Some(endpoint), Some(event)) = (endpoint, world.event(&delivery.event)) else {
                gone.push(Settled::GivenUp { id: delivery.id });
                continue;
            };
            *busy += 1;
            on_the_way.insert(delivery.id, delivery.endpoint.clone());
            let url = endpoint["url"].as_str().unwrap_or_default().to_owned();
            let secret = endpoint["_secret"].as_str().unwrap_or_default().to_owned();
            sending.spawn(attempt(
                core.http.clone(),
                delivery.clone(),
                event,
                url,
                secret,
            ));
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
    url: String,
    secret: String,
) -> (Delivery, bool) {
    // Signed anew for every attempt: receivers refuse a timestamp older than five minutes.
    let span = tracing::info_span!(
        "stripe.sim.webhook",
        otel.name = format!("stripe.sim webhook {}", event.event_type),
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
        .post(&url)
        .header("content-type", "application/json; charset=utf-8")
        .header(
            "user-agent",
            "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        )
        .header(
            "stripe-signature",
            signature(&secret, clock::wall_seconds(), &event.body),
        )
        .body(event.body.to_string());
    if let Some(traceparent) = own.as_ref().or(event.traceparent.as_ref()) {
        request = request.header("traceparent", traceparent);
    }
    let outcome = request.send().instrument(span.clone()).await;
    let delivered = matches!(&outcome, Ok(response) if response.status().is_success());
    if let Ok(response) = &outcome {
        span.record("status", response.status().as_u16());
    }
    (delivery, delivered)
}

fn settle(core: &Core, delivery: &Delivery, delivered: bool) {
    let attempts = delivery.attempts + 1;
    let id = delivery.id;
    log_failure(core.commit(|world| {
        // Registered anew while this attempt was under way: then it is due at once, whatever this attempt says.
        let rearmed = world
            .delivery(id)
            .is_some_and(|d| d.attempts < delivery.attempts);
        let settled = if delivered {
            Settled::Delivered { id }
        } else if attempts >= MOST_ATTEMPTS {
            tracing::warn!(event = %delivery.event, attempts, "webhook given up");
            Settled::GivenUp { id }
        } else if rearmed {
            Settled::Retry {
                id,
                attempts: 1,
                due_ms: clock::wall_ms() + FIRST_DELAY_MS,
            }
        } else {
            Settled::Retry {
                id,
                attempts,
                due_ms: clock::wall_ms() + delay_ms(attempts),
            }
        };
        (
            Record {
                settled: vec![settled],
                ..Record::default()
            },
            (),
        )
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
    fn the_signature_is_stripes_over_timestamp_and_body() {
        // From Python: hmac.new(b"whsec_test", b"1700000000.{}", sha256).hexdigest(), as the official library checks it.
        let expected = "35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91";
        assert_eq!(
            signature("whsec_test", 1_700_000_000, "{}"),
            format!("t=1700000000,v1={expected}")
        );
    }

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
