//! Owns payment links: an address that opens a new checkout session for everybody who follows it.
//!
//! Deliberately absent: adjustable quantities, custom fields and restrictions on how often it may be used.

use serde_json::{Value, json};

use super::{blank, data, line_items, read_items};
use crate::ids;
use crate::store::Tx;
use crate::stripe::errors::{Result, StripeError};
use crate::stripe::list::{self, get, list_parameters};
use crate::stripe::{Call, Operation, event, kind, operation};

const CREATE: &[&str] = &[
    "after_completion.redirect.url",
    "after_completion.type",
    "allow_promotion_codes",
    "currency",
    "customer_creation",
    "line_items[].price",
    "line_items[].price_data.currency",
    "line_items[].price_data.product",
    "line_items[].price_data.product_data.metadata.*",
    "line_items[].price_data.product_data.name",
    "line_items[].price_data.recurring.interval",
    "line_items[].price_data.recurring.interval_count",
    "line_items[].price_data.unit_amount",
    "line_items[].quantity",
    "metadata",
    "metadata.*",
    "payment_intent_data.description",
    "payment_intent_data.metadata.*",
    "payment_method_types[]",
    "subscription_data.description",
    "subscription_data.metadata.*",
    "subscription_data.trial_period_days",
];

pub(in crate::stripe) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/payment_links",
        "payment_links.create",
        CREATE,
        create,
    ),
    operation(
        "GET",
        "/v1/payment_links",
        "payment_links.list",
        list_parameters!("active"),
        |tx, call| {
            let active = call.params.boolean("active")?;
            list::list(tx, call, kind::PAYMENT_LINK, |link| {
                active.is_none_or(|active| link["active"] == active)
            })
        },
    ),
    operation(
        "GET",
        "/v1/payment_links/{id}",
        "payment_links.retrieve",
        &[],
        |tx, call| get(tx, kind::PAYMENT_LINK, "payment_link", call.id).cloned(),
    ),
    operation(
        "GET",
        "/v1/payment_links/{id}/line_items",
        "payment_links.list_line_items",
        list_parameters!(),
        |tx, call| {
            let lines = line_items(get(tx, kind::PAYMENT_LINK, "payment_link", call.id)?);
            list::page(call, &lines)
        },
    ),
    operation(
        "POST",
        "/v1/payment_links/{id}",
        "payment_links.update",
        &["active", "metadata", "metadata.*"],
        update,
    ),
];

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    // Whether it sells or subscribes follows from what it sells.
    let items = read_items(tx, params, "link")?;
    let id = format!("plink_{}", ids::random(24));
    let after = match params.object("after_completion")? {
        Some(after) => after.tree().clone(),
        None => {
            json!({ "hosted_confirmation": { "custom_message": null }, "type": "hosted_confirmation" })
        }
    };
    let link = json!({
        "id": id,
        "object": "payment_link",
        "active": true,
        "after_completion": after,
        "allow_promotion_codes": params.boolean("allow_promotion_codes")?.unwrap_or(false),
        "automatic_tax": { "enabled": false, "liability": null },
        "created": tx.now,
        "currency": items[0]["price"]["currency"],
        "livemode": false,
        "metadata": params.metadata(None)?,
        "payment_method_types": null,
        "url": format!("https://buy.stripe.com/test_{}", ids::random(18)),
        "_data": data(params)?,
        "_items": items,
    });
    tx.put(kind::PAYMENT_LINK, link.clone());
    event::emit(tx, "payment_link.created", &link, None);
    Ok(link)
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut link = get(tx, kind::PAYMENT_LINK, "payment_link", call.id)?.clone();
    if let Some(active) = call.params.boolean("active")? {
        link["active"] = json!(active);
    }
    link["metadata"] = call.params.metadata(Some(&link["metadata"]))?;
    event::put_updated(tx, kind::PAYMENT_LINK, "payment_link.updated", link.clone());
    Ok(link)
}

/// Somebody follows the link: a session of his own.
pub(in crate::stripe) fn open(
    tx: &mut Tx<'_>,
    id: &str,
    reference: Option<&str>,
    email: Option<&str>,
) -> Result<Value> {
    let link = get(tx, kind::PAYMENT_LINK, "payment_link", id)?.clone();
    if link["active"] != true {
        let message = "This payment link is no longer active.";
        return Err(StripeError::state(None, message));
    }
    let items = link["_items"].as_array().cloned().unwrap_or_default();
    let recurring = items
        .iter()
        .any(|item| item["price"]["type"] == "recurring");
    let mode = if recurring { "subscription" } else { "payment" };
    let mut session = blank(tx, mode, &items, link["metadata"].clone())?;
    session["payment_link"] = link["id"].clone();
    session["client_reference_id"] = json!(reference);
    session["customer_email"] = json!(email);
    session["success_url"] = link["after_completion"]["redirect"]["url"].clone();
    session["_data"] = link["_data"].clone();
    tx.put(kind::CHECKOUT_SESSION, session.clone());
    Ok(session)
}
