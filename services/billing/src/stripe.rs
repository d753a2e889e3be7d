//! Stripe, as far as billing uses it: one function a call, async-stripe's requests out, our own lenient types in.
//! Deliberately absent: retries and keys. Sagas decide both; what a failure proves is said in `refusal.rs`.

pub(crate) mod list;
pub mod object;
mod reads;
mod refusal;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use mainstay_providers::stripe::{StripeApi, StripeFailure};
use mainstay_types::{AgencyId, ClientId, Interval, Money, SagaId, SubscriptionId};
use serde::{Deserialize, Serialize};
use stripe_billing::invoice::{PayInvoice, RetrieveInvoice, VoidInvoiceInvoice};
use stripe_billing::subscription::{
    CancelSubscription, CreateSubscription, CreateSubscriptionItems,
    CreateSubscriptionPaymentBehavior, DiscountsDataParam, RetrieveSubscription,
    UpdateSubscription, UpdateSubscriptionPauseCollection,
    UpdateSubscriptionPauseCollectionBehavior,
};
use stripe_core::customer::{CreateCustomer, SearchCustomer};
use stripe_core::refund::CreateRefund;
use stripe_payment::payment_method::{AttachPaymentMethod, RetrievePaymentMethod};
use stripe_product::CouponDuration;
use stripe_product::coupon::{CreateCoupon, RetrieveCoupon};
use stripe_product::price::{
    CreatePrice, CreatePriceRecurring, CreatePriceRecurringInterval, ListPrice,
};
use stripe_product::product::{CreateProduct, RetrieveProduct};

use crate::coupon::{self, Off, redemption::Held};
use object::{Customer, Found, Invoice, InvoicePayment, Page, Subscription};
pub(crate) use refusal::{did_not_happen, needs_authentication, stop};

/// Names the agency in Stripe's metadata.
pub(crate) const METADATA_AGENCY: &str = "mainstay_agency_id";
/// Names the client in Stripe's metadata.
pub(crate) const METADATA_CLIENT: &str = "mainstay_client_id";
/// Names our subscription.
pub(crate) const METADATA_SUBSCRIPTION: &str = "mainstay_subscription_id";
/// Names the saga.
pub(crate) const METADATA_SAGA: &str = "mainstay_saga_id";

/// A client as Stripe's customer. Part of a saga's input: every try sends the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payer {
    /// Its name.
    pub name: Option<String>,
    /// Where receipts go.
    pub email: Option<String>,
    /// Its telephone.
    pub phone: Option<String>,
}

/// A subscription to be made at Stripe.
#[derive(Debug)]
pub(crate) struct NewSubscription<'a> {
    pub customer: &'a str,
    pub price: &'a str,
    pub payment_method: Option<&'a str>,
    /// The coupon at Stripe.
    pub coupon: Option<&'a str>,
    pub trial_days: u32,
    pub client: ClientId,
    pub saga: SagaId,
    pub subscription: SubscriptionId,
}

/// Billing's door to Stripe.
#[derive(Debug, Clone)]
pub struct StripeGateway {
    api: StripeApi,
}

type Result<T> = std::result::Result<T, StripeFailure>;

impl StripeGateway {
    /// Over this API.
    pub fn new(api: StripeApi) -> Self {
        Self { api }
    }

    pub(crate) async fn create_customer(
        &self,
        payer: &Payer,
        client: ClientId,
        saga: SagaId,
        key: &str,
    ) -> Result<Customer> {
        let mut request = CreateCustomer::new().metadata(metadata(&[
            (METADATA_CLIENT, client.to_string()),
            (METADATA_SAGA, saga.to_string()),
        ]));
        if let Some(name) = &payer.name {
            request = request.name(name.as_str());
        }
        if let Some(email) = &payer.email {
            request = request.email(email.as_str());
        }
        if let Some(phone) = &payer.phone {
            request = request.phone(phone.as_str());
        }
        self.api.send(&request, Some(key)).await
    }

    /// The customer that an earlier try may have made.
    pub(crate) async fn find_customer(&self, client: ClientId) -> Result<Option<Customer>> {
        let query = format!("metadata['{METADATA_CLIENT}']:'{client}'");
        let found: Found<Customer> = self.api.send(&SearchCustomer::new(query), None).await?;
        Ok(found.data.into_iter().next())
    }

    pub(crate) async fn has_product(&self, id: &str) -> Result<bool> {
        let found: Result<object::Product> = self.api.send(&RetrieveProduct::new(id), None).await;
        match found {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_missing() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Makes a product under an id of our choosing: a second try finds it made.
    pub(crate) async fn ensure_product(&self, id: &str, name: &str, key: &str) -> Result<()> {
        let request = CreateProduct::new(name).id(id);
        let made: Result<object::Product> = self.api.send(&request, Some(key)).await;
        match made {
            Err(StripeFailure::Refused { code, .. })
                if code.as_deref() == Some("resource_already_exists") =>
            {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    pub(crate) async fn has_coupon(&self, id: &str) -> Result<bool> {
        let found: Result<object::Coupon> = self.api.send(&RetrieveCoupon::new(id), None).await;
        match found {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_missing() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Makes a coupon under its own id: a second try finds it made. Stripe is told what it takes off and for how long, and
    /// nothing of limits and windows: those are counted here, where what is reserved counts too.
    pub(crate) async fn ensure_coupon(
        &self,
        held: &Held,
        agency: AgencyId,
        key: &str,
    ) -> Result<()> {
        let duration = match held.duration {
            coupon::Duration::Once => CouponDuration::Once,
            coupon::Duration::Repeating { .. } => CouponDuration::Repeating,
            coupon::Duration::Forever => CouponDuration::Forever,
        };
        // Stripe shows at most forty letters of a name.
        let name: String = held.code.chars().take(40).collect();
        let mut request = CreateCoupon::new()
            .id(held.coupon.to_string())
            .name(name)
            .duration(duration)
            .metadata(metadata(&[(METADATA_AGENCY, agency.to_string())]));
        if let Some(months) = held.duration.months() {
            request = request.duration_in_months(months);
        }
        request = match held.off {
            Off::Percent { bp } => request.percent_off(f64::from(bp) / 100.0),
            Off::Amount { amount } => {
                let currency: stripe_types::Currency =
                    amount.currency.as_str().parse().unwrap_or_default();
                request.amount_off(amount.amount_minor).currency(currency)
            }
        };
        let made: Result<object::Coupon> = self.api.send(&request, Some(key)).await;
        match made {
            Err(StripeFailure::Refused { code, .. })
                if code.as_deref() == Some("resource_already_exists") =>
            {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// The price under a lookup key, if it was made.
    pub(crate) async fn find_price(&self, lookup_key: &str) -> Result<Option<object::Price>> {
        let request = ListPrice::new().lookup_keys(vec![lookup_key.to_owned()]);
        let found: Page<object::Price> = self.api.send(&request, None).await?;
        Ok(found.data.into_iter().next())
    }

    pub(crate) async fn create_price(
        &self,
        product: &str,
        price: Money,
        interval: Interval,
        lookup_key: &str,
        key: &str,
    ) -> Result<object::Price> {
        let every = match interval {
            Interval::Month => CreatePriceRecurringInterval::Month,
            Interval::Year => CreatePriceRecurringInterval::Year,
        };
        let currency: stripe_types::Currency = price.currency.as_str().parse().unwrap_or_default();
        let request = CreatePrice::new(currency)
            .product(product)
            .unit_amount(price.amount_minor)
            .recurring(CreatePriceRecurring::new(every))
            .lookup_key(lookup_key);
        self.api.send(&request, Some(key)).await
    }

    /// Attaches a payment method; gives its id, which for the test methods is another than was named.
    pub(crate) async fn attach(
        &self,
        payment_method: &str,
        customer: &str,
        key: &str,
    ) -> Result<object::PaymentMethod> {
        let request = AttachPaymentMethod::new(payment_method).customer(customer);
        self.api.send(&request, Some(key)).await
    }

    /// Makes a subscription that takes no money by itself: its first invoice waits to be paid.
    pub(crate) async fn create_subscription(
        &self,
        new: &NewSubscription<'_>,
        key: &str,
    ) -> Result<Subscription> {
        let item = CreateSubscriptionItems {
            price: Some(new.price.to_owned()),
            quantity: Some(1),
            ..CreateSubscriptionItems::new()
        };
        let mut request = CreateSubscription::new()
            .customer(new.customer)
            .items(vec![item])
            .payment_behavior(CreateSubscriptionPaymentBehavior::DefaultIncomplete)
            .metadata(metadata(&[
                (METADATA_CLIENT, new.client.to_string()),
                (METADATA_SAGA, new.saga.to_string()),
                (METADATA_SUBSCRIPTION, new.subscription.to_string()),
            ]));
        if let Some(payment_method) = new.payment_method {
            request = request.default_payment_method(payment_method);
        }
        if let Some(coupon) = new.coupon {
            let mut discount = DiscountsDataParam::new();
            discount.coupon = Some(coupon.to_owned());
            request = request.discounts(vec![discount]);
        }
        if new.trial_days > 0 {
            request = request.trial_period_days(new.trial_days);
        }
        self.api.send(&request, Some(key)).await
    }

    /// The subscription that an earlier try may have made. A list, which is exact at once; a search lags behind.
    pub(crate) async fn find_subscription(
        &self,
        customer: &str,
        subscription: SubscriptionId,
    ) -> Result<Option<Subscription>> {
        let query = [("customer", customer), ("status", "all")];
        let (all, _): (Vec<Subscription>, _) =
            self.api.list_all("/subscriptions", &query, 1_000).await?;
        let wanted = subscription.to_string();
        let mut all = all.into_iter();
        Ok(all.find(|found| found.metadata.get(METADATA_SUBSCRIPTION) == Some(&wanted)))
    }

    pub(crate) async fn subscription(&self, id: &str) -> Result<Subscription> {
        self.api.send(&RetrieveSubscription::new(id), None).await
    }

    pub(crate) async fn payment_method(&self, id: &str) -> Result<object::PaymentMethod> {
        self.api.send(&RetrievePaymentMethod::new(id), None).await
    }

    /// The payment of an invoice, made or not.
    pub(crate) async fn payment_intent_of(
        &self,
        invoice: &str,
    ) -> Result<Option<object::PaymentIntent>> {
        let query = [("invoice", invoice)];
        let (all, _): (Vec<InvoicePayment>, _) =
            self.api.list_all("/invoice_payments", &query, 100).await?;
        match all.iter().find_map(InvoicePayment::payment_intent) {
            Some(intent) => Ok(Some(self.payment_intent(intent).await?)),
            None => Ok(None),
        }
    }

    pub(crate) async fn payment_intent(&self, id: &str) -> Result<object::PaymentIntent> {
        self.api.get(&format!("/payment_intents/{id}"), &[]).await
    }

    /// Goes on with a payment after its payer has chosen how.
    pub(crate) async fn confirm_payment_intent(
        &self,
        id: &str,
        key: &str,
    ) -> Result<object::PaymentIntent> {
        let path = format!("/payment_intents/{id}/confirm");
        let form = HashMap::from([("off_session", "false")]);
        self.api.post(&path, &form, key).await
    }

    /// Has a subscription end with its period, or go on after it.
    pub(crate) async fn set_cancel_at_period_end(
        &self,
        id: &str,
        ends: bool,
        key: &str,
    ) -> Result<Subscription> {
        let request = UpdateSubscription::new(id).cancel_at_period_end(ends);
        self.api.send(&request, Some(key)).await
    }

    /// Stops collecting; what falls due meanwhile is void.
    pub(crate) async fn pause_collection(
        &self,
        id: &str,
        resumes_at: Option<DateTime<Utc>>,
        key: &str,
    ) -> Result<Subscription> {
        let pause = UpdateSubscriptionPauseCollection {
            behavior: UpdateSubscriptionPauseCollectionBehavior::Void,
            resumes_at: resumes_at.map(|at| at.timestamp()),
        };
        let request = UpdateSubscription::new(id).pause_collection(pause);
        self.api.send(&request, Some(key)).await
    }

    /// Collects again. An empty value is how Stripe clears a field, which its typed requests cannot say.
    pub(crate) async fn resume_collection(&self, id: &str, key: &str) -> Result<Subscription> {
        let path = format!("/subscriptions/{id}");
        // A map: a list of pairs would be sent as a list.
        let form = HashMap::from([("pause_collection", "")]);
        self.api.post(&path, &form, key).await
    }

    /// Cancels now. Stripe knows no keys here; whoever calls reads the subscription before and after.
    pub(crate) async fn cancel_subscription(&self, id: &str) -> Result<Subscription> {
        self.api.send(&CancelSubscription::new(id), None).await
    }

    pub(crate) async fn invoice(&self, id: &str) -> Result<Invoice> {
        self.api.send(&RetrieveInvoice::new(id), None).await
    }

    pub(crate) async fn pay_invoice(
        &self,
        id: &str,
        payment_method: Option<&str>,
        key: &str,
    ) -> Result<Invoice> {
        // The payer is here and has just chosen the method.
        let mut request = PayInvoice::new(id).off_session(false);
        if let Some(payment_method) = payment_method {
            request = request.payment_method(payment_method);
        }
        self.api.send(&request, Some(key)).await
    }

    pub(crate) async fn void_invoice(&self, id: &str, key: &str) -> Result<Invoice> {
        self.api.send(&VoidInvoiceInvoice::new(id), Some(key)).await
    }

    /// What was paid on an invoice.
    pub(crate) async fn payments_of(&self, invoice: &str) -> Result<Vec<InvoicePayment>> {
        let query = [("invoice", invoice), ("status", "paid")];
        let (all, _) = self.api.list_all("/invoice_payments", &query, 100).await?;
        Ok(all)
    }

    /// Gives all of a payment back.
    pub(crate) async fn refund(
        &self,
        payment_intent: &str,
        saga: SagaId,
        key: &str,
    ) -> Result<object::Refund> {
        let request = CreateRefund::new()
            .payment_intent(payment_intent)
            .metadata(metadata(&[(METADATA_SAGA, saga.to_string())]));
        let made: Result<object::Refund> = self.api.send(&request, Some(key)).await;
        match made {
            Err(StripeFailure::Refused { code, .. })
                if code.as_deref() == Some("charge_already_refunded") =>
            {
                Ok(object::Refund::default())
            }
            other => other,
        }
    }
}

fn metadata(pairs: &[(&str, String)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}
