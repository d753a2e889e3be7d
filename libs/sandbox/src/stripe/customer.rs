//! Owns customers: create, retrieve, update, list, search, delete.
//!
//! Deliberately absent: sources, tax ids and cash balances.

use serde_json::{Value, json};

use super::errors::Result;
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::{Call, Operation, event, kind, operation, payment_method, search, subscription};
use crate::ids;
use crate::store::{By, Tx};

const FIELDS: &[&str] = &[
    "address.city",
    "address.country",
    "address.line1",
    "address.line2",
    "address.postal_code",
    "address.state",
    "balance",
    "description",
    "email",
    "invoice_prefix",
    "invoice_settings.default_payment_method",
    "invoice_settings.footer",
    "metadata",
    "metadata.*",
    "name",
    "next_invoice_sequence",
    "payment_method",
    "phone",
    "preferred_locales[]",
    "shipping.*",
    "tax_exempt",
    "validate",
];
const CREATE_FIELDS: &[&str] = &[
    "address.city",
    "address.country",
    "address.line1",
    "address.line2",
    "address.postal_code",
    "address.state",
    "balance",
    "description",
    "email",
    "invoice_prefix",
    "invoice_settings.default_payment_method",
    "invoice_settings.footer",
    "metadata",
    "metadata.*",
    "name",
    "next_invoice_sequence",
    "payment_method",
    "phone",
    "preferred_locales[]",
    "shipping.*",
    "tax_exempt",
    "test_clock",
    "validate",
];

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/customers",
        "customers.create",
        CREATE_FIELDS,
        create,
    ),
    operation(
        "GET",
        "/v1/customers",
        "customers.list",
        list_parameters!("email", "test_clock"),
        list_customers,
    ),
    operation(
        "GET",
        "/v1/customers/search",
        "customers.search",
        search::PARAMETERS,
        |tx, call| search::search(tx, call, kind::CUSTOMER),
    ),
    operation(
        "GET",
        "/v1/customers/{id}",
        "customers.retrieve",
        &[],
        |tx, call| get(tx, kind::CUSTOMER, "customer", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/customers/{id}",
        "customers.update",
        FIELDS,
        update,
    ),
    operation(
        "DELETE",
        "/v1/customers/{id}",
        "customers.delete",
        &[],
        delete,
    ),
    operation(
        "GET",
        "/v1/customers/{id}/payment_methods",
        "customers.list_payment_methods",
        list_parameters!("type"),
        |tx, call| {
            live(tx, call.id, "id")?;
            let of_type = list::equals(call, "type")?;
            let own = By::customer(call.id);
            list::list_by(tx, call, kind::PAYMENT_METHOD, own.as_ref(), of_type)
        },
    ),
];

/// A customer that is there and not deleted.
pub(super) fn live<'t>(tx: &'t Tx<'_>, id: &str, param: &str) -> Result<&'t Value> {
    let customer = list::get_named(tx, kind::CUSTOMER, "customer", id, param)?;
    if customer["deleted"] == true {
        return Err(super::errors::StripeError::no_such("customer", id, param));
    }
    Ok(customer)
}

fn blank(now: i64) -> Value {
    json!({
        "id": ids::stripe("cus"),
        "object": "customer",
        "address": null,
        "balance": 0,
        "created": now,
        "currency": null,
        "default_source": null,
        "delinquent": false,
        "description": null,
        "discount": null,
        "email": null,
        "invoice_prefix": ids::random(8).to_ascii_uppercase(),
        "invoice_settings": { "custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null },
        "livemode": false,
        "metadata": {},
        "name": null,
        "next_invoice_sequence": 1,
        "phone": null,
        "preferred_locales": [],
        "shipping": null,
        "tax_exempt": "none",
        "test_clock": null,
    })
}

/// A customer made by a page of Stripe's own.
pub(super) fn make(tx: &mut Tx<'_>, email: Option<&str>, name: Option<&str>) -> Value {
    let mut customer = blank(tx.now);
    customer["email"] = json!(email);
    customer["name"] = json!(name);
    tx.put(kind::CUSTOMER, customer.clone());
    event::emit(tx, "customer.created", &customer, None);
    customer
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut customer = blank(tx.now);
    if let Some(clock) = call.params.text("test_clock")? {
        list::get_named(tx, kind::TEST_CLOCK, "test clock", clock, "test_clock")?;
        customer["test_clock"] = json!(clock);
        customer["_clock"] = json!(clock);
    }
    change(&mut customer, &call.params)?;
    tx.put(kind::CUSTOMER, customer.clone());
    event::emit(tx, "customer.created", &customer, None);
    attach_and_default(tx, &customer, &call.params)
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut customer = live(tx, call.id, "id")?.clone();
    change(&mut customer, &call.params)?;
    event::put_updated(tx, kind::CUSTOMER, "customer.updated", customer.clone());
    attach_and_default(tx, &customer, &call.params)
}

/// The plain fields.
fn change(customer: &mut Value, params: &Params<'_>) -> Result<()> {
    for field in ["description", "email", "name", "phone"] {
        if let Some(text) = params.raw(field)? {
            customer[field] = if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            };
        }
    }
    if let Some(prefix) = params.text("invoice_prefix")? {
        customer["invoice_prefix"] = json!(prefix);
    }
    for field in ["balance", "next_invoice_sequence"] {
        if let Some(number) = params.integer(field)? {
            customer[field] = json!(number);
        }
    }
    if let Some(exempt) = params.one_of("tax_exempt", &["none", "exempt", "reverse"])? {
        customer["tax_exempt"] = json!(exempt);
    }
    if params.has("preferred_locales") {
        customer["preferred_locales"] = json!(params.texts("preferred_locales")?);
    }
    if let Some(address) = params.object("address")? {
        let mut fields = json!({});
        for field in ["city", "country", "line1", "line2", "postal_code", "state"] {
            fields[field] = address
                .raw(field)?
                .filter(|text| !text.is_empty())
                .map_or(Value::Null, |text| json!(text));
        }
        customer["address"] = fields;
    }
    if let Some(shipping) = params.object("shipping")? {
        customer["shipping"] = shipping.tree().clone();
    }
    if let Some(footer) = params
        .object("invoice_settings")?
        .map(|s| s.raw("footer"))
        .transpose()?
        .flatten()
    {
        customer["invoice_settings"]["footer"] = if footer.is_empty() {
            Value::Null
        } else {
            json!(footer)
        };
    }
    customer["metadata"] = params.metadata(Some(&customer["metadata"]))?;
    Ok(())
}

/// `payment_method` is attached; `invoice_settings[default_payment_method]` must be attached already or be that one.
fn attach_and_default(tx: &mut Tx<'_>, customer: &Value, params: &Params<'_>) -> Result<Value> {
    let id = customer["id"].as_str().unwrap_or_default();
    let asked = params.text("payment_method")?;
    let attached = asked
        .map(|pm| payment_method::attach_to(tx, pm, id, "payment_method"))
        .transpose()?;
    let mut customer = customer.clone();
    let wanted = params
        .object("invoice_settings")?
        .map(|s| s.raw("default_payment_method"))
        .transpose()?
        .flatten();
    if let Some(wanted) = wanted {
        let default = match (&attached, wanted) {
            (_, "") => Value::Null,
            // Magic ids become real ones when attached; the caller may go on using the magic name in this request.
            (Some(attached), wanted) if asked == Some(wanted) => attached["id"].clone(),
            (_, wanted) => payment_method::of_customer(
                tx,
                wanted,
                id,
                "invoice_settings[default_payment_method]",
            )?["id"]
                .clone(),
        };
        customer["invoice_settings"]["default_payment_method"] = default;
        event::put_updated(tx, kind::CUSTOMER, "customer.updated", customer.clone());
    }
    Ok(customer)
}

fn list_customers(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let email = list::equals(call, "email")?;
    // Those who live by another clock are only listed by it.
    let clock = call.params.text("test_clock")?;
    list::list(tx, call, kind::CUSTOMER, |customer| {
        customer["deleted"] != true && email(customer) && customer["test_clock"].as_str() == clock
    })
}

/// Cancels what is running, detaches the cards and leaves a tombstone, as Stripe does.
fn delete(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let customer = live(tx, call.id, "id")?.clone();
    let own = By::customer(call.id);
    let running = tx.select(kind::SUBSCRIPTION, own.as_ref(), subscription::is_live);
    let running: Vec<Value> = running.into_iter().cloned().collect();
    for subscription in running {
        subscription::end(tx, subscription, "canceled", tx.now);
    }
    let cards = tx.select(kind::PAYMENT_METHOD, own.as_ref(), |_| true);
    let cards: Vec<Value> = cards.into_iter().cloned().collect();
    for mut card in cards {
        card["customer"] = Value::Null;
        tx.put(kind::PAYMENT_METHOD, card);
    }
    let tombstone = json!({ "id": call.id, "object": "customer", "deleted": true, "created": customer["created"] });
    tx.put(kind::CUSTOMER, tombstone);
    event::emit(tx, "customer.deleted", &customer, None);
    Ok(json!({ "id": call.id, "object": "customer", "deleted": true }))
}

/// Whether the holder's bank refuses everything for now, whatever the card.
pub(super) fn bank_declines(tx: &Tx<'_>, of: &Value) -> bool {
    let customer = of["customer"].as_str();
    let customer = customer.and_then(|id| tx.get(kind::CUSTOMER, id));
    customer.is_some_and(|customer| customer["_bank_declines"] == true)
}
