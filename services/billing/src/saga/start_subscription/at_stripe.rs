//! The steps that act at Stripe, in order. Each makes at most one change there, under the key of its intent.
//! Deliberately absent: decisions on retries; a step says what it knows, and its probe what it finds. The payment:
//! `payment.rs`.

use mainstay_db::{TenantTx, Worker};
use mainstay_providers::stripe::StripeFailure;
use serde_json::{Value, json};

use super::payment::give_back;
use super::{
    Attached, COUPON, CUSTOMER, Created, PAYMENT_METHOD, PRICE, PRODUCT, SUBSCRIPTION,
    StartSubscription, TRIAL,
};
use crate::saga::definition::{Call, Failure, Probed, Step, Stop};
use crate::stripe::{METADATA_CLIENT, METADATA_SUBSCRIPTION, NewSubscription, StripeGateway, stop};
use crate::subscription::sql;
use crate::{plan, stripe};

pub(super) struct EnsureCustomer {
    pub(super) stripe: StripeGateway,
    pub(super) worker: Worker,
}

#[tonic::async_trait]
impl Step for EnsureCustomer {
    fn name(&self) -> &'static str {
        CUSTOMER
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: StartSubscription = call.input()?;
        let mut tx = self.worker.tenant(call.tenant).await?;
        let known = sql::stripe_customer(tx.conn(), call.tenant).await?;
        drop(tx);
        if let Some(known) = known {
            return Ok(json!(known));
        }
        let key = call.key();
        let made = self
            .stripe
            .create_customer(&input.payer, call.tenant.client, call.saga, &key);
        Ok(json!(made.await.map_err(stop)?.id))
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let found = self.stripe.find_customer(call.tenant.client).await;
        Ok(match found.map_err(stop)? {
            Some(found) => Probed::Done(json!(found.id)),
            None => Probed::NotDone,
        })
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
        let made = output.as_str().unwrap_or_default();
        Ok(json!(
            sql::note_customer(tx.conn(), call.tenant, made).await?
        ))
    }
}

pub(super) struct EnsureProduct {
    pub(super) stripe: StripeGateway,
    pub(super) worker: Worker,
}

#[tonic::async_trait]
impl Step for EnsureProduct {
    fn name(&self) -> &'static str {
        PRODUCT
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: StartSubscription = call.input()?;
        let id = input.stripe_product();
        if known_price(&self.worker, call, &input).await?.is_some()
            || self.stripe.has_product(&id).await.map_err(stop)?
        {
            return Ok(json!(id));
        }
        let key = call.key();
        let made = self.stripe.ensure_product(&id, &input.plan_name, &key);
        made.await.map_err(stop)?;
        Ok(json!(id))
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let input: StartSubscription = call.input()?;
        let id = input.stripe_product();
        Ok(match self.stripe.has_product(&id).await.map_err(stop)? {
            true => Probed::Done(json!(id)),
            false => Probed::NotDone,
        })
    }
}

pub(super) struct EnsurePrice {
    pub(super) stripe: StripeGateway,
    pub(super) worker: Worker,
}

#[tonic::async_trait]
impl Step for EnsurePrice {
    fn name(&self) -> &'static str {
        PRICE
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: StartSubscription = call.input()?;
        if let Some(known) = known_price(&self.worker, call, &input).await? {
            return Ok(json!(known));
        }
        let lookup_key = input.stripe_lookup_key();
        if let Some(found) = self.stripe.find_price(&lookup_key).await.map_err(stop)? {
            return Ok(json!(found.id));
        }
        let product: String = call.output(PRODUCT)?;
        let key = call.key();
        let made = self
            .stripe
            .create_price(&product, input.price, input.interval, &lookup_key, &key)
            .await;
        match made {
            Ok(price) => Ok(json!(price.id)),
            // Somebody else who buys the same plan was first: a lookup key stands for one price.
            Err(failure @ StripeFailure::Refused { .. }) => {
                match self.stripe.find_price(&lookup_key).await.map_err(stop)? {
                    Some(found) => Ok(json!(found.id)),
                    None => Err(stop(failure)),
                }
            }
            Err(failure) => Err(stop(failure)),
        }
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let input: StartSubscription = call.input()?;
        let found = self.stripe.find_price(&input.stripe_lookup_key()).await;
        Ok(match found.map_err(stop)? {
            Some(found) => Probed::Done(json!(found.id)),
            None => Probed::NotDone,
        })
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
        let input: StartSubscription = call.input()?;
        let product: String = call.output(PRODUCT)?;
        let price = output.as_str().unwrap_or_default();
        plan::sql::note_stripe_price(tx.conn(), call.tenant.agency, &input, &product, price)
            .await?;
        Ok(output)
    }
}

/// What an earlier sale of the same price noted.
async fn known_price(
    worker: &Worker,
    call: &Call<'_>,
    input: &StartSubscription,
) -> Result<Option<String>, Stop> {
    let mut tx = worker.tenant(call.tenant).await?;
    Ok(plan::sql::stripe_price(tx.conn(), call.tenant.agency, input).await?)
}

pub(super) struct AttachPaymentMethod {
    pub(super) stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for AttachPaymentMethod {
    fn name(&self) -> &'static str {
        PAYMENT_METHOD
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: StartSubscription = call.input()?;
        let Some(payment_method) = input.payment_method else {
            return Ok(Value::Null);
        };
        let customer: String = call.output(CUSTOMER)?;
        let key = call.key();
        let attached = self.stripe.attach(&payment_method, &customer, &key).await;
        let attached = attached.map_err(stop)?;
        Ok(json!(Attached {
            fingerprint: attached.fingerprint().map(str::to_owned),
            id: attached.id,
        }))
    }

    /// A method of a test card gets another id when it is attached; a real one keeps its own.
    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let input: StartSubscription = call.input()?;
        let Some(payment_method) = input.payment_method else {
            return Ok(Probed::Done(Value::Null));
        };
        let customer: String = call.output(CUSTOMER)?;
        let found = match self.stripe.payment_method(&payment_method).await {
            Ok(found) => found,
            Err(failure) if failure.is_missing() => return Ok(Probed::NotDone),
            Err(failure) => return Err(stop(failure)),
        };
        match found.id == payment_method && found.belongs_to(&customer) {
            true => Ok(Probed::Done(json!(Attached {
                fingerprint: found.fingerprint().map(str::to_owned),
                id: found.id,
            }))),
            false => Ok(Probed::NotDone),
        }
    }
}

pub(super) struct CreateSubscription {
    pub(super) stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for CreateSubscription {
    fn name(&self) -> &'static str {
        SUBSCRIPTION
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: StartSubscription = call.input()?;
        let customer: String = call.output(CUSTOMER)?;
        let price: String = call.output(PRICE)?;
        let attached: Option<Attached> = call.output(PAYMENT_METHOD)?;
        let coupon: Option<String> = call.output(COUPON)?;
        let trial_days: i32 = call.output(TRIAL)?;
        let new = NewSubscription {
            customer: &customer,
            price: &price,
            payment_method: attached.as_ref().map(|attached| attached.id.as_str()),
            coupon: coupon.as_deref(),
            trial_days: u32::try_from(trial_days).unwrap_or_default(),
            client: call.tenant.client,
            saga: call.saga,
            subscription: input.subscription,
        };
        let made = self.stripe.create_subscription(&new, &call.key()).await;
        Ok(created(&made.map_err(stop)?))
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let input: StartSubscription = call.input()?;
        let customer: String = call.output(CUSTOMER)?;
        let found = self.stripe.find_subscription(&customer, input.subscription);
        Ok(match found.await.map_err(stop)? {
            Some(found) => Probed::Done(created(&found)),
            None => Probed::NotDone,
        })
    }

    async fn verify(&self, call: &Call<'_>, evidence: Option<&str>) -> Result<Value, String> {
        let Some(id) = evidence else {
            return match self.probe(call).await {
                Ok(Probed::Done(output)) => Ok(output),
                _ => Err("name the subscription at Stripe (`sub_…`) as evidence".to_owned()),
            };
        };
        let found = self.stripe.subscription(id).await;
        let found = found.map_err(|_| format!("Stripe shows no subscription {id}"))?;
        let input: StartSubscription = call.input().map_err(|failure| failure.error)?;
        let names = |key: &str, ours: String| found.metadata.get(key) == Some(&ours);
        match names(METADATA_SUBSCRIPTION, input.subscription.to_string())
            && names(METADATA_CLIENT, call.tenant.client.to_string())
        {
            true => Ok(created(&found)),
            false => Err(format!(
                "{id} is not this subscription: its metadata names another"
            )),
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
        let input: StartSubscription = call.input()?;
        let made: Created = serde_json::from_value(output.clone())
            .map_err(|error| Failure::new(error.to_string()))?;
        let stripe_id = &made.stripe_subscription;
        sql::note_stripe_subscription(tx.conn(), call.tenant, input.subscription, stripe_id)
            .await?;
        Ok(output)
    }

    fn undoable(&self) -> bool {
        true
    }

    /// Cancels, voids what is still to be paid, gives back what was paid all the same: after this nothing of it is or can
    /// be charged.
    async fn undo(&self, call: &Call<'_>) -> Result<(), Stop> {
        let made: Created = call.output(SUBSCRIPTION)?;
        let id = &made.stripe_subscription;
        if self.stripe.subscription(id).await.map_err(stop)?.is_live() {
            let canceled = self.stripe.cancel_subscription(id).await;
            if let Err(failure) = canceled
                && self.stripe.subscription(id).await.map_err(stop)?.is_live()
            {
                return Err(stop(failure));
            }
        }
        let Some(invoice) = made.invoice else {
            return Ok(());
        };
        let status = self.stripe.invoice(&invoice).await.map_err(stop)?.status;
        match status.as_deref() {
            Some("open" | "uncollectible") => {
                let key = call.undo_key("void");
                self.stripe
                    .void_invoice(&invoice, &key)
                    .await
                    .map_err(stop)?;
                Ok(())
            }
            Some("paid") => give_back(&self.stripe, call, &invoice).await,
            _ => Ok(()),
        }
    }
}

fn created(subscription: &stripe::object::Subscription) -> Value {
    json!(Created {
        stripe_subscription: subscription.id.clone(),
        status: subscription.status.clone(),
        invoice: subscription
            .latest_invoice
            .as_ref()
            .map(|invoice| invoice.id().to_owned()),
    })
}
