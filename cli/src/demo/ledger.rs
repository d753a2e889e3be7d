//! What the simulated Stripe holds for one client, read from the simulators' public ledger.
//! Deliberately absent: other clients' objects. They belong to other runs.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::Value;

use crate::api::Api;

/// One client's part of the ledger.
#[derive(Debug)]
pub struct Ledger {
    /// Who it is there.
    pub customer: Option<String>,
    /// Its subscriptions: id and status.
    pub subscriptions: Vec<(String, String)>,
    /// Its charges that took money and gave none back: amount and currency.
    pub charges: Vec<(i64, String)>,
}

impl Ledger {
    /// The ledger as it stands now.
    pub async fn of(api: &Api, client_id: &str) -> anyhow::Result<Ledger> {
        let path = format!("/_/stripe/ledger?metadata=mainstay_client_id:{client_id}");
        let ledger = api.sandbox(&path).await?;
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
            customer: customers.first().cloned(),
            subscriptions: subscriptions
                .iter()
                .map(|s| (text(s, "id"), text(s, "status")))
                .collect(),
            charges,
        })
    }

    /// That it has these charges in dollars, in any order, and no other.
    pub fn has_charged(&self, wanted: &[i64]) -> anyhow::Result<()> {
        let mut wanted: Vec<(i64, String)> = wanted
            .iter()
            .map(|amount| (*amount, "usd".to_owned()))
            .collect();
        let mut charges = self.charges.clone();
        wanted.sort_unstable();
        charges.sort_unstable();
        ensure!(
            charges == wanted,
            "Stripe has the charges {charges:?} for this client, where exactly {wanted:?} was expected"
        );
        Ok(())
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
