//! Owns an invoice's lines and arithmetic: subtotal, discounts, the customer's balance, what is due.
//!
//! Deliberately absent: taxes and shipping.

use serde_json::{Value, json};

use crate::ids;
use crate::store::Tx;
use crate::stripe::{coupon, kind, period};

/// One thing billed, before it is a line of an invoice.
#[derive(Clone, Debug)]
pub(in crate::stripe) struct Charge {
    pub item: String,
    pub price: Value,
    pub quantity: i64,
    pub amount: i64,
    pub description: String,
    pub start: i64,
    pub end: i64,
    pub proration: bool,
}

impl Charge {
    /// As it waits on a subscription for the next invoice.
    pub(in crate::stripe) fn to_pending(&self) -> Value {
        json!({
            "item": self.item, "price": self.price, "quantity": self.quantity, "amount": self.amount,
            "description": self.description, "start": self.start, "end": self.end,
        })
    }

    pub(in crate::stripe) fn from_pending(pending: &Value) -> Charge {
        let number = |field: &str| pending[field].as_i64().unwrap_or(0);
        let text = |field: &str| pending[field].as_str().unwrap_or_default().to_owned();
        Charge {
            item: text("item"),
            price: pending["price"].clone(),
            quantity: number("quantity"),
            amount: number("amount"),
            description: text("description"),
            start: number("start"),
            end: number("end"),
            proration: true,
        }
    }
}

/// What the items of a subscription cost for a whole period.
pub(in crate::stripe) fn full_period(
    tx: &Tx<'_>,
    items: &[Value],
    start: i64,
    end: i64,
) -> Vec<Charge> {
    items
        .iter()
        .map(|item| {
            let quantity = item["quantity"].as_i64().unwrap_or(1);
            let unit = item["price"]["unit_amount"].as_i64().unwrap_or(0);
            let name = product_name(tx, &item["price"]);
            let money = format!("{}.{:02}", unit / 100, unit % 100);
            let interval = item["price"]["recurring"]["interval"]
                .as_str()
                .unwrap_or("month");
            Charge {
                item: item["id"].as_str().unwrap_or_default().to_owned(),
                price: item["price"].clone(),
                quantity,
                amount: unit.saturating_mul(quantity),
                description: format!("{quantity} × {name} (at {money} / {interval})"),
                start,
                end,
                proration: false,
            }
        })
        .collect()
}

/// The same items during a trial: nothing.
pub(in crate::stripe) fn trial(tx: &Tx<'_>, items: &[Value], start: i64, end: i64) -> Vec<Charge> {
    let mut charges = full_period(tx, items, start, end);
    for charge in &mut charges {
        charge.amount = 0;
        charge.description = format!("Trial period for {}", product_name(tx, &charge.price));
    }
    charges
}

/// The unused part of `amount` for the period `start..end` at `now`, rounded half up.
pub(in crate::stripe) fn unused(amount: i64, start: i64, end: i64, now: i64) -> i64 {
    let length = i128::from((end - start).max(1));
    let left = i128::from((end - now).clamp(0, end - start));
    i64::try_from((i128::from(amount) * left * 2 + length) / (length * 2)).unwrap_or(amount)
}

pub(in crate::stripe) fn product_name(tx: &Tx<'_>, price: &Value) -> String {
    let product = price["product"]
        .as_str()
        .and_then(|id| tx.get(kind::PRODUCT, id));
    product
        .and_then(|product| product["name"].as_str())
        .unwrap_or("product")
        .to_owned()
}

/// The end of the period of `item` that starts at `start`.
pub(in crate::stripe) fn period_end(anchor: i64, price: &Value, start: i64) -> i64 {
    let interval = price["recurring"]["interval"].as_str().unwrap_or("month");
    period::end(
        anchor,
        start,
        interval,
        price["recurring"]["interval_count"].as_i64().unwrap_or(1),
    )
}

/// Fills `lines`, `subtotal`, `total`, `amount_due` and their companions in `invoice`. Returns the discounts that took
/// something off, which a coupon of duration `once` then has used up.
pub(in crate::stripe) fn write(
    tx: &Tx<'_>,
    invoice: &mut Value,
    charges: &[Charge],
    discounts: &[Value],
) -> Vec<String> {
    let id = invoice["id"].as_str().unwrap_or_default().to_owned();
    let subtotal: i64 = charges.iter().map(|charge| charge.amount).sum();
    let Discounted {
        left: nets,
        taken,
        portions,
    } = discount(charges, discounts, tx.now);
    let left: i64 = nets.iter().sum();
    let lines: Vec<Value> = charges
        .iter()
        .zip(portions)
        .map(|(charge, portions)| line(&id, invoice, charge, &portions))
        .collect();
    let balance = tx.get(
        kind::CUSTOMER,
        invoice["customer"].as_str().unwrap_or_default(),
    );
    let starting_balance = balance
        .and_then(|customer| customer["balance"].as_i64())
        .unwrap_or(0);
    // A negative balance is credit; a positive one is owed and comes on top. A negative total becomes credit.
    let due = (left + starting_balance).max(0);
    invoice["lines"] = json!({
        "object": "list", "data": lines, "has_more": false, "total_count": charges.len(), "url": format!("/v1/invoices/{id}/lines"),
    });
    invoice["subtotal"] = json!(subtotal);
    invoice["subtotal_excluding_tax"] = json!(subtotal);
    invoice["total"] = json!(left);
    invoice["total_excluding_tax"] = json!(left);
    invoice["total_discount_amounts"] = taken
        .iter()
        .map(|(discount, amount)| json!({ "amount": amount, "discount": discount }))
        .collect();
    invoice["discounts"] = discounts
        .iter()
        .map(|discount| discount["id"].clone())
        .collect();
    invoice["starting_balance"] = json!(starting_balance);
    invoice["_ending_balance"] = json!((left + starting_balance).min(0));
    invoice["amount_due"] = json!(due);
    invoice["amount_remaining"] = json!(due);
    taken.into_iter().map(|(discount, _)| discount).collect()
}

/// What discounts make of charges.
pub(in crate::stripe) struct Discounted {
    /// What is left of each charge.
    pub left: Vec<i64>,
    /// The discounts that took something off, and how much in all.
    taken: Vec<(String, i64)>,
    /// For each charge: which discount took how much.
    portions: Vec<Vec<(String, i64)>>,
}

/// Takes the discounts off, one after the other. Prorations are left alone: they were discounted when they were made.
pub(in crate::stripe) fn discount(charges: &[Charge], discounts: &[Value], now: i64) -> Discounted {
    let mut result = Discounted {
        left: charges.iter().map(|charge| charge.amount).collect(),
        taken: Vec::new(),
        portions: vec![Vec::new(); charges.len()],
    };
    for discount in discounts {
        let eligible: Vec<usize> = charges
            .iter()
            .enumerate()
            .filter(|(at, charge)| {
                !charge.proration
                    && result.left[*at] > 0
                    && coupon::covers(discount, &charge.price["product"])
            })
            .map(|(at, _)| at)
            .collect();
        let base: i64 = eligible.iter().map(|at| result.left[*at]).sum();
        let off = coupon::amount_off(discount, base, now);
        if off <= 0 {
            continue;
        }
        let id = discount["id"].as_str().unwrap_or_default();
        for (at, portion) in eligible.iter().zip(share(
            off,
            &eligible
                .iter()
                .map(|at| result.left[*at])
                .collect::<Vec<i64>>(),
        )) {
            if portion > 0 {
                result.left[*at] -= portion;
                result.portions[*at].push((id.to_owned(), portion));
            }
        }
        result.taken.push((id.to_owned(), off));
    }
    result
}

/// Spreads `off` over `amounts` in proportion and never more than there is; the odd cents go to the last ones that
/// have room, so that the parts add up.
fn share(off: i64, amounts: &[i64]) -> Vec<i64> {
    let base = amounts
        .iter()
        .map(|amount| i128::from(*amount))
        .sum::<i128>();
    let mut portions: Vec<i64> = amounts
        .iter()
        .map(|amount| {
            let portion = i128::from(off) * i128::from(*amount) / base.max(1);
            i64::try_from(portion).unwrap_or(0)
        })
        .collect();
    let mut odd = off - portions.iter().sum::<i64>();
    for (portion, amount) in portions.iter_mut().zip(amounts).rev() {
        let more = odd.min(amount - *portion);
        *portion += more;
        odd -= more;
    }
    portions
}

fn line(invoice_id: &str, invoice: &Value, charge: &Charge, portions: &[(String, i64)]) -> Value {
    let discount_amounts: Vec<Value> = portions
        .iter()
        .map(|(discount, amount)| json!({ "amount": amount, "discount": discount }))
        .collect();
    let subscription = &invoice["parent"]["subscription_details"]["subscription"];
    json!({
        "id": ids::stripe("il"),
        "object": "line_item",
        "amount": charge.amount,
        "currency": invoice["currency"],
        "description": charge.description,
        "discount_amounts": discount_amounts,
        "discountable": !charge.proration,
        "discounts": [],
        "invoice": invoice_id,
        "livemode": false,
        "metadata": invoice["parent"]["subscription_details"]["metadata"],
        "parent": {
            "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": null, "proration": charge.proration, "proration_details": { "credited_items": null },
                "subscription": subscription, "subscription_item": charge.item,
            },
            "type": "subscription_item_details",
        },
        "period": { "end": charge.end, "start": charge.start },
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": { "price": charge.price["id"], "product": charge.price["product"] },
            "type": "price_details",
            "unit_amount_decimal": charge.price["unit_amount_decimal"],
        },
        "quantity": charge.quantity,
        "subscription": subscription,
        "subtotal": charge.amount,
        "taxes": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_cents_never_take_more_from_a_line_than_it_has() {
        assert_eq!(share(2, &[1, 1, 1]), [0, 1, 1]);
        assert_eq!(share(6, &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(share(10, &[100, 0, 200]), [3, 0, 7]);
    }

    #[test]
    fn credit_and_debit_of_the_same_price_cancel_out() {
        for now in [0, 1, 333, 999, 1_000] {
            assert_eq!(
                unused(9_900, 0, 1_000, now) - unused(9_900, 0, 1_000, now),
                0
            );
        }
        assert_eq!(unused(1_000, 0, 1_000, 0), 1_000);
        assert_eq!(unused(1_000, 0, 1_000, 500), 500);
        assert_eq!(unused(1_001, 0, 2, 1), 501);
        assert_eq!(unused(1_000, 0, 1_000, 1_000), 0);
    }
}
