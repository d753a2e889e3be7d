//! What the simulated Stripe holds for one client, read from the simulators' public ledger.
//! Deliberately absent: other clients' objects. They belong to other runs.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::Value;

use crate::api::Api;

/// One client's part of the ledger.
#[derive(Debug)]
pub struct Ledger {
    /// Its subscriptions: id and status.
    pub subscriptions: Vec<(String, String)>,
    /// Its charges that took money and gave none back: amount and currency.
    pub charges: Vec<(i64, String)>,
}

impl Ledger {
    /// The ledger as it stands now.
    pub async fn of(api: &Api, client_id: &str) -> anyhow::Result<Ledger> {
        let ledger = api.sandbox("/_/stripe/ledger").await?;
        ensure!(
            ledger.get("subscriptions").is_some(),
            "the ledger has no subscriptions: {ledger}"
        );
        let ours = |object: &&Value| {
            object
                .pointer("/metadata/mainstay_client_id")
                .and_then(Value::as_str)
                == Some(client_id)
        };
        let subscriptions: Vec<&Value> = items(&ledger, "subscriptions").filter(ours).collect();
        let customers: BTreeSet<String> = items(&ledger, "customers")
            .filter(ours)
            .map(|customer| text(customer, "id"))
            .chain(
                subscriptions
                    .iter()
                    .map(|subscription| text(subscription, "customer")),
            )
            .collect();
        let charges = items(&ledger, "charges")
            .filter(|charge| customers.contains(&text(charge, "customer")))
            .filter(|charge| !matches!(text(charge, "status").as_str(), "failed" | "pending"))
            .filter(|charge| number(charge, "amount") > number(charge, "amount_refunded"))
            .map(|charge| (number(charge, "amount"), text(charge, "currency")))
            .collect();
        Ok(Ledger {
            subscriptions: subscriptions
                .iter()
                .map(|s| (text(s, "id"), text(s, "status")))
                .collect(),
            charges,
        })
    }

    /// Subscriptions that could still take money.
    pub fn live(&self) -> Vec<&str> {
        let ended = |status: &str| matches!(status, "canceled" | "incomplete_expired");
        let live = self
            .subscriptions
            .iter()
            .filter(|(_, status)| !ended(status));
        live.map(|(id, _)| id.as_str()).collect()
    }
}

fn items<'a>(ledger: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    ledger
        .get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text(object: &Value, field: &str) -> String {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn number(object: &Value, field: &str) -> i64 {
    object
        .get(field)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}
