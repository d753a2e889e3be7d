//! The steps that act at Stripe: what was bought becomes ours, or is ended and given back.
//! Deliberately absent: charging. That was done before the saga began.

use mainstay_db::TenantTx;
use serde_json::{Value, json};

use super::{OnboardClient, PURCHASE};
use crate::history::{self, Notice};
use crate::saga::definition::{Call, Step, Stop};
use crate::stripe::{StripeGateway, object::InvoicePayment, stop};

/// Nothing is done; what is left to this step is undoing the purchase.
pub(super) struct HoldPurchase {
    pub(super) stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for HoldPurchase {
    fn name(&self) -> &'static str {
        PURCHASE
    }

    fn may_refuse(&self) -> bool {
        false
    }

    fn undoable(&self) -> bool {
        true
    }

    /// Ends the subscription and gives back all that was paid for it. Its state is read before every try.
    async fn undo(&self, call: &Call<'_>) -> Result<(), Stop> {
        let input: OnboardClient = call.input()?;
        let id = &input.stripe_subscription;
        let bought = self.stripe.subscription(id).await.map_err(stop)?;
        if bought.is_live() {
            let canceled = self.stripe.cancel_subscription(id).await;
            if let Err(failure) = canceled
                && self.stripe.subscription(id).await.map_err(stop)?.is_live()
            {
                return Err(stop(failure));
            }
        }
        let Some(invoice) = &bought.latest_invoice else {
            return Ok(());
        };
        let payments = self.stripe.payments_of(invoice.id()).await.map_err(stop)?;
        for intent in payments.iter().filter_map(InvoicePayment::payment_intent) {
            let key = call.undo_key(intent);
            let given = self.stripe.refund(intent, call.saga, &key).await;
            given.map_err(stop)?;
        }
        Ok(())
    }

    fn records_undo(&self) -> bool {
        true
    }

    /// Never silently: an error for the operator, an event and an audit record for the agency.
    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        let input: OnboardClient = call.input()?;
        let reason = call
            .refusal
            .map_or("It was undone.", |refusal| &refusal.detail);
        tracing::error!(
            saga = %call.saga,
            client = %call.tenant.client,
            session = input.stripe_session,
            reason,
            "a paid checkout session was ended and given back"
        );
        let told = json!({
            "stripe_session_id": input.stripe_session,
            "stripe_subscription_id": input.stripe_subscription,
            "plan_id": input.plan,
            "reason": reason,
        });
        crate::subscription::sql::lock_account(tx.conn(), call.tenant).await?;
        let by = input.by.at(call.now);
        let what = Notice::SecondSubscriptionRefunded;
        history::notice(tx.conn(), call.tenant, &by, what, told).await?;
        Ok(())
    }
}

/// Stripe's subscription is marked as ours, so that whoever looks there finds its way here.
pub(super) struct AdoptSubscription {
    pub(super) stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for AdoptSubscription {
    fn name(&self) -> &'static str {
        "adopt_stripe_subscription"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: OnboardClient = call.input()?;
        let (id, ours) = (&input.stripe_subscription, input.subscription);
        // After some tries a key may hold an error for ever; what it asks for is harmless to ask for again.
        let key = call.undo_key("adopt");
        let client = call.tenant.client;
        let adopted = self
            .stripe
            .adopt_subscription(id, client, ours, call.saga, &key);
        adopted
            .await
            .map_err(|failure| match failure.is_missing() {
                true => stop(failure),
                false => crate::saga::definition::Failure::new(failure.to_string()).into(),
            })?;
        Ok(Value::Null)
    }
}
