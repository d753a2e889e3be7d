//! BIL-12: what a client asks of its running subscription: cancel now or with the period, pause, resume, go on after all.
//! Four names and one order of steps.
//!
//! ```text
//! do    hold_subscription → CHANGE AT STRIPE (pivot) → follow_stripe → put_entitlements → apply_limits
//! undo  let it go
//! ```
//! Deliberately absent: giving money back. What was paid for the running period stays paid; a refund is asked for by name.

use chrono::{DateTime, Utc};
use mainstay_db::{TenantTx, Worker};
use mainstay_providers::stripe::StripeFailure;
use mainstay_types::{SagaId, SubscriptionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::definition::{Call, Definition, Failure, Probed, Step, Stop};
use super::standing::{ApplyLimits, PutEntitlements};
use super::sync_entitlements;
use crate::history::{self, By, SubscriptionChange};
use crate::identity::Identity;
use crate::messaging::Messaging;
use crate::stripe::{StripeGateway, object, stop};
use crate::subscription::{Status, Subscription, rules, sql};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// End now.
    CancelNow,
    /// End with the period.
    CancelAtPeriodEnd,
    /// Stop collecting and serving.
    Pause {
        /// Until then; none: until it is resumed.
        resumes_at: Option<DateTime<Utc>>,
    },
    /// Collect and serve again.
    Resume,
    /// Do not end with the period after all.
    Reactivate,
}

/// The names of the sagas, in the log.
pub const NAMES: [&str; 4] = [
    "cancel_subscription",
    "pause_subscription",
    "resume_subscription",
    "reactivate_subscription",
];

impl Change {
    /// The saga that carries it out.
    pub const fn saga(self) -> &'static str {
        match self {
            Change::CancelNow | Change::CancelAtPeriodEnd => NAMES[0],
            Change::Pause { .. } => NAMES[1],
            Change::Resume => NAMES[2],
            Change::Reactivate => NAMES[3],
        }
    }

    /// Whether Stripe's object is as it would be after the change.
    fn stands(self, at_stripe: &object::Subscription) -> bool {
        let reading = at_stripe.reading();
        match self {
            Change::CancelNow => !at_stripe.is_live(),
            // What has ended has ended with its period, too.
            Change::CancelAtPeriodEnd => reading.cancel_at_period_end || !at_stripe.is_live(),
            Change::Pause { resumes_at } => {
                reading.paused
                    && reading.resumes_at.map(|at| at.timestamp())
                        == resumes_at.map(|at| at.timestamp())
            }
            Change::Resume => !reading.paused,
            Change::Reactivate => !reading.cancel_at_period_end,
        }
    }

    /// Looks whether it stands.
    pub(super) async fn probe(self, stripe: &StripeGateway, id: &str) -> Result<Probed, Stop> {
        let read = stripe.subscription(id).await.map_err(stop)?;
        Ok(match self.stands(&read) {
            true => Probed::Done(Value::Null),
            false => Probed::NotDone,
        })
    }

    /// Makes it at Stripe, under this key, unless it stands.
    pub(super) async fn make(
        self,
        stripe: &StripeGateway,
        id: &str,
        key: &str,
    ) -> Result<(), Stop> {
        let stands = async || Ok::<_, Stop>(self.probe(stripe, id).await? != Probed::NotDone);
        if stands().await? {
            return Ok(());
        }
        let changed = match self {
            Change::CancelNow => stripe.cancel_subscription(id).await,
            Change::CancelAtPeriodEnd => stripe.set_cancel_at_period_end(id, true, key).await,
            Change::Pause { resumes_at } => stripe.pause_collection(id, resumes_at, key).await,
            Change::Resume => stripe.resume_collection(id, key).await,
            Change::Reactivate => stripe.set_cancel_at_period_end(id, false, key).await,
        };
        match changed {
            Ok(_) => Ok(()),
            // Somebody was faster, perhaps an earlier try of ours: what was wanted stands.
            Err(failure @ StripeFailure::Refused { .. }) => match stands().await? {
                true => Ok(()),
                false => Err(stop(failure)),
            },
            Err(failure) => Err(stop(failure)),
        }
    }
}

/// What a change is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangeSubscription {
    /// Which.
    pub subscription: SubscriptionId,
    /// At Stripe.
    pub stripe_subscription: String,
    /// What is asked for.
    pub change: Change,
    /// By whom.
    pub by: By,
}

/// The sagas.
pub fn definitions(
    stripe: &StripeGateway,
    identity: &Identity,
    messaging: &Messaging,
    worker: &Worker,
) -> Vec<Definition> {
    let definition = |name| Definition {
        name,
        version: 1,
        steps: vec![
            Box::new(HoldSubscription),
            Box::new(ChangeAtStripe {
                stripe: stripe.clone(),
            }),
            Box::new(FollowStripe {
                stripe: stripe.clone(),
                worker: worker.clone(),
            }),
            Box::new(PutEntitlements::of_a_change(identity, worker)),
            Box::new(ApplyLimits::of_a_change(messaging, worker)),
        ],
        pivot: 1,
        followed_by: Some(sync_entitlements::NAME),
    };
    NAMES.map(definition).into()
}

/// It was taken hold of in the transaction that started the saga; what is left to this step is letting go.
struct HoldSubscription;

#[tonic::async_trait]
impl Step for HoldSubscription {
    fn name(&self) -> &'static str {
        "hold_subscription"
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
        let input: ChangeSubscription = call.input()?;
        sql::lock_account(tx.conn(), call.tenant).await?;
        sql::let_go(tx.conn(), call.tenant, input.subscription, call.saga).await?;
        Ok(())
    }
}

/// One change there, under one key; whether it stands is read before and after.
struct ChangeAtStripe {
    stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for ChangeAtStripe {
    fn name(&self) -> &'static str {
        "change_at_stripe"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: ChangeSubscription = call.input()?;
        let id = &input.stripe_subscription;
        input.change.make(&self.stripe, id, &call.key()).await?;
        Ok(Value::Null)
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let input: ChangeSubscription = call.input()?;
        let id = &input.stripe_subscription;
        input.change.probe(&self.stripe, id).await
    }
}

/// Our row follows Stripe's object, and is let go.
struct FollowStripe {
    stripe: StripeGateway,
    worker: Worker,
}

/// Stripe's object, with the count of the readings that were applied before it was read.
#[derive(Serialize, Deserialize)]
pub(super) struct Read {
    reading: object::Reading,
    revision: i64,
}

impl Read {
    /// Reads it.
    pub(super) async fn of(
        stripe: &StripeGateway,
        worker: &Worker,
        call: &Call<'_>,
        ours: SubscriptionId,
        theirs: &str,
    ) -> Result<Self, Stop> {
        let mut tx = worker.tenant(call.tenant).await?;
        let before = sql::get(tx.conn(), call.tenant, ours).await?;
        drop(tx);
        let revision = before.map_or(0, |before| before.provider_revision);
        let read = stripe.subscription(theirs).await;
        let reading = read.map_err(stop)?.reading();
        Ok(Read { reading, revision })
    }
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
        let input: ChangeSubscription = call.input()?;
        let (ours, theirs) = (input.subscription, &input.stripe_subscription);
        let read = Read::of(&self.stripe, &self.worker, call, ours, theirs).await?;
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
        let input: ChangeSubscription = call.input()?;
        follow(tx, call, input.subscription, &input.by, &output).await?;
        Ok(output)
    }
}

/// Writes a reading to our row, and lets the subscription go if this saga holds it.
pub(super) async fn follow(
    tx: &mut TenantTx,
    call: &Call<'_>,
    subscription: SubscriptionId,
    by: &By,
    read: &Value,
) -> Result<(), Stop> {
    let Read { reading, revision } =
        Read::deserialize(read).map_err(|error| Failure::new(error.to_string()))?;
    sql::lock_account(tx.conn(), call.tenant).await?;
    let before = sql::get(tx.conn(), call.tenant, subscription).await?;
    let before = before.ok_or_else(|| Failure::new("the saga's subscription is not there"))?;
    if !sql::count_reading(tx.conn(), call.tenant, before.id, revision).await? {
        return Err(Failure::new("an event came in between; reading again").into());
    }
    let read = rules::read(&before, &reading, call.now);
    let held = before.change_saga_id == Some(call.saga);
    let after = Subscription {
        change_saga_id: before.change_saga_id.filter(|_| !held),
        ..read
    };
    if after == before {
        return Ok(());
    }
    let entitling = rules::entitling(&before) != rules::entitling(&after);
    let after = sql::apply(tx.conn(), call.tenant, &after, entitling, call.now).await?;
    let what = match after.status {
        Status::Canceled | Status::IncompleteExpired => SubscriptionChange::Canceled,
        _ => SubscriptionChange::Updated,
    };
    let by = by.at(call.now);
    history::subscription_changed(tx.conn(), &by, what, Some(&before), &after).await?;
    Ok(())
}

/// Whether the status allows the change; a change that stands already is allowed, and changes nothing.
pub(crate) fn allowed(subscription: &Subscription, change: Change) -> bool {
    match change {
        Change::CancelNow | Change::CancelAtPeriodEnd => subscription.status.is_live(),
        Change::Pause { .. } => matches!(
            subscription.status,
            Status::Active | Status::Trialing | Status::PastDue | Status::Paused
        ),
        Change::Resume => matches!(subscription.status, Status::Paused | Status::Active),
        Change::Reactivate => subscription.status.is_live(),
    }
}

/// The saga that holds the subscription, unless it is this one.
pub(crate) fn busy(subscription: &Subscription) -> Option<SagaId> {
    subscription.change_saga_id
}
