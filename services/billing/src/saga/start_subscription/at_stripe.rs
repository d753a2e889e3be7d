//! The steps that act at Stripe, in order. Each makes at most one change there, under the key of its intent.
//! Deliberately absent: decisions on retries; a step says what it knows.

use mainstay_db::{TenantTx, Worker};
use mainstay_providers::stripe::StripeFailure;
use serde_json::{Value, json};

use super::{
    CUSTOMER, Created, PAYMENT, PAYMENT_METHOD, PRICE, PRODUCT, Paid, SUBSCRIPTION,
    StartSubscription,
};
use crate::saga::definition::{Call, Failure, Step, Stop, TRIES_A_KEY};
use crate::stripe::{
    KEY_LIFE, NewSubscription, StripeGateway, answered_with_error, did_not_happen, object, stop,
};
use crate::subscription::sql;
use crate::{plan, stripe};

/// Whether an intent is to be looked for before it is sent again: the key may be forgotten, or it may hold an answer
/// from which nothing can be learned.
fn look_first(call: &Call<'_>) -> bool {
    call.intended_for > KEY_LIFE || call.attempt >= 2
}

/// Whether nothing more is to be learned under this key: Stripe keeps an error there. What was asked for is then looked for
/// a last time, and when it is not there, it did not happen.
fn nothing_to_learn(call: &Call<'_>, failure: &StripeFailure) -> bool {
    call.attempt >= TRIES_A_KEY && answered_with_error(failure)
}

/// A failure of a call that moves no money and that the next saga makes again.
fn stop_or_give_up(call: &Call<'_>, failure: StripeFailure) -> Stop {
    match nothing_to_learn(call, &failure) {
        true => did_not_happen(),
        false => stop(failure),
    }
}

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
        let client = call.tenant.client;
        if look_first(call)
            && let Some(found) = self.stripe.find_customer(client).await.map_err(stop)?
        {
            return Ok(json!(found.id));
        }
        let key = call.key();
        let made = self
            .stripe
            .create_customer(&input.payer, client, call.saga, &key);
        match made.await {
            Ok(customer) => Ok(json!(customer.id)),
            Err(failure) => Err(stop_or_give_up(call, failure)),
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
        made.await
            .map_err(|failure| stop_or_give_up(call, failure))?;
        Ok(json!(id))
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
            Err(failure) => Err(stop_or_give_up(call, failure)),
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
        let attached = self.stripe.attach(&payment_method, &customer, &key);
        let attached = attached
            .await
            .map_err(|failure| stop_or_give_up(call, failure))?;
        Ok(json!(attached.id))
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
        let payment_method: Option<String> = call.output(PAYMENT_METHOD)?;
        if look_first(call) {
            let found = self.stripe.find_subscription(&customer, input.subscription);
            if let Some(found) = found.await.map_err(stop)? {
                return Ok(created(&found));
            }
        }
        let new = NewSubscription {
            customer: &customer,
            price: &price,
            payment_method: payment_method.as_deref(),
            trial_days: u32::try_from(input.trial_days).unwrap_or_default(),
            client: call.tenant.client,
            saga: call.saga,
            subscription: input.subscription,
        };
        match self.stripe.create_subscription(&new, &call.key()).await {
            Ok(made) => Ok(created(&made)),
            Err(failure) if nothing_to_learn(call, &failure) => {
                let found = self.stripe.find_subscription(&customer, input.subscription);
                match found.await.map_err(stop)? {
                    Some(found) => Ok(created(&found)),
                    None => Err(did_not_happen()),
                }
            }
            Err(failure) => Err(stop(failure)),
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

/// Refunds what was paid on an invoice. Stripe refunds a payment no more than once whole.
async fn give_back(stripe: &StripeGateway, call: &Call<'_>, invoice: &str) -> Result<(), Stop> {
    let payments = stripe.payments_of(invoice).await.map_err(stop)?;
    for intent in payments
        .iter()
        .filter_map(object::InvoicePayment::payment_intent)
    {
        let key = call.undo_key(intent);
        stripe.refund(intent, call.saga, &key).await.map_err(stop)?;
    }
    Ok(())
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

pub(super) struct ConfirmPayment {
    pub(super) stripe: StripeGateway,
}

#[tonic::async_trait]
impl Step for ConfirmPayment {
    fn name(&self) -> &'static str {
        PAYMENT
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let created: Created = call.output(SUBSCRIPTION)?;
        let payment_method: Option<String> = call.output(PAYMENT_METHOD)?;
        // A trial, or a price of nothing: Stripe had nothing to wait for.
        if created.status != "incomplete" {
            return Ok(json!(Paid { invoice: None }));
        }
        let Some(invoice) = created.invoice else {
            return Err(Failure::new("an incomplete subscription without an invoice").into());
        };
        let paid = json!(Paid {
            invoice: Some(invoice.clone())
        });
        if look_first(call) && self.is_paid(&invoice).await? {
            return Ok(paid);
        }
        let key = call.key();
        match self
            .stripe
            .pay_invoice(&invoice, payment_method.as_deref(), &key)
            .await
        {
            Ok(answer) if answer.is_paid() => Ok(paid),
            Ok(answer) => Err(Failure::new(format!("the invoice is {:?}", answer.status)).into()),
            // Paid already, by an earlier try or by somebody at Stripe: what was wanted stands.
            Err(StripeFailure::Refused { .. }) if self.is_paid(&invoice).await? => Ok(paid),
            Err(failure) if nothing_to_learn(call, &failure) => match self.is_paid(&invoice).await?
            {
                true => Ok(paid),
                false => Err(did_not_happen()),
            },
            Err(failure) => Err(stop(failure)),
        }
    }

    fn undoable(&self) -> bool {
        true
    }

    /// Gives the money back.
    async fn undo(&self, call: &Call<'_>) -> Result<(), Stop> {
        let paid: Paid = call.output(PAYMENT)?;
        match paid.invoice {
            Some(invoice) => give_back(&self.stripe, call, &invoice).await,
            None => Ok(()),
        }
    }
}

impl ConfirmPayment {
    async fn is_paid(&self, invoice: &str) -> Result<bool, Stop> {
        Ok(self.stripe.invoice(invoice).await.map_err(stop)?.is_paid())
    }
}
