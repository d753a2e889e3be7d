//! Owns `GET /_/stripe/ledger`: every object there is, oldest first, for tests that compare it with what Mainstay
//! believes.
//!
//! `charges` are those that took money; attempts that failed stand apart, so that counting charges counts money.
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
    json!({
        "customers": all(kind::CUSTOMER, |customer| customer["deleted"] != true),
        "subscriptions": all(kind::SUBSCRIPTION, |_| true),
        "invoices": all(kind::INVOICE, |_| true),
        "charges": all(kind::CHARGE, |charge| charge["status"] == "succeeded"),
        "failed_charges": all(kind::CHARGE, |charge| charge["status"] != "succeeded"),
        "refunds": all(kind::REFUND, |_| true),
        "payment_intents": all(kind::PAYMENT_INTENT, |_| true),
        "payment_methods": all(kind::PAYMENT_METHOD, |_| true),
        "products": all(kind::PRODUCT, |_| true),
        "prices": all(kind::PRICE, |_| true),
        "coupons": all(kind::COUPON, |_| true),
        "webhook_endpoints": all(kind::WEBHOOK_ENDPOINT, |_| true),
        "now": world.now(),
    })
}
