//! Owns setup intents: a card is made ready for payments without its holder.
//!
//! ```text
//! requires_payment_method ──▶ requires_confirmation ──▶ succeeded
//!          ▲        declined ─────────┘   └─▶ requires_action ──▶ succeeded | requires_payment_method
//! any but succeeded ──▶ canceled
//! ```
//!
//! Deliberately absent: mandates and attempts.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::payment_method::{self, Behavior};
use super::{Call, Operation, customer, event, kind, operation, payment_intent};
use crate::ids;
use crate::store::Tx;

const CREATE: &[&str] = &[
    "automatic_payment_methods.allow_redirects",
    "automatic_payment_methods.enabled",
    "confirm",
    "customer",
    "description",
    "metadata",
    "metadata.*",
    "payment_method",
    "payment_method_types[]",
    "return_url",
    "usage",
];

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/setup_intents",
        "setup_intents.create",
        CREATE,
        create,
    ),
    operation(
        "GET",
        "/v1/setup_intents",
        "setup_intents.list",
        list_parameters!("customer", "payment_method"),
        |tx, call| {
            let (of_customer, of_method) = (
                list::equals(call, "customer")?,
                list::equals(call, "payment_method")?,
            );
            list::list(tx, call, kind::SETUP_INTENT, |intent| {
                of_customer(intent) && of_method(intent)
            })
        },
    ),
    operation(
        "GET",
        "/v1/setup_intents/{id}",
        "setup_intents.retrieve",
        &["client_secret"],
        |tx, call| get(tx, kind::SETUP_INTENT, "setupintent", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/setup_intents/{id}/confirm",
        "setup_intents.confirm",
        &["payment_method", "return_url"],
        confirm_call,
    ),
    operation(
        "POST",
        "/v1/setup_intents/{id}/cancel",
        "setup_intents.cancel",
        &["cancellation_reason"],
        cancel,
    ),
];

/// A new intent, staged and told of.
pub(super) fn open(tx: &mut Tx<'_>, customer: &Value, metadata: Value) -> Value {
    let id = ids::stripe("seti");
    let intent = json!({
        "id": id,
        "object": "setup_intent",
        "application": null,
        "automatic_payment_methods": null,
        "cancellation_reason": null,
        "client_secret": format!("{id}_secret_{}", ids::random(24)),
        "created": tx.now,
        "customer": customer,
        "description": null,
        "last_setup_error": null,
        "latest_attempt": null,
        "livemode": false,
        "mandate": null,
        "metadata": metadata,
        "next_action": null,
        "payment_method": null,
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
        "usage": "off_session",
    });
    tx.put(kind::SETUP_INTENT, intent.clone());
    event::emit(tx, "setup_intent.created", &intent, None);
    intent
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    let owner = match params.text("customer")? {
        Some(id) => customer::live(tx, id, "customer")?["id"].clone(),
        None => Value::Null,
    };
    let usage = params.one_of("usage", &["off_session", "on_session"])?;
    let confirm_now = params.boolean("confirm")?.unwrap_or(false);
    let description = params.raw("description")?.filter(|text| !text.is_empty());
    let mut intent = open(tx, &owner, params.metadata(None)?);
    intent["usage"] = json!(usage.unwrap_or("off_session"));
    intent["description"] = json!(description);
    take_parameters(tx, &mut intent, params)?;
    tx.put(kind::SETUP_INTENT, intent.clone());
    if confirm_now {
        return confirm(tx, intent);
    }
    Ok(intent)
}

fn take_parameters(tx: &mut Tx<'_>, intent: &mut Value, params: &Params<'_>) -> Result<()> {
    if let Some(url) = params.text("return_url")? {
        intent["_return_url"] = json!(url);
    }
    if let Some(id) = params.text("payment_method")? {
        let method = payment_method::usable(tx, id, "payment_method")?;
        if !method["customer"].is_null() && method["customer"] != intent["customer"] {
            let message = "The provided PaymentMethod belongs to another Customer; pass that customer or another method.";
            return Err(
                StripeError::state(Some("payment_method_unexpected_state"), message)
                    .with_param("payment_method"),
            );
        }
        intent["payment_method"] = method["id"].clone();
        intent["status"] = json!("requires_confirmation");
        tx.put(kind::PAYMENT_METHOD, method);
    }
    Ok(())
}

fn confirm_call(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut intent = get(tx, kind::SETUP_INTENT, "setupintent", call.id)?.clone();
    if intent["status"] == "succeeded" || intent["status"] == "canceled" {
        return Err(unexpected_state(&intent, "confirmed"));
    }
    take_parameters(tx, &mut intent, &call.params)?;
    tx.put(kind::SETUP_INTENT, intent.clone());
    confirm(tx, intent)
}

fn unexpected_state(intent: &Value, verb: &str) -> Box<StripeError> {
    let status = intent["status"].as_str().unwrap_or_default();
    let message =
        format!("This SetupIntent could not be {verb} because it has a status of {status}.");
    let mut error = StripeError::state(Some("setup_intent_unexpected_state"), message);
    error
        .more
        .insert("setup_intent".into(), super::public(intent));
    error
}

pub(super) fn confirm(tx: &mut Tx<'_>, mut intent: Value) -> Result<Value> {
    let method = intent["payment_method"]
        .as_str()
        .and_then(|id| tx.get(kind::PAYMENT_METHOD, id))
        .cloned();
    let Some(method) = method else {
        let message = "You cannot confirm this SetupIntent because it's missing a payment method.";
        return Err(StripeError::state(
            Some("setup_intent_unexpected_state"),
            message,
        ));
    };
    match payment_method::behavior(&method) {
        Behavior::Declines(code, decline_code, message) => {
            let mut error = StripeError::declined(code, decline_code, message);
            let failed = fail(tx, intent, &method, &error);
            error
                .more
                .insert("setup_intent".into(), super::public(&failed));
            error.keeps_effects = true;
            Err(error)
        }
        Behavior::NeedsAuthentication | Behavior::NeedsSetup | Behavior::NeedsSetupThenDeclines => {
            intent["status"] = json!("requires_action");
            intent["next_action"] = payment_intent::next_action(&intent);
            tx.put(kind::SETUP_INTENT, intent.clone());
            event::emit(tx, "setup_intent.requires_action", &intent, None);
            Ok(intent)
        }
        _ => succeed(tx, intent, method),
    }
}

/// The holder passed or failed the bank's page.
pub(super) fn authenticate(tx: &mut Tx<'_>, id: &str, succeeded: bool) -> Result<Value> {
    let mut intent = get(tx, kind::SETUP_INTENT, "setupintent", id)?.clone();
    if intent["status"] != "requires_action" {
        return Err(unexpected_state(&intent, "authenticated"));
    }
    let method = intent["payment_method"]
        .as_str()
        .and_then(|id| tx.get(kind::PAYMENT_METHOD, id))
        .cloned()
        .unwrap_or(Value::Null);
    intent["next_action"] = Value::Null;
    if succeeded {
        return succeed(tx, intent, method);
    }
    let code = "setup_intent_authentication_failure";
    let error = StripeError::declined(code, None, payment_intent::UNABLE);
    Ok(fail(tx, intent, &method, &error))
}

fn succeed(tx: &mut Tx<'_>, mut intent: Value, mut method: Value) -> Result<Value> {
    method["_set_up"] = json!(true);
    let method_id = method["id"].as_str().unwrap_or_default().to_owned();
    tx.put(kind::PAYMENT_METHOD, method);
    if let Some(customer) = intent["customer"].as_str() {
        payment_method::attach_to(tx, &method_id, customer, "payment_method")?;
    }
    intent["status"] = json!("succeeded");
    intent["last_setup_error"] = Value::Null;
    tx.put(kind::SETUP_INTENT, intent.clone());
    event::emit(tx, "setup_intent.succeeded", &intent, None);
    Ok(intent)
}

fn fail(tx: &mut Tx<'_>, mut intent: Value, method: &Value, error: &StripeError) -> Value {
    let mut last_error = error.fields();
    last_error["payment_method"] = super::public(method);
    intent["status"] = json!("requires_payment_method");
    intent["payment_method"] = Value::Null;
    intent["last_setup_error"] = last_error;
    tx.put(kind::SETUP_INTENT, intent.clone());
    event::emit(tx, "setup_intent.setup_failed", &intent, None);
    intent
}

fn cancel(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut intent = get(tx, kind::SETUP_INTENT, "setupintent", call.id)?.clone();
    let reasons = ["abandoned", "duplicate", "requested_by_customer"];
    let reason = call.params.one_of("cancellation_reason", &reasons)?;
    if intent["status"] == "succeeded" || intent["status"] == "canceled" {
        return Err(unexpected_state(&intent, "canceled"));
    }
    intent["status"] = json!("canceled");
    intent["cancellation_reason"] = json!(reason);
    intent["next_action"] = Value::Null;
    tx.put(kind::SETUP_INTENT, intent.clone());
    event::emit(tx, "setup_intent.canceled", &intent, None);
    Ok(intent)
}
