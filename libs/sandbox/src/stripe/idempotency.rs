//! Owns what Stripe says of idempotency keys: their length, the first answer kept (a 500 too), other parameters refused,
//! two at once refused.
//!
//! Deliberately absent: the keeping of them (`crate::idempotency`), and waiting. Stripe answers the second of two
//! simultaneous requests at once, with a 409.

use std::sync::Arc;

use super::errors::{Result, StripeError};
use super::form::Pair;
use crate::core::Core;
use crate::idempotency::{self, Guard};
use crate::store;

/// What presenting a key led to.
pub(crate) enum Claim {
    Mine(Guard),
    Answered(super::Answer),
}

pub(crate) fn claim(core: &Arc<Core>, key: &str, fingerprint: &str) -> Result<Claim> {
    if key.is_empty() || key.chars().count() > 255 {
        return Err(StripeError::key_too_long());
    }
    match idempotency::claim(core, key, fingerprint) {
        idempotency::Claim::Mine(guard) => Ok(Claim::Mine(guard)),
        idempotency::Claim::InFlight => Err(StripeError::key_in_use(key)),
        idempotency::Claim::OtherRequest => Err(StripeError::key_reused(key)),
        idempotency::Claim::Answered(stored) => Ok(Claim::Answered(super::Answer {
            status: stored.status,
            body: stored.body,
            replayed_from: Some(stored.request_id),
        })),
    }
}

pub(crate) fn stored(
    key: &str,
    fingerprint: &str,
    answer: &super::Answer,
    request_id: &str,
    now: i64,
) -> store::Answer {
    store::Answer {
        key: key.to_owned(),
        fingerprint: fingerprint.to_owned(),
        status: answer.status,
        body: Arc::clone(&answer.body),
        request_id: request_id.to_owned(),
        created: now,
    }
}

/// Same request or another? Method, path and parameters, in whatever order they were sent.
pub(crate) fn fingerprint(method: &str, path: &str, pairs: &[Pair]) -> String {
    let mut named: Vec<(String, &str)> = pairs
        .iter()
        .map(|pair| (pair.name(), pair.value.as_str()))
        .collect();
    // Stable: repeated `expand[]` keep their order among themselves.
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let parts = named
        .iter()
        .flat_map(|(name, value)| [name.as_str(), value]);
    idempotency::fingerprint([method, path].into_iter().chain(parts).map(str::as_bytes))
}
