//! Owns `/v1/balance`: what the charges left, refunds taken off. Health checks read it.
//!
//! Deliberately absent: fees, payouts and balance transactions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::errors::Result;
use super::{Call, Operation, kind, operation};
use crate::store::Tx;

pub(super) const OPERATIONS: &[Operation] = &[operation(
    "GET",
    "/v1/balance",
    "balance.retrieve",
    &[],
    retrieve,
)];

fn retrieve(tx: &mut Tx<'_>, _: &Call<'_>) -> Result<Value> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::from([("usd", 0)]);
    for charge in tx
        .world()
        .oldest_first(kind::CHARGE)
        .filter(|charge| charge["status"] == "succeeded")
    {
        let left = charge["amount"].as_i64().unwrap_or(0)
            - charge["amount_refunded"].as_i64().unwrap_or(0);
        *sums
            .entry(charge["currency"].as_str().unwrap_or("usd"))
            .or_default() += left;
    }
    let available: Vec<Value> = sums
        .iter()
        .map(|(currency, amount)| json!({ "amount": amount, "currency": currency, "source_types": { "card": amount } }))
        .collect();
    let pending: Vec<Value> = sums
        .keys()
        .map(|currency| json!({ "amount": 0, "currency": currency, "source_types": { "card": 0 } }))
        .collect();
    Ok(
        json!({ "object": "balance", "available": available, "livemode": false, "pending": pending }),
    )
}
