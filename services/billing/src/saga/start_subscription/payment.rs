//! The first payment: confirming it, and where the payer's bank wants to see the payer, waiting for that (BIL-51).
//! Deliberately absent: keeping the payer's secret in the log. It stands with the subscription while it is of use.

use std::time::Duration;

use mainstay_db::{TenantTx, Worker};
use mainstay_providers::stripe::StripeFailure;
use mainstay_rpc::ErrorReason;
use serde_json::{Value, json};

use super::here::locked;
use super::{
    Attached, Confirmed, Created, PAYMENT, PAYMENT_METHOD, SUBSCRIPTION, StartSubscription,
};
use crate::history::{self, SubscriptionChange};
use crate::payment::{self, Recorded};
use crate::saga::definition::{Call, Failure, Probed, Refusal, Step, Stop, Wait};
use crate::stripe::{StripeGateway, needs_authentication, object, stop};
use crate::subscription::{PayerAction, Status, Subscription, sql};

/// Between looks at a payment whose news got lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Refunds what was paid on an invoice. Stripe refunds a payment no more than once whole.
pub(super) async fn give_back(
    stripe: &StripeGateway,
    call: &Call<'_>,
    invoice: &str,
) -> Result<(), Stop> {
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
        let attached: Option<Attached> = call.output(PAYMENT_METHOD)?;
        // A trial, or nothing to pay: Stripe had nothing to wait for.
        if created.status != "incomplete" {
            return Ok(json!(Confirmed::default()));
        }
        let Some(invoice) = created.invoice else {
            return Err(Failure::new("an incomplete subscription without an invoice").into());
        };
        let payment_method = attached.as_ref().map(|attached| attached.id.as_str());
        let key = call.key();
        let paid = self.stripe.pay_invoice(&invoice, payment_method, &key);
        match paid.await {
            Ok(answer) if answer.is_paid() => Ok(json!(Confirmed::paid(invoice))),
            Ok(answer) => Err(Failure::new(format!("the invoice is {:?}", answer.status)).into()),
            Err(failure) if needs_authentication(&failure) => {
                match self.looked_at(&invoice).await? {
                    Some(confirmed) => Ok(json!(confirmed)),
                    None => Err(stop(failure)),
                }
            }
            // Paid already, by an earlier try or by somebody at Stripe: what was wanted stands.
            Err(failure @ StripeFailure::Refused { .. }) => {
                match self.stripe.invoice(&invoice).await.map_err(stop)?.is_paid() {
                    true => Ok(json!(Confirmed::paid(invoice))),
                    false => Err(stop(failure)),
                }
            }
            Err(failure) => Err(stop(failure)),
        }
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let created: Created = call.output(SUBSCRIPTION)?;
        let Some(invoice) = created.invoice.filter(|_| created.status == "incomplete") else {
            return Ok(Probed::Done(json!(Confirmed::default())));
        };
        Ok(match self.looked_at(&invoice).await? {
            Some(confirmed) => Probed::Done(json!(confirmed)),
            None => Probed::NotDone,
        })
    }

    fn records(&self) -> bool {
        true
    }

    /// What the payer has to do is shown with the subscription, and told.
    async fn record(
        &self,
        tx: &mut TenantTx,
        call: &Call<'_>,
        output: Value,
    ) -> Result<Value, Stop> {
        let mut confirmed: Confirmed =
            serde_json::from_value(output).map_err(|error| Failure::new(error.to_string()))?;
        if let Some(action) = confirmed.waits_for.clone() {
            let (input, before) = locked(tx, call).await?;
            let waiting = Subscription {
                payer_action: Some(action),
                ..before.clone()
            };
            let after = sql::apply(tx.conn(), call.tenant, &waiting, false, call.now).await?;
            let (by, what) = (input.by.at(call.now), SubscriptionChange::ActionRequired);
            history::subscription_changed(tx.conn(), &by, what, Some(&before), &after).await?;
        }
        if let Some(action) = &mut confirmed.waits_for {
            action.client_secret = None;
        }
        Ok(json!(confirmed))
    }

    fn undoable(&self) -> bool {
        true
    }

    /// Gives the money back.
    async fn undo(&self, call: &Call<'_>) -> Result<(), Stop> {
        let confirmed: Confirmed = call.output(PAYMENT)?;
        match confirmed.invoice {
            Some(invoice) => give_back(&self.stripe, call, &invoice).await,
            None => Ok(()),
        }
    }
}

impl ConfirmPayment {
    /// What can be seen of the payment: made, or waiting for its payer; none when neither.
    async fn looked_at(&self, invoice: &str) -> Result<Option<Confirmed>, Stop> {
        if self.stripe.invoice(invoice).await.map_err(stop)?.is_paid() {
            return Ok(Some(Confirmed::paid(invoice.to_owned())));
        }
        let intent = self.stripe.payment_intent_of(invoice).await.map_err(stop)?;
        let waiting = intent.filter(object::PaymentIntent::waits_for_payer);
        Ok(waiting.map(|intent| Confirmed {
            invoice: Some(invoice.to_owned()),
            waits_for: Some(PayerAction {
                payment_intent: intent.id,
                client_secret: intent.client_secret,
            }),
        }))
    }
}

/// Where the payer must act first, nothing goes on until the payment is made, or can no longer be.
pub(super) struct AwaitPayment {
    pub(super) stripe: StripeGateway,
    pub(super) worker: Worker,
}

#[tonic::async_trait]
impl Step for AwaitPayment {
    fn name(&self) -> &'static str {
        "await_payment"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let confirmed: Confirmed = call.output(PAYMENT)?;
        let Some(invoice) = &confirmed.invoice else {
            return Ok(json!([]));
        };
        let Some(action) = &confirmed.waits_for else {
            return self.payments(invoice).await;
        };
        let read = self.stripe.invoice(invoice).await.map_err(stop)?;
        if read.is_paid() {
            return self.payments(invoice).await;
        }
        if self.is_given_up(call).await? {
            return Err(declined(
                "It was canceled before its first payment was made.",
                None,
            ));
        }
        let created: Created = call.output(SUBSCRIPTION)?;
        let subscription = self.stripe.subscription(&created.stripe_subscription).await;
        let in_time = subscription.map_err(stop)?.is_live();
        if !in_time || matches!(read.status.as_deref(), Some("void" | "uncollectible")) {
            return Err(declined("The payment was not authenticated in time.", None));
        }
        let intent = self.stripe.payment_intent(&action.payment_intent).await;
        let intent = intent.map_err(stop)?;
        if intent.has_failed() {
            let code = intent.decline_code();
            return Err(declined(
                "The payer's bank did not authenticate the payment.",
                code,
            ));
        }
        Err(Wait::new(
            format!("the payer of {}: {}", intent.id, intent.status),
            LOOK_AGAIN,
        )
        .into())
    }

    fn records(&self) -> bool {
        true
    }

    /// What was paid is mirrored with the step that needed it, not only when its event comes.
    async fn record(
        &self,
        tx: &mut TenantTx,
        call: &Call<'_>,
        output: Value,
    ) -> Result<Value, Stop> {
        let read: Vec<payment::Read> =
            serde_json::from_value(output).map_err(|error| Failure::new(error.to_string()))?;
        let (input, _) = locked(tx, call).await?;
        let by = input.by.at(call.now);
        for one in &read {
            if payment::record(tx.conn(), call.tenant, &by, one).await? == Recorded::Stale {
                return Err(Failure::new("an event came in between; reading again").into());
            }
        }
        Ok(json!(read.len()))
    }
}

impl AwaitPayment {
    /// What was paid on the invoice, to be mirrored.
    async fn payments(&self, invoice: &str) -> Result<Value, Stop> {
        let read = payment::read_invoice(&self.worker, &self.stripe, invoice).await;
        let read = read.map_err(|error| Failure::new(error.to_string()))?;
        Ok(json!(read))
    }

    async fn is_given_up(&self, call: &Call<'_>) -> Result<bool, Stop> {
        let input: StartSubscription = call.input()?;
        let mut tx = self.worker.tenant(call.tenant).await?;
        let ours = sql::get(tx.conn(), call.tenant, input.subscription).await?;
        Ok(ours.is_some_and(|ours| {
            ours.status == Status::Incomplete && ours.cancel_requested_at.is_some()
        }))
    }
}

fn declined(detail: &str, decline_code: Option<String>) -> Stop {
    Refusal {
        decline_code,
        ..Refusal::new(ErrorReason::PaymentDeclined, detail)
    }
    .into()
}
