//! Reading at Stripe what its events are about, and the list of the events themselves.
//! Deliberately absent: anything that changes something there, but for the one note by which a subscription becomes ours.

use std::collections::HashMap;

use mainstay_types::{ClientId, SagaId, SubscriptionId};

use super::object::{
    ChargeState, CheckoutSession, CustomerState, DisputeState, EventPage, InvoicePayment,
    MethodState, PaymentIntentState, RefundState, Subscription,
};
use super::{
    METADATA_CLIENT, METADATA_SAGA, METADATA_SUBSCRIPTION, Result, StripeGateway, metadata,
};

impl StripeGateway {
    /// A payment intent with its last charge.
    pub(crate) async fn payment_state(&self, id: &str) -> Result<PaymentIntentState> {
        let path = format!("/payment_intents/{id}");
        self.api.get(&path, &[("expand[]", "latest_charge")]).await
    }

    pub(crate) async fn charge_state(&self, id: &str) -> Result<ChargeState> {
        self.api.get(&format!("/charges/{id}"), &[]).await
    }

    /// The invoice that a payment intent pays, if it pays one.
    pub(crate) async fn invoice_of(&self, intent: &str) -> Result<Option<String>> {
        let query = [
            ("payment[type]", "payment_intent"),
            ("payment[payment_intent]", intent),
        ];
        let list = self.api.list_all("/invoice_payments", &query, 1).await?;
        let (found, _): (Vec<InvoicePayment>, _) = list;
        let payment = found.into_iter().next();
        Ok(payment.and_then(|payment| payment.invoice().map(str::to_owned)))
    }

    pub(crate) async fn refund_state(&self, id: &str) -> Result<RefundState> {
        self.api.get(&format!("/refunds/{id}"), &[]).await
    }

    /// All refunds of a payment.
    pub(crate) async fn refunds_of(&self, of: (&str, &str)) -> Result<Vec<RefundState>> {
        Ok(self.api.list_all("/refunds", &[of], 1_000).await?.0)
    }

    pub(crate) async fn dispute_state(&self, id: &str) -> Result<DisputeState> {
        self.api.get(&format!("/disputes/{id}"), &[]).await
    }

    pub(crate) async fn customer_state(&self, id: &str) -> Result<CustomerState> {
        self.api.get(&format!("/customers/{id}"), &[]).await
    }

    pub(crate) async fn method_state(&self, id: &str) -> Result<MethodState> {
        self.api.get(&format!("/payment_methods/{id}"), &[]).await
    }

    pub(crate) async fn checkout_session(&self, id: &str) -> Result<CheckoutSession> {
        let path = format!("/checkout/sessions/{id}");
        self.api.get(&path, &[]).await
    }

    /// A page of events made at or after `since`, newest first, older than the one named.
    pub(crate) async fn events(
        &self,
        since: Option<i64>,
        older_than: Option<&str>,
    ) -> Result<EventPage> {
        let since = since.map(|since| since.to_string());
        let mut query = vec![("limit", "100")];
        if let Some(since) = &since {
            query.push(("created[gte]", since));
        }
        if let Some(older_than) = older_than {
            query.push(("starting_after", older_than));
        }
        self.api.get("/events", &query).await
    }

    /// One event, as its webhook would have brought it.
    pub(crate) async fn event(&self, id: &str) -> Result<serde_json::Value> {
        self.api.get(&format!("/events/{id}"), &[]).await
    }

    /// Notes on a subscription that was made at Stripe that it is ours.
    pub(crate) async fn adopt_subscription(
        &self,
        id: &str,
        client: ClientId,
        subscription: SubscriptionId,
        saga: SagaId,
        key: &str,
    ) -> Result<Subscription> {
        let noted = metadata(&[
            (METADATA_CLIENT, client.to_string()),
            (METADATA_SUBSCRIPTION, subscription.to_string()),
            (METADATA_SAGA, saga.to_string()),
        ]);
        let form = HashMap::from([("metadata", noted)]);
        let path = format!("/subscriptions/{id}");
        self.api.post(&path, &form, key).await
    }
}
