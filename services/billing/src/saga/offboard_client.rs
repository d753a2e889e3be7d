//! BIL-14: a client leaves, now or with its paid period.
//!
//! ```text
//! do    hold_client → announce_end → await_end → END AT STRIPE (pivot) → follow_stripe → put_entitlements → apply_limits
//! undo  withdraw      take it back
//!
//! do    → close_messaging → park_senders → cancel_client → tell
//! ```
//! Until the period has ended it can be withdrawn, by reactivating the subscription. From Stripe on it is for ever, and each
//! part is one write that may be done twice; a client without a subscription begins there.
//! Deliberately absent: giving money back. What was paid for the running period stays paid; a refund is asked for by name.

use std::time::Duration;

use mainstay_db::{TenantTx, Worker};
use mainstay_rpc::ErrorReason;
use mainstay_types::SubscriptionId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::change_subscription::{self, Change, Read};
use super::definition::{Call, Definition, Failure, Probed, Refusal, Step, Stop, Wait};
use super::standing::{ApplyLimits, PutEntitlements};
use crate::history::{self, By, OffboardingChange};
use crate::identity::Identity;
use crate::integrations::Integrations;
use crate::messaging::Messaging;
use crate::offboarding::{Offboarding, sql as offboardings};
use crate::stripe::{StripeGateway, stop};
use crate::subscription::sql;

/// Its name in the log.
pub const NAME: &str = "offboard_client";

/// How long it waits for the end of a period before it looks by itself.
const LOOKS_EVERY: Duration = Duration::from_secs(3_600);

/// When a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// Now.
    Now,
    /// With the period that was paid for.
    PeriodEnd,
}

/// What it is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OffboardClient {
    /// The live subscription, if there is one.
    pub subscription: Option<SubscriptionId>,
    /// `sub_…`.
    pub stripe_subscription: Option<String>,
    /// When.
    pub leaving: Leaving,
    /// By whom.
    pub by: By,
}

impl OffboardClient {
    /// The subscription, here and at Stripe.
    fn bought(&self) -> Option<(SubscriptionId, &str)> {
        self.subscription.zip(self.stripe_subscription.as_deref())
    }

    /// The subscription at Stripe that is to end with its period.
    fn ends_with_period(&self) -> Option<&str> {
        let bought = self.bought()?;
        (self.leaving == Leaving::PeriodEnd).then_some(bought.1)
    }
}

/// The saga.
pub fn definition(
    stripe: &StripeGateway,
    identity: &Identity,
    messaging: &Messaging,
    integrations: &Integrations,
    worker: &Worker,
) -> Definition {
    let stripe = || stripe.clone();
    let worker = || worker.clone();
    Definition {
        name: NAME,
        version: 1,
        steps: vec![
            Box::new(HoldClient),
            Box::new(AnnounceEnd { stripe: stripe() }),
            Box::new(AwaitEnd {
                stripe: stripe(),
                worker: worker(),
            }),
            Box::new(EndAtStripe { stripe: stripe() }),
            Box::new(FollowStripe {
                stripe: stripe(),
                worker: worker(),
            }),
            Box::new(PutEntitlements::of_a_change(identity, &worker())),
            Box::new(ApplyLimits::of_a_change(messaging, &worker())),
            Box::new(CloseMessaging {
                messaging: messaging.clone(),
            }),
            Box::new(ParkSenders {
                integrations: integrations.clone(),
            }),
            Box::new(CancelClient {
                identity: identity.clone(),
            }),
            Box::new(Tell),
        ],
        pivot: 3,
        // What an operator abandons is an off-boarding half done; a new one goes on with it.
        followed_by: None,
    }
}

/// The client's off-boarding, when it is this saga's, under the lock of the account.
async fn ours(tx: &mut TenantTx, call: &Call<'_>) -> Result<Offboarding, Stop> {
    sql::lock_account(tx.conn(), call.tenant).await?;
    let found = offboardings::get(tx.conn(), call.tenant).await?;
    let found = found.filter(|one| one.saga == call.saga);
    Ok(found.ok_or_else(|| Failure::new("the saga's off-boarding is not there"))?)
}

async fn write(
    tx: &mut TenantTx,
    call: &Call<'_>,
    what: OffboardingChange,
    before: &Offboarding,
    after: Offboarding,
) -> Result<(), Stop> {
    let input: OffboardClient = call.input()?;
    let after = Offboarding {
        revision: before.revision + 1,
        ..after
    };
    offboardings::store(tx.conn(), call.tenant, &after, call.now).await?;
    let by = input.by.at(call.now);
    history::offboarding_changed(tx.conn(), &by, call.tenant, what, Some(before), &after).await?;
    Ok(())
}

/// The client was taken hold of in the transaction that started the saga; what is left to this step is withdrawing.
struct HoldClient;

#[tonic::async_trait]
impl Step for HoldClient {
    fn name(&self) -> &'static str {
        "hold_client"
    }

    fn may_refuse(&self) -> bool {
        false
    }

    fn undoable(&self) -> bool {
        true
    }

    fn records_undo(&self) -> bool {
        true
    }

    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let before = ours(tx, call).await?;
        let why = call
            .refusal
            .map_or("It was undone.", |refusal| &refusal.detail);
        let after = Offboarding {
            withdrawn_at: Some(call.now),
            withdrawn_for: Some(why.to_owned()),
            ..before.clone()
        };
        write(tx, call, OffboardingChange::Withdrawn, &before, after).await
    }
}

/// The subscription is to end with its period.
struct AnnounceEnd {
    stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for AnnounceEnd {
    fn name(&self) -> &'static str {
        "announce_end"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: OffboardClient = call.input()?;
        if let Some(id) = input.ends_with_period() {
            Change::CancelAtPeriodEnd
                .make(&self.stripe, id, &call.key())
                .await?;
        }
        Ok(Value::Null)
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let input: OffboardClient = call.input()?;
        match input.ends_with_period() {
            None => Ok(Probed::Done(Value::Null)),
            Some(id) => Change::CancelAtPeriodEnd.probe(&self.stripe, id).await,
        }
    }

    fn undoable(&self) -> bool {
        true
    }

    async fn undo(&self, call: &Call<'_>) -> Result<(), Stop> {
        let input: OffboardClient = call.input()?;
        let Some(id) = input.ends_with_period() else {
            return Ok(());
        };
        let stands = self.stripe.subscription(id).await.map_err(stop)?;
        if !stands.is_live() {
            return Ok(());
        }
        Change::Reactivate
            .make(&self.stripe, id, &call.undo_key("stay"))
            .await
    }
}

/// The end of the period, unless it is to be now after all, or the subscription is to go on.
struct AwaitEnd {
    stripe: StripeGateway,
    worker: Worker,
}

#[tonic::async_trait]
impl Step for AwaitEnd {
    fn name(&self) -> &'static str {
        "await_end"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: OffboardClient = call.input()?;
        let Some(id) = input.ends_with_period() else {
            return Ok(Value::Null);
        };
        let hurried = {
            let mut tx = self.worker.tenant(call.tenant).await?;
            let found = offboardings::get(tx.conn(), call.tenant).await?;
            found.is_some_and(|one| one.saga == call.saga && one.hurried)
        };
        if hurried {
            return Ok(Value::Null);
        }
        let stands = self.stripe.subscription(id).await.map_err(stop)?;
        if !stands.is_live() {
            return Ok(Value::Null);
        }
        let reading = stands.reading();
        if !reading.cancel_at_period_end {
            return Err(Refusal::new(
                ErrorReason::Conflict,
                "The subscription was reactivated: the client stays.",
            )
            .into());
        }
        let left = reading.period_end.map(|end| end - call.now);
        let left = left.and_then(|left| left.to_std().ok());
        let pause = left
            .unwrap_or(LOOKS_EVERY)
            .clamp(Duration::from_secs(1), LOOKS_EVERY);
        Err(Wait::new("the end of the paid period", pause).into())
    }
}

/// From here on it is for ever.
struct EndAtStripe {
    stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for EndAtStripe {
    fn name(&self) -> &'static str {
        "end_at_stripe"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: OffboardClient = call.input()?;
        if let Some((_, id)) = input.bought() {
            Change::CancelNow
                .make(&self.stripe, id, &call.key())
                .await?;
        }
        Ok(Value::Null)
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let input: OffboardClient = call.input()?;
        match input.bought() {
            None => Ok(Probed::Done(Value::Null)),
            Some((_, id)) => Change::CancelNow.probe(&self.stripe, id).await,
        }
    }
}

/// Our row follows Stripe's object.
struct FollowStripe {
    stripe: StripeGateway,
    worker: Worker,
}

#[tonic::async_trait]
impl Step for FollowStripe {
    fn name(&self) -> &'static str {
        "follow_stripe"
    }

    fn may_refuse(&self) -> bool {
        false
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: OffboardClient = call.input()?;
        let Some((subscription, id)) = input.bought() else {
            return Ok(Value::Null);
        };
        let read = Read::of(&self.stripe, &self.worker, call, subscription, id).await?;
        Ok(json!(read))
    }

    fn records(&self) -> bool {
        true
    }

    async fn record(
        &self,
        tx: &mut TenantTx,
        call: &Call<'_>,
        output: Value,
    ) -> Result<Value, Stop> {
        let input: OffboardClient = call.input()?;
        if let Some(subscription) = input.subscription {
            change_subscription::follow(tx, call, subscription, &input.by, &output).await?;
        }
        Ok(output)
    }
}

/// Nothing leaves for it any more, and nothing starts.
struct CloseMessaging {
    messaging: Messaging,
}

#[tonic::async_trait]
impl Step for CloseMessaging {
    fn name(&self) -> &'static str {
        "close_messaging"
    }

    fn may_refuse(&self) -> bool {
        false
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        self.messaging.close(call).await?;
        Ok(Value::Null)
    }
}

/// What people knew it by reaches nobody else for a while.
struct ParkSenders {
    integrations: Integrations,
}

#[tonic::async_trait]
impl Step for ParkSenders {
    fn name(&self) -> &'static str {
        "park_senders"
    }

    fn may_refuse(&self) -> bool {
        false
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let parked = self.integrations.park(call).await?;
        Ok(json!({ "parked": parked }))
    }
}

/// It is canceled, and its keys and its members' sessions end.
struct CancelClient {
    identity: Identity,
}

#[tonic::async_trait]
impl Step for CancelClient {
    fn name(&self) -> &'static str {
        "cancel_client"
    }

    fn may_refuse(&self) -> bool {
        false
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        self.identity.cancel(call).await?;
        Ok(Value::Null)
    }
}

/// Last of all: it has left.
struct Tell;

#[tonic::async_trait]
impl Step for Tell {
    fn name(&self) -> &'static str {
        "tell"
    }

    fn may_refuse(&self) -> bool {
        false
    }

    fn records(&self) -> bool {
        true
    }

    async fn record(&self, tx: &mut TenantTx, call: &Call<'_>, _: Value) -> Result<Value, Stop> {
        let before = ours(tx, call).await?;
        let after = Offboarding {
            completed_at: Some(call.now),
            ..before.clone()
        };
        write(tx, call, OffboardingChange::Completed, &before, after).await?;
        Ok(Value::Null)
    }
}
