//! The steps that change our own rows: the client's place, and its activation.
//! Deliberately absent: a transaction of their own. They write in the one that also writes the saga's log.

use mainstay_db::{TenantTx, Worker};
use mainstay_rpc::ErrorReason;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Created, SUBSCRIPTION, StartSubscription};
use crate::history::{self, SubscriptionChange};
use crate::saga::definition::{Call, Failure, Refusal, Step, Stop};
use crate::stripe::{StripeGateway, object::Reading, stop};
use crate::subscription::{Status, Subscription, rules, sql};

/// The place was taken in the transaction that started the saga; what is left to this step is giving it back.
pub(super) struct ReservePlace;

#[tonic::async_trait]
impl Step for ReservePlace {
    fn name(&self) -> &'static str {
        "reserve_place"
    }

    fn undoable(&self) -> bool {
        true
    }

    fn records_undo(&self) -> bool {
        true
    }

    /// Last of all undoing: only now is the client free to try again.
    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let (input, before) = locked(tx, call).await?;
        if !before.status.is_live() {
            return Ok(());
        }
        let reason = call
            .refusal
            .map_or("It was undone.", |refusal| &refusal.detail);
        let failed = Subscription {
            status: Status::Failed,
            failure_reason: Some(reason.to_owned()),
            ..before.clone()
        };
        let after = sql::apply(tx.conn(), call.tenant, &failed, false, call.now).await?;
        let by = input.by.at(call.now);
        history::subscription_changed(
            tx.conn(),
            &by,
            SubscriptionChange::Failed,
            Some(&before),
            &after,
        )
        .await?;
        Ok(())
    }
}

/// The subscription becomes active, as Stripe's object has it after the payment.
pub(super) struct Activate {
    pub(super) stripe: StripeGateway,
    pub(super) worker: Worker,
}

/// A reading, and the count of applied readings before it was made.
#[derive(Serialize, Deserialize)]
struct Read {
    reading: Reading,
    revision: i64,
}

#[tonic::async_trait]
impl Step for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let created: Created = call.output(SUBSCRIPTION)?;
        let input: StartSubscription = call.input()?;
        let mut tx = self.worker.tenant(call.tenant).await?;
        let ours = sql::get(tx.conn(), call.tenant, input.subscription).await?;
        drop(tx);
        let revision = ours.map_or(0, |ours| ours.provider_revision);
        let read = self.stripe.subscription(&created.stripe_subscription).await;
        let subscription = read.map_err(stop)?;
        if !subscription.is_live() {
            return Err(ended_at_stripe());
        }
        let reading = subscription.reading();
        match rules::activation(&reading) {
            Some(_) => Ok(json!(Read { reading, revision })),
            None => Err(Failure::new(format!("at Stripe it is {}", reading.status)).into()),
        }
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
        let Read { reading, revision } = serde_json::from_value(output.clone())
            .map_err(|error| Failure::new(error.to_string()))?;
        let (input, before) = locked(tx, call).await?;
        // An event was applied since: what was read may be older than what it saw, such as an end.
        if !sql::count_reading(tx.conn(), call.tenant, before.id, revision).await? {
            return Err(Failure::new("an event came in between; reading again").into());
        }
        let status = rules::activation(&reading).unwrap_or(before.status);
        let on_trial = status == Status::Trialing;
        let active = Subscription {
            status,
            current_period_start_at: reading.period_start,
            current_period_end_at: reading.period_end,
            trial_end_at: reading.trial_end,
            // A trial is good until it ends; a payment says itself through when, by its invoice.
            paid_through_at: if on_trial {
                before.paid_through_at.max(reading.trial_end)
            } else {
                before.paid_through_at
            },
            ..before.clone()
        };
        let after = sql::apply(tx.conn(), call.tenant, &active, true, call.now).await?;
        let by = input.by.at(call.now);
        history::subscription_changed(
            tx.conn(),
            &by,
            SubscriptionChange::Activated,
            Some(&before),
            &after,
        )
        .await?;
        Ok(output)
    }

    fn undoable(&self) -> bool {
        true
    }

    fn records_undo(&self) -> bool {
        true
    }

    /// Back to its place, granting nothing, until money and subscription are undone at Stripe.
    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let (input, before) = locked(tx, call).await?;
        if !before.status.is_live() {
            return Ok(());
        }
        let revoked = Subscription {
            status: Status::Incomplete,
            ..before.clone()
        };
        let after = sql::apply(tx.conn(), call.tenant, &revoked, true, call.now).await?;
        let by = input.by.at(call.now);
        history::subscription_changed(
            tx.conn(),
            &by,
            SubscriptionChange::Revoked,
            Some(&before),
            &after,
        )
        .await?;
        Ok(())
    }
}

/// The saga's subscription, under the lock of its client's account.
async fn locked(
    tx: &mut TenantTx,
    call: &Call<'_>,
) -> Result<(StartSubscription, Subscription), Stop> {
    let input: StartSubscription = call.input()?;
    sql::lock_account(tx.conn(), call.tenant).await?;
    let subscription = sql::get(tx.conn(), call.tenant, input.subscription).await?;
    let subscription =
        subscription.ok_or_else(|| Failure::new("the saga's subscription is not there"))?;
    Ok((input, subscription))
}

fn ended_at_stripe() -> Stop {
    Refusal::new(
        ErrorReason::ProviderRefused,
        "The subscription was ended at Stripe before it could be activated.",
    )
    .into()
}
