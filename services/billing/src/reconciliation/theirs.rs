//! What reconciliation reads of Stripe's objects beyond what the sagas do: whom they name, and what they charge.
//! Deliberately absent: strictness. Text that somebody wrote into the metadata is read for what it has.

use std::collections::HashMap;

use mainstay_types::{ClientId, SagaId, SubscriptionId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::WalkError;
use crate::stripe::object::{Page, Reading, Ref, Subscription};
use crate::stripe::{METADATA_CLIENT, METADATA_SAGA, METADATA_SUBSCRIPTION};

/// Whom an object names in its metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub client: Option<ClientId>,
    pub subscription: Option<SubscriptionId>,
    pub saga: Option<SagaId>,
}

impl Named {
    fn read(metadata: &HashMap<String, String>) -> Self {
        let text = |name: &str| metadata.get(name).map(String::as_str).unwrap_or_default();
        Self {
            client: text(METADATA_CLIENT).parse().ok(),
            subscription: text(METADATA_SUBSCRIPTION).parse().ok(),
            saga: text(METADATA_SAGA).parse().ok(),
        }
    }
}

/// A subscription at Stripe.
#[derive(Debug, Clone)]
pub(crate) struct Theirs {
    pub id: String,
    pub live: bool,
    pub reading: Reading,
    pub customer: Option<String>,
    pub named: Named,
    /// None where Stripe's list shows no items.
    pub terms: Option<Terms>,
    pub latest_invoice: Option<String>,
}

/// What a subscription at Stripe charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub amount_minor: Option<i64>,
    pub currency: String,
    pub interval: String,
    pub quantity: i64,
    pub items: usize,
}

#[derive(Deserialize)]
struct More {
    #[serde(default)]
    customer: Option<Ref>,
    #[serde(default)]
    items: Page<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    price: Option<Price>,
    #[serde(default)]
    quantity: Option<i64>,
}

#[derive(Deserialize)]
struct Price {
    #[serde(default)]
    unit_amount: Option<i64>,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    recurring: Option<Recurring>,
}

#[derive(Deserialize)]
struct Recurring {
    #[serde(default)]
    interval: String,
}

impl Theirs {
    /// Reads a subscription.
    ///
    /// # Errors
    /// When it has no id: then it is none.
    pub(crate) fn read(object: &Value) -> Result<Self, WalkError> {
        let subscription: Subscription = read(object)?;
        let more: More = read(object)?;
        let items = more.items.data.len();
        let terms = more.items.data.into_iter().next().and_then(|item| {
            let price = item.price?;
            Some(Terms {
                amount_minor: price.unit_amount,
                currency: price.currency,
                interval: price.recurring.map(|every| every.interval)?,
                quantity: item.quantity.unwrap_or(1),
                items,
            })
        });
        Ok(Self {
            live: subscription.is_live(),
            reading: subscription.reading(),
            customer: more.customer.map(|customer| customer.id().to_owned()),
            named: Named::read(&subscription.metadata),
            terms,
            latest_invoice: subscription
                .latest_invoice
                .as_ref()
                .map(|invoice| invoice.id().to_owned()),
            id: subscription.id,
        })
    }

    /// As a record of a difference keeps it.
    pub(crate) fn told(&self) -> Value {
        json!({
            "stripe_subscription_id": self.id,
            "stripe_customer_id": self.customer,
            "status": self.reading.status,
            "current_period_start_at": self.reading.period_start,
            "current_period_end_at": self.reading.period_end,
            "trial_end_at": self.reading.trial_end,
            "canceled_at": self.reading.canceled_at,
            "amount_minor": self.terms.as_ref().and_then(|terms| terms.amount_minor),
            "currency": self.terms.as_ref().map(|terms| &terms.currency),
            "interval": self.terms.as_ref().map(|terms| &terms.interval),
            "quantity": self.terms.as_ref().map(|terms| terms.quantity),
            "client_id": self.named.client,
            "subscription_id": self.named.subscription,
            "saga_id": self.named.saga,
        })
    }
}

/// A customer at Stripe.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub id: String,
    pub named: Named,
    pub deleted: bool,
}

impl Customer {
    /// Reads a customer.
    ///
    /// # Errors
    /// When it has no id.
    pub(crate) fn read(object: &Value) -> Result<Self, WalkError> {
        #[derive(Deserialize)]
        struct Seen {
            id: String,
            #[serde(default)]
            metadata: HashMap<String, String>,
            #[serde(default)]
            deleted: bool,
        }
        let seen: Seen = read(object)?;
        Ok(Self {
            named: Named::read(&seen.metadata),
            id: seen.id,
            deleted: seen.deleted,
        })
    }
}

/// Any of Stripe's objects as `T`.
pub(crate) fn read<'a, T: Deserialize<'a>>(object: &'a Value) -> Result<T, WalkError> {
    T::deserialize(object).map_err(WalkError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_of_somebody_else_names_nobody() {
        let object = json!({"id": "sub_1", "status": "active", "customer": {"id": "cus_1"},
                            "metadata": {"mainstay_client_id": "their own words"}});
        let theirs = Theirs::read(&object).expect("readable");
        assert_eq!(theirs.named, Named::default());
        assert_eq!(theirs.customer.as_deref(), Some("cus_1"));
        assert!(theirs.live && theirs.terms.is_none());
        assert!(Theirs::read(&json!({"status": "active"})).is_err());
    }

    #[test]
    fn what_is_charged_stands_on_the_item() {
        let object = json!({"id": "sub_1", "status": "canceled", "items": {"data": [
            {"quantity": 2, "price": {"unit_amount": 500, "currency": "usd", "recurring": {"interval": "month"}}},
        ]}});
        let theirs = Theirs::read(&object).expect("readable");
        let terms = theirs.terms.expect("one item");
        assert_eq!((terms.amount_minor, terms.quantity), (Some(500), 2));
        assert!(!theirs.live);
    }
}
