//! Owns products.
//!
//! Deliberately absent: features, packages and tax codes; `default_price_data`, because plans make their prices apart.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::{Call, Operation, event, kind, operation, search};
use crate::ids;
use crate::store::Tx;

const FIELDS: &[&str] = &[
    "active",
    "default_price",
    "description",
    "images[]",
    "metadata",
    "metadata.*",
    "name",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
];
const CREATE_FIELDS: &[&str] = &[
    "active",
    "description",
    "id",
    "images[]",
    "metadata",
    "metadata.*",
    "name",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "type",
    "unit_label",
    "url",
];

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/products",
        "products.create",
        CREATE_FIELDS,
        create,
    ),
    operation(
        "GET",
        "/v1/products",
        "products.list",
        list_parameters!("active", "ids[]", "shippable", "type", "url"),
        list_products,
    ),
    operation(
        "GET",
        "/v1/products/search",
        "products.search",
        search::PARAMETERS,
        |tx, call| search::search(tx, call, kind::PRODUCT),
    ),
    operation(
        "GET",
        "/v1/products/{id}",
        "products.retrieve",
        &[],
        |tx, call| get(tx, kind::PRODUCT, "product", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/products/{id}",
        "products.update",
        FIELDS,
        update,
    ),
    operation(
        "DELETE",
        "/v1/products/{id}",
        "products.delete",
        &[],
        delete,
    ),
];

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let name = call.params.require_text("name")?;
    let id = call
        .params
        .text("id")?
        .map_or_else(|| ids::stripe("prod"), str::to_owned);
    if tx.get(kind::PRODUCT, &id).is_some() {
        return Err(
            StripeError::state(Some("resource_already_exists"), "Product already exists.")
                .with_param("id"),
        );
    }
    let mut product = json!({
        "id": id,
        "object": "product",
        "active": true,
        "attributes": [],
        "created": tx.now,
        "default_price": null,
        "description": null,
        "images": [],
        "livemode": false,
        "marketing_features": [],
        "metadata": {},
        "name": name,
        "package_dimensions": null,
        "shippable": null,
        "statement_descriptor": null,
        "tax_code": null,
        "type": "service",
        "unit_label": null,
        "updated": tx.now,
        "url": null,
    });
    change(&mut product, &call.params)?;
    tx.put(kind::PRODUCT, product.clone());
    event::emit(tx, "product.created", &product, None);
    Ok(product)
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut product = get(tx, kind::PRODUCT, "product", call.id)?.clone();
    if let Some(price) = call.params.text("default_price")? {
        list::get_named(tx, kind::PRICE, "price", price, "default_price")?;
        product["default_price"] = json!(price);
    }
    change(&mut product, &call.params)?;
    product["updated"] = json!(tx.now);
    event::put_updated(tx, kind::PRODUCT, "product.updated", product.clone());
    Ok(product)
}

fn change(product: &mut Value, params: &Params<'_>) -> Result<()> {
    if let Some(name) = params.text("name")? {
        product["name"] = json!(name);
    }
    for field in [
        "description",
        "statement_descriptor",
        "tax_code",
        "unit_label",
        "url",
    ] {
        if let Some(text) = params.raw(field)? {
            product[field] = if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            };
        }
    }
    for field in ["active", "shippable"] {
        if let Some(flag) = params.boolean(field)? {
            product[field] = json!(flag);
        }
    }
    if params.has("images") {
        product["images"] = json!(params.texts("images")?);
    }
    product["metadata"] = params.metadata(Some(&product["metadata"]))?;
    Ok(())
}

fn list_products(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let active = call.params.boolean("active")?;
    let ids = call.params.texts("ids")?;
    list::list(tx, call, kind::PRODUCT, |product| {
        active.is_none_or(|active| product["active"] == active)
            && (ids.is_empty() || ids.iter().any(|id| product["id"] == *id))
    })
}

fn delete(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let product = get(tx, kind::PRODUCT, "product", call.id)?.clone();
    if !tx
        .newest_first(kind::PRICE, |price| price["product"] == call.id)
        .is_empty()
    {
        let message =
            "This product cannot be deleted because it has one or more user-created prices.";
        return Err(StripeError::state(None, message));
    }
    tx.delete(kind::PRODUCT, call.id);
    event::emit(tx, "product.deleted", &product, None);
    Ok(json!({ "id": call.id, "object": "product", "deleted": true }))
}
