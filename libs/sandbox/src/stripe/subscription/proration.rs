//! Owns the arithmetic of a change in the middle of a period: credit for what is unused, debit for what remains.
//!
//! Deliberately absent: invoicing it. What is made here waits on the subscription for the next invoice.

use serde_json::{Value, json};

use super::period;
use crate::store::Tx;
use crate::stripe::invoice::lines::{self as invoice_lines, Charge};
use crate::stripe::{coupon, kind};

fn cost(item: &Value) -> i64 {
    let unit = item["price"]["unit_amount"].as_i64().unwrap_or(0);
    unit.saturating_mul(item["quantity"].as_i64().unwrap_or(1))
}

/// Credits what is unused of the old items and debits the rest of the period at the new ones (unless the period
/// starts anew and is billed whole anyway).
pub(super) fn prorate(
    tx: &Tx<'_>,
    subscription: &mut Value,
    old: &[Value],
    new: &[Value],
    at: i64,
    restarts: bool,
) {
    let (start, end) = period(subscription);
    let same = |a: &Value, b: &Value| {
        a["id"] == b["id"] && a["price"]["id"] == b["price"]["id"] && a["quantity"] == b["quantity"]
    };
    let mut pending = subscription["_pending"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let credits: Vec<i64> = old
        .iter()
        .map(|item| paid_for(tx, subscription, item).unwrap_or_else(|| cost(item)))
        .collect();
    let debits = discounted(tx, subscription, new, at, end);
    let mut add = |item: &Value, amount: i64, text: &str| {
        if amount == 0 {
            return;
        }
        let charge = Charge {
            item: item["id"].as_str().unwrap_or_default().to_owned(),
            price: item["price"].clone(),
            quantity: item["quantity"].as_i64().unwrap_or(1),
            amount,
            description: format!("{text} {}", invoice_lines::product_name(tx, &item["price"])),
            start: at,
            end,
            proration: true,
        };
        pending.push(charge.to_pending());
    };
    for (item, paid) in old
        .iter()
        .zip(credits)
        .filter(|(item, _)| restarts || !new.iter().any(|other| same(item, other)))
    {
        add(
            item,
            -invoice_lines::unused(paid, start, end, at),
            "Unused time on",
        );
    }
    for (item, cost) in new
        .iter()
        .zip(debits)
        .filter(|(item, _)| !restarts && !old.iter().any(|other| same(item, other)))
    {
        add(
            item,
            invoice_lines::unused(cost, start, end, at),
            "Remaining time on",
        );
    }
    subscription["_pending"] = json!(pending);
}

/// What the running period of an item was billed at, discounts taken off: nobody is credited more than he paid.
fn paid_for(tx: &Tx<'_>, subscription: &Value, item: &Value) -> Option<i64> {
    let invoice = tx.get(kind::INVOICE, subscription["latest_invoice"].as_str()?)?;
    let line = invoice["lines"]["data"].as_array()?.iter().find(|line| {
        let of_item = &line["parent"]["subscription_item_details"];
        of_item["subscription_item"] == item["id"]
            && of_item["proration"] == false
            && line["pricing"]["price_details"]["price"] == item["price"]["id"]
            && line["quantity"] == item["quantity"]
            && line["period"]["end"] == item["current_period_end"]
    })?;
    let off: i64 = line["discount_amounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|amount| amount["amount"].as_i64())
        .sum();
    Some(line["amount"].as_i64()? - off)
}

/// What a whole period of each item costs with the discounts of today. Prorations are discounted here, once; their
/// lines are not discountable.
fn discounted(tx: &Tx<'_>, subscription: &Value, items: &[Value], at: i64, end: i64) -> Vec<i64> {
    let charges = invoice_lines::full_period(tx, items, at, end);
    let discounts = coupon::of(tx, &subscription["discounts"]);
    invoice_lines::discount(&charges, &discounts, tx.now).left
}
