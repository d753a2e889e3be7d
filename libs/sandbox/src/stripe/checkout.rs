//! Owns checkout sessions: a page on which somebody pays, subscribes or leaves a card, and what comes of it.
//!
//! ```text
//! open ── the payer completes ──▶ complete (paid | unpaid, and then paid or failed later | no_payment_required)
//!  └── expire, or `expires_at` ──▶ expired
//! ```
//!
//! Payment links, which open sessions, are in `links`; what the payer does is in `payer`.
//!
//! Deliberately absent: the page itself, promotion codes, taxes, shipping and embedded modes.

pub(super) mod links;
pub(super) mod payer;

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::{Call, Operation, customer, event, invoice, kind, operation, price, test_clock};
use crate::ids;
use crate::store::Tx;

const CREATE: &[&str] = &[
    "allow_promotion_codes",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "currency",
    "customer",
    "customer_creation",
    "customer_email",
    "discounts[].coupon",
    "expires_at",
    "line_items[].price",
    "line_items[].price_data.currency",
    "line_items[].price_data.product",
    "line_items[].price_data.product_data.metadata.*",
    "line_items[].price_data.product_data.name",
    "line_items[].price_data.recurring.interval",
    "line_items[].price_data.recurring.interval_count",
    "line_items[].price_data.unit_amount",
    "line_items[].quantity",
    "locale",
    "metadata",
    "metadata.*",
    "mode",
    "payment_intent_data.description",
    "payment_intent_data.metadata.*",
    "payment_intent_data.setup_future_usage",
    "payment_method_collection",
    "payment_method_types[]",
    "setup_intent_data.metadata.*",
    "subscription_data.description",
    "subscription_data.metadata.*",
    "subscription_data.trial_end",
    "subscription_data.trial_period_days",
    "success_url",
    "ui_mode",
];
const MODES: [&str; 3] = ["payment", "setup", "subscription"];
const MOST_ITEMS: usize = 20;
const LIFE_SECONDS: i64 = 24 * 3600;
const SHORTEST_SECONDS: i64 = 30 * 60;

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/checkout/sessions",
        "checkout_sessions.create",
        CREATE,
        create,
    ),
    operation(
        "GET",
        "/v1/checkout/sessions",
        "checkout_sessions.list",
        list_parameters!(
            "customer",
            "payment_intent",
            "payment_link",
            "status",
            "subscription"
        ),
        list_sessions,
    ),
    operation(
        "GET",
        "/v1/checkout/sessions/{id}",
        "checkout_sessions.retrieve",
        &[],
        |tx, call| get(tx, kind::CHECKOUT_SESSION, "checkout.session", call.id).cloned(),
    ),
    operation(
        "GET",
        "/v1/checkout/sessions/{id}/line_items",
        "checkout_sessions.list_line_items",
        list_parameters!(),
        |tx, call| {
            let session = get(tx, kind::CHECKOUT_SESSION, "checkout.session", call.id)?;
            let lines = line_items(session);
            list::page(call, &lines)
        },
    ),
    operation(
        "POST",
        "/v1/checkout/sessions/{id}",
        "checkout_sessions.update",
        &["metadata", "metadata.*"],
        |tx, call| {
            let mut session = get(tx, kind::CHECKOUT_SESSION, "checkout.session", call.id)?.clone();
            session["metadata"] = call.params.metadata(Some(&session["metadata"]))?;
            tx.put(kind::CHECKOUT_SESSION, session.clone());
            Ok(session)
        },
    ),
    operation(
        "POST",
        "/v1/checkout/sessions/{id}/expire",
        "checkout_sessions.expire",
        &[],
        |tx, call| {
            let session = open_one(tx, call.id)?;
            Ok(expire(tx, session))
        },
    ),
];

fn list_sessions(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let status = call
        .params
        .one_of("status", &["complete", "expired", "open"])?;
    let equal = [
        list::equals(call, "customer")?,
        list::equals(call, "payment_intent")?,
        list::equals(call, "payment_link")?,
        list::equals(call, "subscription")?,
    ];
    // Not by the index of `_subscription`, which is for what belongs to one: a session made one.
    list::list_by(tx, call, kind::CHECKOUT_SESSION, None, |session| {
        status.is_none_or(|status| session["status"] == status)
            && equal.iter().all(|equal| equal(session))
    })
}

fn open_one(tx: &Tx<'_>, id: &str) -> Result<Value> {
    let session = get(tx, kind::CHECKOUT_SESSION, "checkout.session", id)?;
    if session["status"] == "open" {
        return Ok(session.clone());
    }
    let status = session["status"].as_str().unwrap_or_default();
    let message =
        format!("Only Checkout Sessions with a status of open can do this; this one is {status}.");
    Err(StripeError::state(None, message))
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    let mode = params
        .one_of("mode", &MODES)?
        .ok_or_else(|| StripeError::missing("mode"))?;
    let ui_mode = params.one_of("ui_mode", &["hosted"])?.unwrap_or("hosted");
    let success_url = params.require_text("success_url")?;
    let expires_at = params.integer("expires_at")?;
    if expires_at.is_some_and(|at| at < tx.now + SHORTEST_SECONDS || at > tx.now + LIFE_SECONDS) {
        let message = "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.";
        return Err(StripeError::parameter(
            "parameter_invalid",
            "expires_at",
            message,
        ));
    }
    let owner = match params.text("customer")? {
        Some(id) => customer::live(tx, id, "customer")?.clone(),
        None => Value::Null,
    };
    let items = read_items(tx, params, mode)?;
    let mut session = blank(tx, mode, &items, params.metadata(None)?)?;
    session["customer"] = owner["id"].clone();
    session["ui_mode"] = json!(ui_mode);
    session["success_url"] = json!(success_url);
    for field in [
        "cancel_url",
        "client_reference_id",
        "customer_email",
        "locale",
    ] {
        if let Some(text) = params.text(field)? {
            session[field] = json!(text);
        }
    }
    if let Some(at) = expires_at {
        session["expires_at"] = json!(at);
        session["_due_at"] = json!(at);
    }
    session["_clock"] = test_clock::of(tx, &session);
    session["_data"] = data(params)?;
    let coupons = params.objects("discounts")?;
    let coupons: Result<Vec<&str>> = coupons
        .iter()
        .map(|discount| discount.require_text("coupon"))
        .collect();
    session["_coupons"] = json!(coupons?);
    tx.put(kind::CHECKOUT_SESSION, session.clone());
    Ok(session)
}

/// What the session's subscription, payment or setup intent will carry.
fn data(params: &Params<'_>) -> Result<Value> {
    let mut data = json!({ "metadata": {} });
    for part in [
        "subscription_data",
        "payment_intent_data",
        "setup_intent_data",
    ] {
        let Some(part) = params.object(part)? else {
            continue;
        };
        data["metadata"] = part.metadata(Some(&data["metadata"]))?;
        for field in [
            "description",
            "setup_future_usage",
            "trial_end",
            "trial_period_days",
        ] {
            if let Some(text) = part.text(field)? {
                data[field] = json!(text);
            }
        }
    }
    Ok(data)
}

fn read_items(tx: &mut Tx<'_>, params: &Params<'_>, mode: &str) -> Result<Vec<Value>> {
    let asked = params.objects("line_items")?;
    if asked.is_empty() && mode != "setup" {
        return Err(StripeError::missing("line_items"));
    }
    if asked.len() > MOST_ITEMS {
        let message = format!("At most {MOST_ITEMS} items");
        return Err(StripeError::parameter(
            "parameter_invalid",
            "line_items",
            message,
        ));
    }
    let mut items = Vec::new();
    for item in &asked {
        let price = match (item.text("price")?, item.object("price_data")?) {
            (Some(id), None) => {
                list::get_named(tx, kind::PRICE, "price", id, &item.name_of("price"))?.clone()
            }
            (None, Some(data)) => price::make(tx, &data)?,
            _ => return Err(StripeError::missing(&item.name_of("price"))),
        };
        let quantity = item.integer_from("quantity", 1, 1_000_000)?;
        let quantity = quantity.ok_or_else(|| StripeError::missing(&item.name_of("quantity")))?;
        items.push(json!({ "id": ids::stripe("li"), "price": price, "quantity": quantity }));
    }
    let recurring = items
        .iter()
        .any(|item| item["price"]["type"] == "recurring");
    if mode == "payment" && recurring {
        let message = "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode \
                       or use only one-time prices.";
        return Err(StripeError::state(None, message).with_param("line_items"));
    }
    if recurring
        && items
            .iter()
            .any(|item| item["price"]["type"] != "recurring")
    {
        let message = "One-time prices beside recurring ones are not simulated.";
        return Err(StripeError::state(None, message).with_param("line_items"));
    }
    if mode == "subscription" && !recurring {
        let message = "You must provide at least one recurring price in `subscription` mode when using prices.";
        return Err(StripeError::state(None, message).with_param("line_items"));
    }
    Ok(items)
}

fn amount(items: &[Value]) -> i64 {
    items
        .iter()
        .map(|item| {
            let unit = item["price"]["unit_amount"].as_i64().unwrap_or(0);
            unit.saturating_mul(item["quantity"].as_i64().unwrap_or(1))
        })
        .sum()
}

fn blank(tx: &Tx<'_>, mode: &str, items: &[Value], metadata: Value) -> Result<Value> {
    let currency = items
        .first()
        .map_or(Value::Null, |item| item["price"]["currency"].clone());
    if items
        .iter()
        .any(|item| item["price"]["currency"] != currency)
    {
        let message = "All prices of a Checkout Session must have the same currency.";
        return Err(StripeError::state(None, message).with_param("line_items"));
    }
    let amount = amount(items);
    let id = format!("cs_test_{}", ids::random(58));
    let expires_at = tx.now + LIFE_SECONDS;
    Ok(json!({
        "id": id,
        "object": "checkout.session",
        "amount_subtotal": if mode == "setup" { Value::Null } else { json!(amount) },
        "amount_total": if mode == "setup" { Value::Null } else { json!(amount) },
        "automatic_tax": { "enabled": false, "liability": null, "provider": null, "status": null },
        "billing_address_collection": null,
        "cancel_url": null,
        "client_reference_id": null,
        "client_secret": null,
        "consent": null,
        "created": tx.now,
        "currency": currency,
        "custom_fields": [],
        "customer": null,
        "customer_creation": if mode == "subscription" { "always" } else { "if_required" },
        "customer_details": null,
        "customer_email": null,
        "discounts": [],
        "expires_at": expires_at,
        "invoice": null,
        "livemode": false,
        "locale": null,
        "metadata": metadata,
        "mode": mode,
        "payment_intent": null,
        "payment_link": null,
        "payment_method_collection": "always",
        "payment_method_types": ["card"],
        "payment_status": if mode == "setup" { "no_payment_required" } else { "unpaid" },
        "recovered_from": null,
        "setup_intent": null,
        "shipping_cost": null,
        "status": "open",
        "subscription": null,
        "success_url": null,
        "total_details": { "amount_discount": 0, "amount_shipping": 0, "amount_tax": 0 },
        "ui_mode": "hosted",
        "url": format!("https://checkout.stripe.com/c/pay/{id}"),
        "_coupons": [],
        "_data": { "metadata": {} },
        "_due_at": expires_at,
        "_items": items,
    }))
}

/// What is bought, as the API tells it.
pub(super) fn line_items(session: &Value) -> Vec<Value> {
    session["_items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            let amount = amount(std::slice::from_ref(item));
            json!({
                "id": item["id"],
                "object": "item",
                "amount_discount": 0,
                "amount_subtotal": amount,
                "amount_tax": 0,
                "amount_total": amount,
                "currency": item["price"]["currency"],
                "description": null,
                "price": item["price"],
                "quantity": item["quantity"],
            })
        })
        .collect()
}

/// Nobody came in time, or nobody is to come any more.
pub(super) fn expire(tx: &mut Tx<'_>, mut session: Value) -> Value {
    session["status"] = json!("expired");
    session["url"] = Value::Null;
    session["_due_at"] = Value::Null;
    tx.put(kind::CHECKOUT_SESSION, session.clone());
    event::emit(tx, "checkout.session.expired", &session, None);
    session
}

/// Its time has come.
pub(super) fn due(tx: &mut Tx<'_>, session: Value) {
    if session["status"] == "open" {
        expire(tx, session);
    }
}

/// The intent that an invoice asks for money by.
fn intent_of(tx: &Tx<'_>, invoice: &Value) -> Option<Value> {
    let invoice = tx.get(kind::INVOICE, invoice.as_str()?)?;
    invoice::intent(tx, invoice)
}
