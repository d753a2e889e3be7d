//! Owns `GET /_/stripe/ledger`: every object there is, oldest first, for tests that compare it with what Mainstay
//! believes.
//!
//! `charges` are those that took money; attempts that failed stand apart, so that counting charges counts money. A
//! charge names its `invoice` and `subscription`, which the API no longer does, and its `metadata` is that of its
//! customer, overlaid by that of its subscription, overlaid by its own: so charges can be counted per
//! `mainstay_client_id`.
//!
//! Deliberately absent: events and stored answers, which are history, not state. Deleted customers are left out too.

use serde_json::{Value, json};

use super::{kind, public};
use crate::store::World;

pub(crate) fn ledger(world: &World) -> Value {
    let all = |kind: &str, wanted: fn(&Value) -> bool| -> Vec<Value> {
        world
            .oldest_first(kind)
            .filter(|object| wanted(object))
            .map(public)
            .collect()
    };
    let charges = |succeeded: bool| -> Vec<Value> {
        world
            .oldest_first(kind::CHARGE)
            .filter(|charge| (charge["status"] == "succeeded") == succeeded)
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
