//! The steps that change our own rows: whose customer it is, the client's place, its activation, and telling of it.
//! Deliberately absent: a transaction of their own. They write in the one that also writes the saga's log.

use mainstay_db::{TenantTx, Worker};
use mainstay_rpc::ErrorReason;
use mainstay_types::Money;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{OnboardClient, Sold};
use crate::checkout::sql as checkout;
use crate::history::{self, Notice, SubscriptionChange};
use crate::offboarding::sql as offboarding;
use crate::payment::{self, Recorded};
use crate::plan;
use crate::saga::definition::{Call, Failure, Refusal, Step, Stop};
use crate::saga::place;
use crate::stripe::{StripeGateway, object::Reading, object::Ref, stop};
use crate::subscription::{Status, Subscription, rules, sql};

/// Stripe's customer is noted as the client's. Where the client has another one, that one stays the one for its next
/// purchases, and events about either find it.
pub(super) struct NoteCustomer;

#[tonic::async_trait]
impl Step for NoteCustomer {
    fn name(&self) -> &'static str {
        "note_customer"
    }

    fn may_refuse(&self) -> bool {
        false
    }

    fn records(&self) -> bool {
        true
    }

    async fn record(&self, tx: &mut TenantTx, call: &Call<'_>, _: Value) -> Result<Value, Stop> {
        let input: OnboardClient = call.input()?;
        sql::ensure_account(tx.conn(), call.tenant).await?;
        sql::lock_account(tx.conn(), call.tenant).await?;
        let stands = sql::note_customer(tx.conn(), call.tenant, &input.stripe_customer).await?;
        sql::note_object(tx.conn(), call.tenant, &input.stripe_customer, None).await?;
        Ok(json!(stands))
    }
}

/// The client's one place is taken for what was bought.
pub(super) struct ClaimPlace;

#[tonic::async_trait]
impl Step for ClaimPlace {
    fn name(&self) -> &'static str {
        "claim_place"
    }

    fn records(&self) -> bool {
        true
    }

    async fn record(&self, tx: &mut TenantTx, call: &Call<'_>, _: Value) -> Result<Value, Stop> {
        let input: OnboardClient = call.input()?;
        let tenant = call.tenant;
        if !plan::sql::lock_for_sale(tx.conn(), tenant.agency, input.plan).await? {
            return Err(Failure::new("the agency has no plan of the id that was paid for").into());
        }
        let plan = plan::sql::get(tx.conn(), tenant.agency, input.plan, None).await?;
        let plan = plan.ok_or_else(|| Failure::new("the plan that was paid for is not there"))?;
        // An archived plan too: it was on sale when the link was made, and it was paid for.
        let price = plan::rules::price(&plan.terms, input.currency, input.interval);
        let price = price.ok_or_else(|| {
            Failure::new("the plan has no price in the currency and interval paid for")
        })?;
        let sold = Sold {
            plan: plan.id,
            plan_version: plan.version,
            price: Money::new(price.amount_minor, price.currency),
            interval: price.interval,
        };
        let (agency, now) = (tenant.agency, call.now);
        plan::sql::mark_sold(tx.conn(), agency, plan.id, plan.version, now).await?;
        sql::lock_account(tx.conn(), tenant).await?;
        if sql::find_live(tx.conn(), tenant).await?.is_some() {
            return Err(Refusal::new(
                ErrorReason::SubscriptionExists,
                "The client has a subscription already; the second one was ended and given back.",
            )
            .into());
        }
        if offboarding::get(tx.conn(), tenant)
            .await?
            .is_some_and(|one| one.withdrawn_at.is_none())
        {
            return Err(Refusal::new(
                ErrorReason::ClientNotActive,
                "The client has left; what it bought was ended and given back.",
            )
            .into());
        }
        checkout::take_place(tx.conn(), tenant, input.subscription, call.saga, &sold, now).await?;
        let bought = &input.stripe_subscription;
        sql::note_stripe_subscription(tx.conn(), tenant, input.subscription, bought).await?;
        let made = find(tx, call, &input).await?;
        let by = input.by.at(now);
        let what = SubscriptionChange::Created;
        history::subscription_changed(tx.conn(), &by, what, None, &made).await?;
        Ok(json!(sold))
    }

    fn undoable(&self) -> bool {
        true
    }

    fn records_undo(&self) -> bool {
        true
    }

    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let input: OnboardClient = call.input()?;
        place::give_up(tx, call, input.subscription, &input.by).await
    }
}

/// The subscription becomes active as Stripe has it, and its first payment is mirrored.
pub(super) struct Activate {
    pub(super) stripe: StripeGateway,
    pub(super) worker: Worker,
}

/// Readings, each with the count of those applied before it was made.
#[derive(Serialize, Deserialize)]
struct Read {
    reading: Reading,
    revision: i64,
    payments: Vec<payment::Read>,
}

#[tonic::async_trait]
impl Step for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: OnboardClient = call.input()?;
        let mut tx = self.worker.tenant(call.tenant).await?;
        let revision = find(&mut tx, call, &input).await?.provider_revision;
        drop(tx);
        let read = self.stripe.subscription(&input.stripe_subscription).await;
        let bought = read.map_err(stop)?;
        if !bought.is_live() {
            return Err(Refusal::new(
                ErrorReason::ProviderRefused,
                "The subscription was ended at Stripe before it could be activated.",
            )
            .into());
        }
        let reading = bought.reading();
        if rules::activation(&reading).is_none() {
            return Err(Failure::new(format!("at Stripe it is {}", reading.status)).into());
        }
        let payments = match bought.latest_invoice.as_ref().map(Ref::id) {
            Some(invoice) => {
                let read = payment::read_invoice(&self.worker, &self.stripe, invoice).await;
                read.map_err(|error| Failure::new(error.to_string()))?
            }
            None => Vec::new(),
        };
        Ok(json!(Read {
            reading,
            revision,
            payments
        }))
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
        let Read {
            reading,
            revision,
            payments,
        } = serde_json::from_value(output).map_err(|error| Failure::new(error.to_string()))?;
        let input: OnboardClient = call.input()?;
        let by = input.by.at(call.now);
        sql::lock_account(tx.conn(), call.tenant).await?;
        let before = find(tx, call, &input).await?;
        if !sql::count_reading(tx.conn(), call.tenant, before.id, revision).await? {
            return Err(came_in_between());
        }
        for payment in &payments {
            let recorded = payment::record(tx.conn(), call.tenant, &by, payment).await?;
            if recorded == Recorded::Stale {
                return Err(came_in_between());
            }
        }
        let status = rules::activation(&reading).unwrap_or(before.status);
        let paid_through = match status {
            Status::Trialing => reading.trial_end,
            // It was paid before it came here, so nobody else will say through when.
            _ => reading.period_end,
        };
        let active = Subscription {
            status,
            current_period_start_at: reading.period_start,
            current_period_end_at: reading.period_end,
            trial_end_at: reading.trial_end,
            paid_through_at: before.paid_through_at.max(paid_through),
            ..before.clone()
        };
        let after = sql::apply(tx.conn(), call.tenant, &active, true, call.now).await?;
        let what = SubscriptionChange::Activated;
        history::subscription_changed(tx.conn(), &by, what, Some(&before), &after).await?;
        Ok(json!(after.status.as_str()))
    }

    fn undoable(&self) -> bool {
        true
    }

    fn records_undo(&self) -> bool {
        true
    }

    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let input: OnboardClient = call.input()?;
        place::revoke(tx, call, input.subscription, &input.by).await
    }
}

/// Messaging is told that a client begins: receipt, welcome, notices.
pub(super) struct Tell;

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

    async fn record(
        &self,
        tx: &mut TenantTx,
        call: &Call<'_>,
        output: Value,
    ) -> Result<Value, Stop> {
        let input: OnboardClient = call.input()?;
        let sold: Sold = call.output("claim_place")?;
        let told = json!({
            "subscription_id": input.subscription,
            "plan_id": sold.plan,
            "price": sold.price,
            "interval": sold.interval,
            "stripe_session_id": input.stripe_session,
            "is_new": input.is_new,
        });
        sql::lock_account(tx.conn(), call.tenant).await?;
        let by = input.by.at(call.now);
        let what = Notice::ClientOnboarded;
        history::notice(tx.conn(), call.tenant, &by, what, told).await?;
        Ok(output)
    }
}

async fn find(
    tx: &mut TenantTx,
    call: &Call<'_>,
    input: &OnboardClient,
) -> Result<Subscription, Stop> {
    let found = sql::get(tx.conn(), call.tenant, input.subscription).await?;
    Ok(found.ok_or_else(|| Failure::new("the saga's subscription is not there"))?)
}

fn came_in_between() -> Stop {
    Failure::new("an event came in between; reading again").into()
}
