//! What of a role works, as it knows itself: the source of `/readyz`, `/v1/health` and the gRPC health service.
//!
//! Deliberately absent: a timer. Components set their own state when they learn it; what can only be asked ([`Probe`])
//! is asked when somebody wants to know.

mod finding;
mod probe;
mod window;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::watch;

pub use finding::{
    Alert, Cache, Database, Finding, Pool, Provider, Queue, Severity, alerts_of, late_probe,
};
pub use probe::{PROBE_TIME, Probe, Probing};
pub use window::{HitRate, Summary, Window};

/// How a component stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Works.
    Healthy,
    /// Works with less than it should have; traffic may come.
    Degraded,
    /// Not there yet; no traffic.
    Starting,
    /// Does not work; no traffic.
    Unhealthy,
    /// Finishing what it has; no new traffic.
    Draining,
}

/// One component's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Component {
    /// How it stands.
    pub status: Status,
    /// Why, in words for the operator; never secrets or personal data.
    pub detail: String,
}

/// The health of one role. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: watch::Sender<Snapshot>,
    probes: RwLock<Vec<Arc<dyn Probe>>>,
    since: Instant,
}

/// The components of a role at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The components by name.
    pub components: BTreeMap<&'static str, Component>,
    /// Whether the role is stopping.
    pub draining: bool,
}

impl Snapshot {
    /// Whether traffic may come: something has reported, nothing is missing, and the role is not stopping.
    pub fn ready(&self) -> bool {
        !self.draining
            && !self.components.is_empty()
            && self
                .components
                .values()
                .all(|c| matches!(c.status, Status::Healthy | Status::Degraded))
    }

    /// The worst of the components; draining is worse than all.
    pub fn worst(&self) -> Status {
        if self.draining {
            return Status::Draining;
        }
        self.components
            .values()
            .map(|c| c.status)
            .max()
            .unwrap_or(Status::Starting)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Nothing reported yet: not ready.
    pub fn new() -> Self {
        Health(Arc::new(Inner {
            state: watch::Sender::new(Snapshot::default()),
            probes: RwLock::default(),
            since: Instant::now(),
        }))
    }

    /// Sets a component's state.
    pub fn set(&self, component: &'static str, status: Status, detail: impl Into<String>) {
        let next = Component {
            status,
            detail: detail.into(),
        };
        self.0.state.send_if_modified(|snapshot| {
            let changed = snapshot.components.get(component) != Some(&next);
            if changed {
                snapshot.components.insert(component, next);
            }
            changed
        });
    }

    /// The role stops: not ready from now on, whatever its components say.
    pub fn drain(&self) {
        self.0
            .state
            .send_if_modified(|snapshot| !std::mem::replace(&mut snapshot.draining, true));
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.state.borrow().clone()
    }

    /// How long ago this was made, which is when the role started.
    pub fn since(&self) -> Instant {
        self.0.since
    }

    /// Adds something to ask when somebody wants to know more than [`snapshot`](Self::snapshot) tells.
    pub fn probe(&self, probe: impl Probe) {
        self.0
            .probes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::new(probe));
    }

    /// Asks all probes at once, each for [`PROBE_TIME`] at most.
    pub async fn findings(&self) -> Vec<Finding> {
        let probes = self
            .0
            .probes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        probe::ask(probes, PROBE_TIME).await
    }

    /// Whether traffic may come.
    pub fn ready(&self) -> bool {
        self.0.state.borrow().ready()
    }

    /// Sees every change; the latest state is always there to read.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.0.state.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_ready_when_all_its_parts_are_and_never_while_it_drains() {
        let health = Health::new();
        assert!(!health.ready(), "nothing has reported");
        health.set("database", Status::Starting, "connecting");
        assert!(!health.ready());
        health.set("database", Status::Healthy, "");
        health.set("stripe", Status::Degraded, "circuit open");
        assert!(health.ready());
        assert_eq!(health.snapshot().worst(), Status::Degraded);
        health.drain();
        assert!(!health.ready());
        assert_eq!(health.snapshot().worst(), Status::Draining);
    }
}
