//! Tells identity and messaging what a client may use, after Stripe said something that changes it.
//!
//! ```text
//! do    put_entitlements → apply_limits        nothing to undo: both keep the highest version, whoever brings it
//! ```
//! Deliberately absent: a refusal. What follows a sale is applied, whatever stands in the way of a new one.

use mainstay_db::Worker;
use mainstay_types::SubscriptionId;
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::standing::{ApplyLimits, PutEntitlements};
use crate::identity::Identity;
use crate::messaging::Messaging;

/// Its name in the log.
pub const NAME: &str = "sync_entitlements";

/// What it is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncEntitlements {
    /// The subscription that changed.
    pub subscription: SubscriptionId,
}

/// The saga.
pub fn definition(identity: &Identity, messaging: &Messaging, worker: &Worker) -> Definition {
    Definition {
        name: NAME,
        version: 2,
        steps: vec![
            Box::new(PutEntitlements::of_a_change(identity, worker)),
            Box::new(ApplyLimits::of_a_change(messaging, worker)),
        ],
        pivot: 0,
        followed_by: None,
    }
}
