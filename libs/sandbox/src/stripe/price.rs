//! Owns prices: fixed amounts per unit, once or recurring.
//!
//! Deliberately absent: tiers, custom amounts, currency options and metered usage.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::{Call, Operation, event, kind, operation, search};
use crate::ids;
use crate::store::{By, Tx};

const INTERVALS: &[&str] = &["day", "week", "month", "year"];
const CREATE_FIELDS: &[&str] = &[
    "active",
    "billing_scheme",
    "currency",
    "lookup_key",
    "metadata",
    "metadata.*",
    "nickname",
    "product",
    "product_data.id",
    "product_data.name",
    "product_data.active",
    "product_data.metadata.*",
    "recurring.interval",
    "recurring.interval_count",
    "recurring.usage_type",
    "tax_behavior",
    "transfer_lookup_key",
    "unit_amount",
    "unit_amount_decimal",
];
const UPDATE_FIELDS: &[&str] = &[
    "active",
    "lookup_key",
    "metadata",
    "metadata.*",
    "nickname",
    "tax_behavior",
    "transfer_lookup_key",
];

pub(super) const OPERATIONS: &[Operation] = &[
    operation("POST", "/v1/prices", "prices.create", CREATE_FIELDS, create),
    operation(
        "GET",
        "/v1/prices",
        "prices.list",
        list_parameters!(
            "active",
            "currency",
            "lookup_keys[]",
            "product",
            "recurring.interval",
            "type"
        ),
        list_prices,
    ),
    operation(
        "GET",
        "/v1/prices/search",
        "prices.search",
        search::PARAMETERS,
        |tx, call| search::search(tx, call, kind::PRICE),
    ),
    operation(
        "GET",
        "/v1/prices/{id}",
        "prices.retrieve",
        &[],
        |tx, call| get(tx, kind::PRICE, "price", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/prices/{id}",
        "prices.update",
        UPDATE_FIELDS,
        update,
    ),
];

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    make(tx, &call.params)
}

/// From a request of its own or the `price_data` of another.
pub(super) fn make(tx: &mut Tx<'_>, params: &Params<'_>) -> Result<Value> {
    let currency = params
        .currency("currency")?
        .ok_or_else(|| StripeError::missing("currency"))?;
    let amount = amount(params)?;
    let recurring = params
        .object("recurring")?
        .map(|recurring| read_recurring(&recurring))
        .transpose()?;
    let lookup_key = params.text("lookup_key")?;
    params.one_of("billing_scheme", &["per_unit"])?;
    let tax_behavior = params.one_of("tax_behavior", &["exclusive", "inclusive", "unspecified"])?;
    let product = product_of(tx, params)?;
    let mut price = json!({
        "id": ids::stripe("price"),
        "object": "price",
        "active": params.boolean("active")?.unwrap_or(true),
        "billing_scheme": "per_unit",
        "created": tx.now,
        "currency": currency,
        "custom_unit_amount": null,
        "livemode": false,
        "lookup_key": null,
        "metadata": params.metadata(None)?,
        "nickname": params.raw("nickname")?.filter(|text| !text.is_empty()),
        "product": product,
        "recurring": recurring,
        "tax_behavior": tax_behavior.unwrap_or("unspecified"),
        "tiers_mode": null,
        "transform_quantity": null,
        "type": if recurring.is_some() { "recurring" } else { "one_time" },
        "unit_amount": amount,
        "unit_amount_decimal": amount.to_string(),
    });
    take_lookup_key(
        tx,
        &mut price,
        lookup_key,
        params.boolean("transfer_lookup_key")?,
    )?;
    tx.put(kind::PRICE, price.clone());
    event::emit(tx, "price.created", &price, None);
    Ok(price)
}

fn amount(params: &Params<'_>) -> Result<i64> {
    if let Some(amount) = params.integer_from("unit_amount", 0, 99_999_999_999)? {
        return Ok(amount);
    }
    match params.number("unit_amount_decimal")? {
        // Whole cents are all the simulator counts in.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be whole and within range"
        )]
        Some(decimal) if decimal.fract() == 0.0 && (0.0..1e11).contains(&decimal) => {
            Ok(decimal as i64)
        }
        Some(_) => Err(StripeError::parameter(
            "parameter_invalid",
            "unit_amount_decimal",
            "Must be whole cents here",
        )),
        None => Err(StripeError::missing("unit_amount")),
    }
}

fn read_recurring(recurring: &Params<'_>) -> Result<Value> {
    let interval = recurring.one_of("interval", INTERVALS)?;
    let interval = interval.ok_or_else(|| StripeError::missing("recurring[interval]"))?;
    let most = match interval {
        "day" => 1095,
        "week" => 156,
        "month" => 36,
        _ => 3,
    };
    recurring.one_of("usage_type", &["licensed"])?;
    Ok(json!({
        "interval": interval,
        "interval_count": recurring.integer_from("interval_count", 1, most)?.unwrap_or(1),
        "meter": null,
        "trial_period_days": null,
        "usage_type": "licensed",
    }))
}

/// `product`, or one made from `product_data`.
fn product_of(tx: &mut Tx<'_>, params: &Params<'_>) -> Result<Value> {
    if let Some(id) = params.text("product")? {
        return Ok(list::get_named(tx, kind::PRODUCT, "product", id, "product")?["id"].clone());
    }
    let Some(data) = params.object("product_data")? else {
        return Err(StripeError::missing("product"));
    };
    let name = data.require_text("name")?;
    let id = data
        .text("id")?
        .map_or_else(|| ids::stripe("prod"), str::to_owned);
    let product = json!({
        "id": id, "object": "product", "active": data.boolean("active")?.unwrap_or(true), "attributes": [], "created": tx.now,
        "default_price": null, "description": null, "images": [], "livemode": false, "marketing_features": [],
        "metadata": data.metadata(None)?, "name": name, "package_dimensions": null, "shippable": null,
        "statement_descriptor": null, "tax_code": null, "type": "service", "unit_label": null, "updated": tx.now, "url": null,
    });
    tx.put(kind::PRODUCT, product.clone());
    event::emit(tx, "product.created", &product, None);
    Ok(product["id"].clone())
}

/// A lookup key belongs to one price; it moves only when asked to.
fn take_lookup_key(
    tx: &mut Tx<'_>,
    price: &mut Value,
    key: Option<&str>,
    transfer: Option<bool>,
) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let holder = tx
        .select(kind::PRICE, By::field("lookup_key", key).as_ref(), |p| {
            p["id"] != price["id"]
        })
        .first()
        .map(|p| (*p).clone());
    if let Some(mut holder) = holder {
        if transfer != Some(true) {
            let message = format!(
                "A price ({}) already uses that lookup key.",
                holder["id"].as_str().unwrap_or_default()
            );
            return Err(StripeError::state(None, message).with_param("lookup_key"));
        }
        holder["lookup_key"] = Value::Null;
        event::put_updated(tx, kind::PRICE, "price.updated", holder);
    }
    price["lookup_key"] = json!(key);
    Ok(())
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut price = get(tx, kind::PRICE, "price", call.id)?.clone();
    if let Some(active) = call.params.boolean("active")? {
        price["active"] = json!(active);
    }
    if let Some(nickname) = call.params.raw("nickname")? {
        price["nickname"] = if nickname.is_empty() {
            Value::Null
        } else {
            json!(nickname)
        };
    }
    if let Some(behavior) = call
        .params
        .one_of("tax_behavior", &["exclusive", "inclusive", "unspecified"])?
    {
        price["tax_behavior"] = json!(behavior);
    }
    take_lookup_key(
        tx,
        &mut price,
        call.params.text("lookup_key")?,
        call.params.boolean("transfer_lookup_key")?,
    )?;
    price["metadata"] = call.params.metadata(Some(&price["metadata"]))?;
    event::put_updated(tx, kind::PRICE, "price.updated", price.clone());
    Ok(price)
}

fn list_prices(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let active = call.params.boolean("active")?;
    let keys = call.params.texts("lookup_keys")?;
    let (product, currency, of_type) = (
        list::equals(call, "product")?,
        list::equals(call, "currency")?,
        list::equals(call, "type")?,
    );
    let interval = call
        .params
        .object("recurring")?
        .map(|r| r.one_of("interval", INTERVALS))
        .transpose()?
        .flatten();
    list::list(tx, call, kind::PRICE, |price| {
        active.is_none_or(|active| price["active"] == active)
            && (keys.is_empty() || keys.iter().any(|key| price["lookup_key"] == *key))
            && product(price)
            && currency(price)
            && of_type(price)
            && interval.is_none_or(|interval| price["recurring"]["interval"] == interval)
    })
}
