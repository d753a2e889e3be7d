//! Seals agencies' keys anew under the first master key, whenever that is another one than theirs.
//! Deliberately absent: credentials. They stay as they are, since the key that opens them does.

use std::time::Duration;

use mainstay_db::Worker;
use mainstay_jobs::Recurring;
use mainstay_runtime::Clock;

use crate::vault::Vault;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);

/// Runs the job.
#[derive(Debug, Clone)]
pub struct RewrapDataKeys {
    worker: Worker,
    vault: Vault,
    clock: Clock,
}

impl RewrapDataKeys {
    /// Through `worker`.
    pub fn new(worker: Worker, vault: Vault, clock: Clock) -> Self {
        Self {
            worker,
            vault,
            clock,
        }
    }
}

#[tonic::async_trait]
impl Recurring for RewrapDataKeys {
    const KIND: &'static str = "rewrap_data_keys";

    async fn turn(&self) -> Duration {
        match self.vault.rewrap(&self.worker, self.clock.now()).await {
            Ok(0) => {}
            Ok(agencies) => tracing::info!(
                agencies,
                "agencies' keys were sealed anew under the first master key"
            ),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                alert = "data_keys_not_rewrapped",
                "agencies' keys cannot be sealed anew"
            ),
        }
        EVERY
    }
}
