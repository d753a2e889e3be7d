//! Webhooks in: verify the raw bytes, store once through integrations, answer after the commit.
//! Deliberately absent: what a webhook means; the service that owns its meaning is told by integrations.

mod intake;
mod secrets;
pub mod stripe;

use mainstay_rpc::Channels;

pub use intake::Intake;
pub use secrets::Secrets;

/// What webhooks of all providers share.
pub struct Webhooks {
    /// Verification secrets.
    pub secrets: Secrets,
    /// The way into the store.
    pub intake: Intake,
}

impl Webhooks {
    /// Must run inside a tokio runtime: the intake has a task.
    pub fn new(channels: Channels) -> Self {
        Self {
            secrets: Secrets::new(channels.clone()),
            intake: Intake::start(channels),
        }
    }
}
