//! The steps that change our own rows: the client's place, its trial, and its activation.
//! Deliberately absent: a transaction of their own. They write in the one that also writes the saga's log.

use mainstay_db::{TenantTx, Worker};
use mainstay_rpc::ErrorReason;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Attached, Created, PAYMENT_METHOD, SUBSCRIPTION, StartSubscription, TRIAL, coupon};
use crate::history::{self, SubscriptionChange};
use crate::saga::definition::{Call, Failure, Refusal, Step, Stop};
use crate::saga::place;
use crate::stripe::{StripeGateway, object::Reading, stop};
use crate::subscription::{Status, Subscription, rules, sql};

/// The place was taken in the transaction that started the saga; what is left to this step is giving it back.
pub(super) struct ReservePlace;

#[tonic::async_trait]
impl Step for ReservePlace {
    fn name(&self) -> &'static str {
        "reserve_place"
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
        let input: StartSubscription = call.input()?;
        place::give_up(tx, call, input.subscription, &input.by).await
    }
}

/// One trial a card (BIL-13). That the client itself had none before was seen when the saga was started.
pub(super) struct GrantTrial;

#[tonic::async_trait]
impl Step for GrantTrial {
    fn name(&self) -> &'static str {
        TRIAL
    }

    fn may_refuse(&self) -> bool {
        false
    }

    fn records(&self) -> bool {
        true
    }

    /// The output: the days that are granted.
    async fn record(&self, tx: &mut TenantTx, call: &Call<'_>, _: Value) -> Result<Value, Stop> {
        let input: StartSubscription = call.input()?;
        let attached: Option<Attached> = call.output(PAYMENT_METHOD)?;
        let fingerprint = attached.and_then(|attached| attached.fingerprint);
        let granted = match (input.trial_days, fingerprint) {
            (0, _) => 0,
            (days, None) => days,
            (days, Some(card)) => {
                let ours = sql::claim_trial(tx.conn(), call.tenant, input.subscription, &card);
                if ours.await? { days } else { 0 }
            }
        };
        sql::note_trial(tx.conn(), call.tenant, input.subscription, granted).await?;
        Ok(json!(granted))
    }

    fn undoable(&self) -> bool {
        true
    }

    fn records_undo(&self) -> bool {
        true
    }

    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let input: StartSubscription = call.input()?;
        sql::release_trial(tx.conn(), call.tenant, input.subscription).await?;
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
            payer_action: None,
            // A trial is good until it ends; a payment says itself through when, by its invoice.
            paid_through_at: if on_trial {
                before.paid_through_at.max(reading.trial_end)
            } else {
                before.paid_through_at
            },
            ..before.clone()
        };
        coupon::redeem(tx, call, &input).await?;
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

    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let input: StartSubscription = call.input()?;
        place::revoke(tx, call, input.subscription, &input.by).await
    }
}

/// The saga's subscription, under the lock of its client's account.
pub(super) async fn locked(
    tx: &mut TenantTx,
    call: &Call<'_>,
) -> Result<(StartSubscription, Subscription), Stop> {
    let input: StartSubscription = call.input()?;
    let subscription = place::lock(tx, call, input.subscription).await?;
    Ok((input, subscription))
}

fn ended_at_stripe() -> Stop {
    Refusal::new(
        ErrorReason::ProviderRefused,
        "The subscription was ended at Stripe before it could be activated.",
    )
    .into()
}
