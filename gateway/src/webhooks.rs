//! Webhooks in: verify the raw bytes, store once through integrations, answer after the commit.
//! Deliberately absent: what a webhook means; the service that owns its meaning is told by integrations.

mod intake;
mod secrets;
pub mod stripe;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mainstay_rpc::Channels;

pub use intake::Intake;
pub use secrets::Secrets;

/// What webhooks of all providers share.
pub struct Webhooks {
    /// Verification secrets.
    pub secrets: Secrets,
    /// The way into the store.
    pub intake: Intake,
    refused: Refused,
}

impl Webhooks {
    /// Must run inside a tokio runtime: the intake has a task.
    pub fn new(channels: Channels) -> Self {
        Self {
            secrets: Secrets::new(channels.clone()),
            intake: Intake::start(channels),
            refused: Refused::default(),
        }
    }

    /// Notes a webhook that did not verify.
    pub fn note_refused(&self, provider: &str) {
        self.refused.note(provider);
    }
}

/// Webhooks that did not verify. Every one is counted, and once a second at most the count is logged: a wrong
/// secret must be seen, and a flood of forgeries must not become a flood of lines.
struct Refused {
    since: Instant,
    /// The second of the last line, counted from 1.
    told_at: AtomicU64,
    untold: AtomicU64,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            told_at: AtomicU64::new(0),
            untold: AtomicU64::new(0),
        }
    }
}

impl Refused {
    fn note(&self, provider: &str) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        let now = self.since.elapsed().as_secs() + 1;
        if self.told_at.swap(now, Ordering::Relaxed) < now {
            let refused = self.untold.swap(0, Ordering::Relaxed);
            tracing::warn!(provider, refused, "webhooks did not verify");
        }
    }
}
