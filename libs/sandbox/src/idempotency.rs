//! Owns idempotency keys: one execution at a time, the first answer kept for a day by the simulators' clock.
//!
//! ```text
//! new ── claim ──▶ in flight ── executed ──▶ answered (24 h)
//!                     │ another claim: refused  │ same request: replay · others: refused
//!                     └── nothing to keep: new again
//! ```
//!
//! Deliberately absent: waiting, and what a refusal looks like. Both are the provider's.

use std::sync::{Arc, PoisonError};

use sha2::{Digest, Sha256};

use crate::core::Core;
use crate::door::{Key, Reply};
use crate::store;

/// What presenting a key led to.
pub(crate) enum Claim {
    Mine(Guard),
    InFlight,
    OtherRequest,
    Answered(store::Answer),
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

pub(crate) fn claim(core: &Arc<Core>, key: &str, fingerprint: &str) -> Claim {
    // In flight first, stored second: the other order would let a key slip through between commit and release.
    let fresh = core
        .keys_in_flight
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key.to_owned());
    if !fresh {
        return Claim::InFlight;
    }
    let guard = Guard {
        core: Arc::clone(core),
        key: key.to_owned(),
    };
    core.read(|world| match world.answer(key) {
        None => Claim::Mine(guard),
        Some(stored) if stored.fingerprint != fingerprint => Claim::OtherRequest,
        Some(stored) => Claim::Answered(stored.clone()),
    })
}

/// An answer to be kept under its key.
pub(crate) fn stored(key: Key, reply: &Reply, now: i64) -> store::Answer {
    store::Answer {
        key: key.key,
        fingerprint: key.fingerprint,
        status: reply.status,
        body: Arc::clone(&reply.body),
        request_id: String::new(),
        created: now,
    }
}

/// One text for parts that must not run into each other.
pub(crate) fn fingerprint<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}
