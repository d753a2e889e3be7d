//! The grace of a subscription that is past due ends in its time (BIL-17, BIL-25): a timer that survives anything, then
//! the others are told what still stands.
//!
//! ```text
//! do    AWAIT END (pivot) → put_entitlements → apply_limits        nothing to undo
//! ```
//! Deliberately absent: ending the subscription. Whether it is unpaid or canceled is Stripe's to say.

use chrono::{DateTime, Utc};
use mainstay_db::{TenantTx, Worker};
use mainstay_types::SubscriptionId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::{Call, Definition, Step, Stop, Wait};
use super::standing::{ApplyLimits, PutEntitlements};
use crate::identity::Identity;
use crate::messaging::Messaging;
use crate::subscription::{Subscription, sql};

/// Its name in the log.
pub const NAME: &str = "end_grace";

/// What it is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndGrace {
    /// The subscription that is past due.
    pub subscription: SubscriptionId,
    /// When its grace ends.
    pub ends_at: DateTime<Utc>,
}

/// The saga.
pub fn definition(identity: &Identity, messaging: &Messaging, worker: &Worker) -> Definition {
    Definition {
        name: NAME,
        version: 1,
        steps: vec![
            Box::new(AwaitEnd {
                worker: worker.clone(),
            }),
            Box::new(PutEntitlements::of_a_change(identity, worker)),
            Box::new(ApplyLimits::of_a_change(messaging, worker)),
        ],
        pivot: 0,
        followed_by: None,
    }
}

struct AwaitEnd {
    worker: Worker,
}

impl AwaitEnd {
    /// The subscription, while this grace is still the one that runs.
    fn in_this_grace(input: &EndGrace, found: Option<Subscription>) -> Option<Subscription> {
        found.filter(|subscription| subscription.grace_ends_at == Some(input.ends_at))
    }
}

#[tonic::async_trait]
impl Step for AwaitEnd {
    fn name(&self) -> &'static str {
        "await_end"
    }

    fn may_refuse(&self) -> bool {
        false
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: EndGrace = call.input()?;
        let mut tx = self.worker.tenant(call.tenant).await?;
        let found = sql::get(tx.conn(), call.tenant, input.subscription).await?;
        let left = input.ends_at - call.now;
        match (Self::in_this_grace(&input, found), left.to_std()) {
            (Some(_), Ok(left)) if !left.is_zero() => {
                Err(Wait::new(format!("the end of the grace, {}", input.ends_at), left).into())
            }
            // It is over, or was paid or ended before.
            _ => Ok(Value::Null),
        }
    }

    fn records(&self) -> bool {
        true
    }

    /// A new version of what the client may use: what was told with the last one stands no more.
    async fn record(
        &self,
        tx: &mut TenantTx,
        call: &Call<'_>,
        output: Value,
    ) -> Result<Value, Stop> {
        let input: EndGrace = call.input()?;
        sql::lock_account(tx.conn(), call.tenant).await?;
        let found = sql::get(tx.conn(), call.tenant, input.subscription).await?;
        if let Some(subscription) = Self::in_this_grace(&input, found) {
            sql::apply(tx.conn(), call.tenant, &subscription, true, call.now).await?;
        }
        Ok(output)
    }
}
