//! Tokens that verified already: an Ed25519 check costs more than all else in the stack, and callers repeat tokens.
//!
//! Deliberately absent: refusals. A token that did not verify is checked again, so that nobody can fill the cache
//! without a key of ours.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use mainstay_runtime::health::HitRate;
use sha2::{Digest, Sha256};

use super::wall;

type Digest256 = [u8; 32];

/// What tokens said, by the digest of the token, until they end. Bounded.
#[derive(Debug)]
pub(crate) struct Verified<T> {
    entries: RwLock<HashMap<Digest256, (Arc<T>, i64)>>,
    most: usize,
    rate: HitRate,
}

impl<T> Verified<T> {
    /// Room for so many; how often it could answer is counted in `rate`.
    pub(crate) fn new(most: usize, rate: HitRate) -> Self {
        Verified {
            entries: RwLock::default(),
            most,
            rate,
        }
    }

    /// What the token says: from the cache, else by `verify`, which also tells when the token ends.
    pub(crate) fn get<E>(
        &self,
        token: &str,
        verify: impl FnOnce() -> Result<(T, i64), E>,
    ) -> Result<Arc<T>, E> {
        let digest: Digest256 = Sha256::digest(token.as_bytes()).into();
        let now = wall();
        let known = self
            .entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
            .cloned();
        let known = known.filter(|(_, ends)| *ends > now);
        self.rate.count(known.is_some());
        if let Some((said, _)) = known {
            return Ok(said);
        }
        let (said, ends) = verify()?;
        let said = Arc::new(said);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.most {
            entries.retain(|_, (_, ends)| *ends > now);
        }
        if entries.len() >= self.most {
            // All alive: begin anew. Each costs one more check, nothing worse.
            entries.clear();
        }
        entries.insert(digest, (Arc::clone(&said), ends));
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_checked_once_and_again_when_it_has_ended() {
        let cache = Verified::new(2, HitRate::default());
        let mut checks = 0;
        let mut look = |token: &str, life: i64| {
            *cache
                .get(token, || {
                    checks += 1;
                    Ok::<_, ()>((checks, wall() + life))
                })
                .expect("verifies")
        };
        assert_eq!((look("a", 60), look("a", 60)), (1, 1));
        assert_eq!((look("ended", 0), look("ended", 0)), (2, 3));
        for token in ["b", "c", "d", "e"] {
            look(token, 60);
        }
        assert!(cache.entries.read().expect("no panic").len() <= 2);
    }
}
