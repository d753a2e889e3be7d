//! Owns idempotency keys as Stripe treats them: one execution at a time, the first answer kept (a 500 too), other
//! parameters refused.
//!
//! ```text
//! new ── claim ──▶ in flight ── executed ──▶ answered (24 h by the simulators' clock)
//!                     │ another claim: 409      │ same parameters: replay · others: 400
//!                     └── validation failed, or 401/429: new again
//! ```
//!
//! Deliberately absent: waiting. Stripe answers the second of two simultaneous requests at once, with a 409.

use std::sync::{Arc, PoisonError};

use sha2::{Digest, Sha256};

use super::errors::{Result, StripeError};
use super::form::Pair;
use crate::core::Core;
use crate::store;

/// What presenting a key led to.
pub(crate) enum Claim {
    Mine(Guard),
    Answered(super::Answer),
}

/// Frees the key when execution is over, however it ended.
pub(crate) struct Guard {
    core: Arc<Core>,
    key: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.core
            .keys_in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

pub(crate) fn claim(core: &Arc<Core>, key: &str, fingerprint: &str) -> Result<Claim> {
    if key.is_empty() || key.chars().count() > 255 {
        return Err(StripeError::key_too_long());
    }
    // In flight first, stored second: the other order would let a key slip through between commit and release.
    let fresh = core
        .keys_in_flight
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key.to_owned());
    if !fresh {
        return Err(StripeError::key_in_use(key));
    }
    let guard = Guard {
        core: Arc::clone(core),
        key: key.to_owned(),
    };
    core.read(|world| match world.answer(key) {
        None => Ok(Claim::Mine(guard)),
        Some(stored) if stored.fingerprint != fingerprint => Err(StripeError::key_reused(key)),
        Some(stored) => Ok(Claim::Answered(super::Answer {
            status: stored.status,
            body: Arc::clone(&stored.body),
            replayed_from: Some(stored.request_id.clone()),
        })),
    })
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
    let mut hash = Sha256::new();
    for part in [method, path].into_iter().chain(
        named
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value]),
    ) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}
