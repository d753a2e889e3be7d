//! The coupon's part in starting a subscription: held from the first, known to Stripe before the subscription is, redeemed
//! with the activation, released when all is undone.
//! Deliberately absent: reserving it. That happens in the transaction that starts the saga, so that whoever comes too late
//! is told at once.

use mainstay_db::TenantTx;
use serde_json::{Value, json};

use super::{COUPON, StartSubscription};
use crate::coupon::redemption;
use crate::saga::definition::{Call, Probed, Step, Stop};
use crate::stripe::{StripeGateway, stop};
use crate::subscription::sql::lock_account;

/// Reserved when the saga was started; what is left to this step is giving it back.
pub(super) struct HoldCoupon;

#[tonic::async_trait]
impl Step for HoldCoupon {
    fn name(&self) -> &'static str {
        "hold_coupon"
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

    /// The place is free again the moment this is committed. Also when it was redeemed by an activation that was revoked.
    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let input: StartSubscription = call.input()?;
        if input.coupon.is_some() {
            // The account before the coupon, as everywhere.
            lock_account(tx.conn(), call.tenant).await?;
            redemption::release(tx.conn(), call.tenant, input.subscription, call.now).await?;
        }
        Ok(())
    }
}

/// Stripe knows the coupon, under its id here. It stays when the saga is undone: it takes off nothing by itself, and the
/// next subscription finds it made.
pub(super) struct EnsureStripeCoupon {
    pub(super) stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for EnsureStripeCoupon {
    fn name(&self) -> &'static str {
        COUPON
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: StartSubscription = call.input()?;
        let Some(held) = input.coupon else {
            return Ok(Value::Null);
        };
        let id = held.coupon.to_string();
        // Asked each time rather than noted: somebody may have deleted it at Stripe, and then it is made again.
        if !self.stripe.has_coupon(&id).await.map_err(stop)? {
            let key = call.key();
            let made = self.stripe.ensure_coupon(&held, call.tenant.agency, &key);
            made.await.map_err(stop)?;
        }
        Ok(json!(id))
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let input: StartSubscription = call.input()?;
        let Some(held) = input.coupon else {
            return Ok(Probed::Done(Value::Null));
        };
        let id = held.coupon.to_string();
        Ok(match self.stripe.has_coupon(&id).await.map_err(stop)? {
            true => Probed::Done(json!(id)),
            false => Probed::NotDone,
        })
    }
}

/// What was held is redeemed, in the transaction of the activation.
pub(super) async fn redeem(
    tx: &mut TenantTx,
    call: &Call<'_>,
    input: &StartSubscription,
) -> Result<(), Stop> {
    if input.coupon.is_some()
        && !redemption::redeem(tx.conn(), call.tenant, input.subscription, call.now).await?
    {
        // Nothing takes a reservation away from a live subscription; the discount is given all the same.
        tracing::error!(subscription = %input.subscription, "a subscription is activated without the coupon it held");
    }
    Ok(())
}
