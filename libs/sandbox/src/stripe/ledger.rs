//! Owns `GET /_/stripe/ledger`: every object there is, oldest first, for tests that compare it with what Mainstay
//! believes.
//!
//! `charges` are those that took money; attempts that failed stand apart, so that counting charges counts money. A
//! charge names its `invoice` and `subscription`, which the API no longer does, and its `metadata` is that of its
//! customer, overlaid by that of its subscription, overlaid by its own: so charges can be counted per
//! `mainstay_client_id`.
//!
//! `?metadata=name:value` narrows it to what is somebody's: customers with this in their metadata, or of whom something
//! has it in its own, and all that is theirs.
//!
//! Deliberately absent: events and stored answers, which are history, not state. Deleted customers are left out too.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{kind, public};
use crate::store::World;

/// Whose part of the ledger is looked at.
struct Whose<'w> {
    /// What is in their metadata; none for everything.
    wanted: Option<(&'w str, &'w str)>,
    /// The customers that this means.
    customers: BTreeSet<&'w str>,
}

impl<'w> Whose<'w> {
    fn of(world: &'w World, wanted: Option<(&'w str, &'w str)>) -> Self {
        let mut whose = Whose {
            wanted,
            customers: BTreeSet::new(),
        };
        let by = |kind: &str, field: &'static str| {
            let theirs = world.oldest_first(kind).filter(|one| whose.names(one));
            theirs
                .filter_map(|one| one[field].as_str())
                .collect::<Vec<_>>()
        };
        let found = [
            by(kind::CUSTOMER, "id"),
            by(kind::SUBSCRIPTION, "customer"),
            by(kind::CHECKOUT_SESSION, "customer"),
        ];
        whose.customers.extend(found.into_iter().flatten());
        whose
    }

    fn names(&self, object: &Value) -> bool {
        self.wanted
            .is_some_and(|(name, value)| object["metadata"][name] == value)
    }

    fn has(&self, world: &World, object: &Value) -> bool {
        let known = |id: &Value| id.as_str().is_some_and(|id| self.customers.contains(id));
        let charge = || {
            let charge = object["charge"].as_str()?;
            world.get(kind::CHARGE, charge)
        };
        self.wanted.is_none()
            || self.names(object)
            || known(&object["id"])
            || known(&object["customer"])
            || charge().is_some_and(|charge| known(&charge["customer"]))
    }
}

pub(crate) fn ledger(world: &World, wanted: Option<(&str, &str)>) -> Value {
    let whose = Whose::of(world, wanted);
    let all = |kind: &str, wanted: fn(&Value) -> bool| -> Vec<Value> {
        world
            .oldest_first(kind)
            .filter(|object| wanted(object) && whose.has(world, object))
            .map(public)
            .collect()
    };
    let charges = |succeeded: bool| -> Vec<Value> {
        world
            .oldest_first(kind::CHARGE)
            .filter(|charge| (charge["status"] == "succeeded") == succeeded)
            .filter(|charge| whose.has(world, charge))
            .map(|charge| owned(world, charge))
            .collect()
    };
    json!({
        "customers": all(kind::CUSTOMER, |customer| customer["deleted"] != true),
        "subscriptions": all(kind::SUBSCRIPTION, |_| true),
        "invoices": all(kind::INVOICE, |_| true),
        "charges": charges(true),
        "failed_charges": charges(false),
        "refunds": all(kind::REFUND, |_| true),
        "disputes": all(kind::DISPUTE, |_| true),
        "payment_intents": all(kind::PAYMENT_INTENT, |_| true),
        "setup_intents": all(kind::SETUP_INTENT, |_| true),
        "payment_methods": all(kind::PAYMENT_METHOD, |_| true),
        "checkout_sessions": all(kind::CHECKOUT_SESSION, |_| true),
        "payment_links": all(kind::PAYMENT_LINK, |_| true),
        "products": all(kind::PRODUCT, |_| true),
        "prices": all(kind::PRICE, |_| true),
        "coupons": all(kind::COUPON, |_| true),
        "discounts": all(kind::DISCOUNT, |_| true),
        "test_clocks": all(kind::TEST_CLOCK, |_| true),
        "webhook_endpoints": all(kind::WEBHOOK_ENDPOINT, |_| true),
        "now": world.now(),
    })
}

fn owned(world: &World, charge: &Value) -> Value {
    let find = |kind: &str, id: &Value| id.as_str().and_then(|id| world.get(kind, id));
    let invoice = find(kind::PAYMENT_INTENT, &charge["payment_intent"])
        .and_then(|intent| find(kind::INVOICE, &intent["_invoice"]));
    let subscription =
        invoice.and_then(|invoice| find(kind::SUBSCRIPTION, &invoice["_subscription"]));
    let customer = find(kind::CUSTOMER, &charge["customer"]);
    let mut metadata = serde_json::Map::new();
    for owner in [customer, subscription, Some(charge)].into_iter().flatten() {
        let own = owner["metadata"].as_object().into_iter().flatten();
        metadata.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    }
    let mut shown = public(charge);
    shown["metadata"] = Value::Object(metadata);
    shown["invoice"] = invoice.map_or(Value::Null, |invoice| invoice["id"].clone());
    shown["subscription"] =
        subscription.map_or(Value::Null, |subscription| subscription["id"].clone());
    shown
}
