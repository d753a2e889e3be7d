//! Owns coupons and the discounts they become on a subscription.
//!
//! Deliberately absent: promotion codes, and discounts on customers or single items.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::{Call, Operation, event, kind, operation, period};
use crate::ids;
use crate::store::Tx;

const FIELDS: &[&str] = &[
    "amount_off",
    "applies_to.products[]",
    "currency",
    "duration",
    "duration_in_months",
    "id",
    "max_redemptions",
    "metadata",
    "metadata.*",
    "name",
    "percent_off",
    "redeem_by",
];
/// Discounts on one subscription, as at Stripe.
const MOST_DISCOUNTS: usize = 20;

pub(super) const OPERATIONS: &[Operation] = &[
    operation("POST", "/v1/coupons", "coupons.create", FIELDS, create),
    operation(
        "GET",
        "/v1/coupons",
        "coupons.list",
        list_parameters!(),
        |tx, call| list::list(tx, call, kind::COUPON, |_| true),
    ),
    operation(
        "GET",
        "/v1/coupons/{id}",
        "coupons.retrieve",
        &[],
        |tx, call| get(tx, kind::COUPON, "coupon", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/coupons/{id}",
        "coupons.update",
        &["metadata", "metadata.*", "name"],
        update,
    ),
    operation("DELETE", "/v1/coupons/{id}", "coupons.delete", &[], delete),
];

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    let percent_off = params.number("percent_off")?;
    let amount_off = params.integer_from("amount_off", 1, 99_999_999)?;
    let currency = params.currency("currency")?;
    match (percent_off, amount_off) {
        (None, None) => return Err(StripeError::missing("percent_off")),
        (Some(_), Some(_)) => {
            let message = "You may only specify one of these parameters: percent_off, amount_off.";
            return Err(StripeError::parameter(
                "parameters_exclusive",
                "percent_off",
                message,
            ));
        }
        (Some(percent), None) if !(percent > 0.0 && percent <= 100.0) => {
            return Err(StripeError::parameter(
                "parameter_invalid",
                "percent_off",
                "Must be above 0 and at most 100",
            ));
        }
        (None, Some(_)) if currency.is_none() => return Err(StripeError::missing("currency")),
        _ => {}
    }
    let duration = params
        .one_of("duration", &["once", "repeating", "forever"])?
        .unwrap_or("once");
    let months = params.integer_from("duration_in_months", 1, 120)?;
    if duration == "repeating" && months.is_none() {
        return Err(StripeError::missing("duration_in_months"));
    }
    let id = params
        .text("id")?
        .map_or_else(|| ids::random(8), str::to_owned);
    if tx.get(kind::COUPON, &id).is_some() {
        return Err(
            StripeError::state(Some("resource_already_exists"), "Coupon already exists.")
                .with_param("id"),
        );
    }
    let applies_to = match params.object("applies_to")? {
        Some(applies_to) => {
            let products = applies_to.texts("products")?;
            for (index, product) in products.iter().enumerate() {
                let param = format!("applies_to[products][{index}]");
                list::get_named(tx, kind::PRODUCT, "product", product, &param)?;
            }
            json!({ "products": products })
        }
        None => Value::Null,
    };
    let coupon = json!({
        "id": id,
        "object": "coupon",
        "amount_off": amount_off,
        "created": tx.now,
        "currency": if amount_off.is_some() { json!(currency) } else { Value::Null },
        "duration": duration,
        "duration_in_months": months.filter(|_| duration == "repeating"),
        "livemode": false,
        "max_redemptions": params.integer_from("max_redemptions", 1, i64::from(i32::MAX))?,
        "metadata": params.metadata(None)?,
        "name": params.raw("name")?.filter(|text| !text.is_empty()),
        "percent_off": percent_off,
        "redeem_by": params.integer("redeem_by")?,
        "times_redeemed": 0,
        "valid": true,
        // Told only to those who expand it.
        "_applies_to": applies_to,
    });
    tx.put(kind::COUPON, coupon.clone());
    event::emit(tx, "coupon.created", &coupon, None);
    Ok(coupon)
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut coupon = get(tx, kind::COUPON, "coupon", call.id)?.clone();
    if let Some(name) = call.params.raw("name")? {
        coupon["name"] = if name.is_empty() {
            Value::Null
        } else {
            json!(name)
        };
    }
    coupon["metadata"] = call.params.metadata(Some(&coupon["metadata"]))?;
    event::put_updated(tx, kind::COUPON, "coupon.updated", coupon.clone());
    Ok(coupon)
}

fn delete(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let coupon = get(tx, kind::COUPON, "coupon", call.id)?.clone();
    tx.delete(kind::COUPON, call.id);
    event::emit(tx, "coupon.deleted", &coupon, None);
    Ok(json!({ "id": call.id, "object": "coupon", "deleted": true }))
}

/// What is discounted, as a request for it names it.
pub(super) struct Holder<'a> {
    pub subscription: &'a str,
    pub customer: &'a str,
    pub currency: &'a str,
}

/// The discounts that a request asks for: coupons by `discounts[][coupon]` or the older `coupon`, redeemed anew, and
/// discounts that are there already and stay.
pub(super) fn asked(
    tx: &mut Tx<'_>,
    params: &Params<'_>,
    holder: &Holder<'_>,
    present: &[Value],
) -> Result<Vec<Value>> {
    let mut discounts = Vec::new();
    if let Some(coupon) = params.text("coupon")? {
        discounts.push(redeem(tx, coupon, "coupon", holder)?);
    }
    let asked = params.objects("discounts")?;
    if asked.len() > MOST_DISCOUNTS {
        let message = format!("At most {MOST_DISCOUNTS} discounts");
        return Err(StripeError::parameter(
            "parameter_invalid",
            "discounts",
            message,
        ));
    }
    for discount in asked {
        if let Some(id) = discount.text("discount")? {
            let stays = present.iter().find(|there| **there == id);
            let stays = stays.ok_or_else(|| {
                StripeError::no_such("discount", id, &discount.name_of("discount"))
            })?;
            discounts.push(stays.clone());
            continue;
        }
        let coupon = discount.require_text("coupon")?;
        discounts.push(redeem(tx, coupon, &discount.name_of("coupon"), holder)?);
    }
    Ok(discounts)
}

/// Tells of the discounts that are no longer among those of a subscription.
pub(super) fn removed(tx: &mut Tx<'_>, before: &[Value], after: &[Value]) {
    for id in before.iter().filter(|id| !after.contains(id)) {
        let discount = id.as_str().and_then(|id| tx.get(kind::DISCOUNT, id));
        if let Some(discount) = discount.cloned() {
            event::emit(tx, "customer.discount.deleted", &discount, None);
        }
    }
}

/// Redeems a coupon for a subscription: counts it and makes the discount.
fn redeem(tx: &mut Tx<'_>, id: &str, param: &str, holder: &Holder<'_>) -> Result<Value> {
    let mut coupon = list::get_named(tx, kind::COUPON, "coupon", id, param)?.clone();
    let redeemed = coupon["times_redeemed"].as_i64().unwrap_or(0) + 1;
    let past = coupon["redeem_by"].as_i64().is_some_and(|by| by < tx.now);
    if coupon["valid"] != true || past {
        let message = format!("Coupon expired: {id}");
        return Err(StripeError::state(Some("coupon_expired"), message).with_param(param));
    }
    if coupon["amount_off"].is_i64() && coupon["currency"] != holder.currency {
        return Err(StripeError::state(
            None,
            "The coupon's currency differs from the subscription's.",
        )
        .with_param(param));
    }
    coupon["times_redeemed"] = json!(redeemed);
    coupon["valid"] = json!(
        coupon["max_redemptions"]
            .as_i64()
            .is_none_or(|most| redeemed < most)
    );
    let ends = match coupon["duration_in_months"].as_i64() {
        Some(months) => json!(period::add(tx.now, "month", months)),
        None => Value::Null,
    };
    let discount = json!({
        "id": ids::stripe("di"),
        "object": "discount",
        "checkout_session": null,
        "customer": holder.customer,
        "end": ends,
        "invoice": null,
        "invoice_item": null,
        "promotion_code": null,
        "source": { "coupon": id, "type": "coupon" },
        "start": tx.now,
        "subscription": holder.subscription,
        "subscription_item": null,
        // The terms as they were when redeemed: deleting the coupon does not take the discount away.
        "_terms": { "percent_off": coupon["percent_off"], "amount_off": coupon["amount_off"], "duration": coupon["duration"], "products": coupon["_applies_to"]["products"] },
    });
    tx.put(kind::COUPON, coupon);
    tx.put(kind::DISCOUNT, discount.clone());
    event::emit(tx, "customer.discount.created", &discount, None);
    Ok(discount["id"].clone())
}

/// The discounts that a subscription's `discounts` name.
pub(super) fn of(tx: &Tx<'_>, ids: &Value) -> Vec<Value> {
    ids.as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| tx.get(kind::DISCOUNT, id.as_str()?))
        .cloned()
        .collect()
}

/// Does the coupon behind a discount speak of this product?
pub(super) fn covers(discount: &Value, product: &Value) -> bool {
    match discount["_terms"]["products"].as_array() {
        Some(products) => products.contains(product),
        None => true,
    }
}

/// What a discount takes off `subtotal` at `now`.
pub(super) fn amount_off(discount: &Value, subtotal: i64, now: i64) -> i64 {
    if subtotal <= 0 || discount["end"].as_i64().is_some_and(|end| end <= now) {
        return 0;
    }
    let terms = &discount["_terms"];
    if let Some(amount) = terms["amount_off"].as_i64() {
        return amount.min(subtotal);
    }
    // In ten-thousandths of a percent and rounded half up, so that no float decides about a cent.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a percentage is at most 100"
    )]
    let millionths = (terms["percent_off"].as_f64().unwrap_or(0.0) * 10_000.0).round() as i128;
    let off = (i128::from(subtotal) * millionths + 500_000) / 1_000_000;
    i64::try_from(off).unwrap_or(subtotal).min(subtotal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discounts_round_half_up_and_never_exceed_the_subtotal() {
        let percent = |percent: f64| json!({ "_terms": { "percent_off": percent } });
        assert_eq!(amount_off(&percent(20.0), 99_700, 0), 19_940);
        assert_eq!(amount_off(&percent(33.33), 1_000, 0), 333);
        assert_eq!(amount_off(&percent(50.0), 1, 0), 1);
        assert_eq!(amount_off(&percent(100.0), 12_345, 0), 12_345);
        assert_eq!(
            amount_off(&json!({ "_terms": { "amount_off": 500 } }), 300, 0),
            300
        );
        assert_eq!(
            amount_off(
                &json!({ "end": 10, "_terms": { "percent_off": 50.0 } }),
                300,
                10
            ),
            0
        );
    }
}
