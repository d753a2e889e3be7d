//! Rate limits per credential and per address. Deliberately absent: limits shared between replicas; each
//! replica counts alone, so a deployment's limit is that number times its gateways.

use std::{hash::Hash, net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::DashMapStateStore,
};
use mainstay_proto::{errors::v1::ErrorReason, options::v1::RateClass};

use crate::{config::Rates, refusal::Refusal, source};

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock>;

/// All limits.
#[derive(Debug)]
pub struct RateLimits {
    reads: Limiter<String>,
    writes: Limiter<String>,
    anonymous: Limiter<IpAddr>,
    addresses: Limiter<IpAddr>,
    webhooks: Limiter<IpAddr>,
    clock: DefaultClock,
}

impl RateLimits {
    /// Limits of so many requests a second each, a second's worth at once.
    pub fn new(rates: Rates) -> Self {
        let quota = |per_second: u32| {
            Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN))
        };
        Self {
            reads: RateLimiter::dashmap(quota(rates.of(RateClass::Read))),
            writes: RateLimiter::dashmap(quota(rates.of(RateClass::Write))),
            anonymous: RateLimiter::dashmap(quota(rates.of(RateClass::Auth))),
            addresses: RateLimiter::dashmap(quota(rates.address)),
            webhooks: RateLimiter::dashmap(quota(rates.webhook)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request of any kind from an address.
    pub fn address(&self, address: IpAddr) -> Result<(), Refusal> {
        self.count(&self.addresses, &source::bucket(address), "this address")
    }

    /// Counts a webhook of a source, whether or not it will verify.
    pub fn webhook(&self, address: IpAddr) -> Result<(), Refusal> {
        self.count(&self.webhooks, &source::bucket(address), "this source")
    }

    /// Counts an anonymous call, or a credential that was refused.
    pub fn anonymous(&self, address: IpAddr) -> Result<(), Refusal> {
        self.count(&self.anonymous, &source::bucket(address), "this address")
    }

    /// Counts a call of a credential.
    pub fn principal(&self, class: RateClass, principal: &str) -> Result<(), Refusal> {
        let limiter = match class {
            RateClass::Read => &self.reads,
            _ => &self.writes,
        };
        self.count(limiter, &principal.to_owned(), "this credential")
    }

    /// Forgets callers that have been quiet: what bounds the memory. Called every second.
    pub fn forget_quiet(&self) {
        self.reads.retain_recent();
        self.writes.retain_recent();
        self.anonymous.retain_recent();
        self.addresses.retain_recent();
        self.webhooks.retain_recent();
    }

    fn count<K: Hash + Eq + Clone>(
        &self,
        limiter: &Limiter<K>,
        key: &K,
        whose: &str,
    ) -> Result<(), Refusal> {
        limiter.check_key(key).map_err(|early| {
            let wait = early.wait_time_from(self.clock.now());
            let seconds = wait
                .checked_add(Duration::from_millis(999))
                .unwrap_or(wait)
                .as_secs();
            Refusal {
                retry_after_seconds: Some(i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)),
                ..Refusal::new(
                    ErrorReason::RateLimited,
                    format!("The rate limit of {whose} is used up."),
                )
            }
        })
    }
}
