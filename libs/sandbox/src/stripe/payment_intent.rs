//! Owns payment intents; the one place where simulated money moves in.
//!
//! ```text
//! requires_payment_method ──▶ requires_confirmation ──▶ succeeded
//!          ▲        declined ─────────┘   └─▶ requires_action ──▶ succeeded | requires_payment_method
//! any but succeeded ──▶ canceled
//! ```
//!
//! Deliberately absent: manual capture, and amounts captured in part.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::payment_method::{self, Behavior};
use super::{Call, Operation, charge, customer, dispute, event, invoice, kind, operation, search};
use crate::ids;
use crate::store::Tx;

const CREATE: &[&str] = &[
    "amount",
    "automatic_payment_methods.enabled",
    "automatic_payment_methods.allow_redirects",
    "confirm",
    "currency",
    "customer",
    "description",
    "metadata",
    "metadata.*",
    "off_session",
    "payment_method",
    "payment_method_types[]",
    "receipt_email",
    "return_url",
    "setup_future_usage",
    "statement_descriptor_suffix",
    "capture_method",
    "error_on_requires_action",
];
const UPDATE: &[&str] = &[
    "amount",
    "customer",
    "description",
    "metadata",
    "metadata.*",
    "payment_method",
    "receipt_email",
];
const CONFIRM: &[&str] = &[
    "payment_method",
    "return_url",
    "off_session",
    "error_on_requires_action",
    "receipt_email",
    "setup_future_usage",
];

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/payment_intents",
        "payment_intents.create",
        CREATE,
        create,
    ),
    operation(
        "GET",
        "/v1/payment_intents",
        "payment_intents.list",
        list_parameters!("customer"),
        |tx, call| {
            let of_customer = list::equals(call, "customer")?;
            list::list(tx, call, kind::PAYMENT_INTENT, of_customer)
        },
    ),
    operation(
        "GET",
        "/v1/payment_intents/search",
        "payment_intents.search",
        search::PARAMETERS,
        |tx, call| search::search(tx, call, kind::PAYMENT_INTENT),
    ),
    operation(
        "GET",
        "/v1/payment_intents/{id}",
        "payment_intents.retrieve",
        &["client_secret"],
        |tx, call| get(tx, kind::PAYMENT_INTENT, "payment_intent", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/payment_intents/{id}",
        "payment_intents.update",
        UPDATE,
        update,
    ),
    operation(
        "POST",
        "/v1/payment_intents/{id}/confirm",
        "payment_intents.confirm",
        CONFIRM,
        confirm_call,
    ),
    operation(
        "POST",
        "/v1/payment_intents/{id}/cancel",
        "payment_intents.cancel",
        &["cancellation_reason"],
        cancel,
    ),
];

/// A new intent, staged and told of.
pub(super) fn open(
    tx: &mut Tx<'_>,
    amount: i64,
    currency: &str,
    customer: &Value,
    description: Option<&str>,
    metadata: Value,
) -> Value {
    let id = ids::stripe("pi");
    let intent = json!({
        "id": id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": { "tip": {} },
        "amount_received": 0,
        "application": null,
        "application_fee_amount": null,
        "automatic_payment_methods": null,
        "canceled_at": null,
        "cancellation_reason": null,
        "capture_method": "automatic",
        "client_secret": format!("{id}_secret_{}", ids::random(24)),
        "confirmation_method": "automatic",
        "created": tx.now,
        "currency": currency,
        "customer": customer,
        "description": description,
        "last_payment_error": null,
        "latest_charge": null,
        "livemode": false,
        "metadata": metadata,
        "next_action": null,
        "on_behalf_of": null,
        "payment_method": null,
        "payment_method_options": { "card": { "request_three_d_secure": "automatic" } },
        "payment_method_types": ["card"],
        "processing": null,
        "receipt_email": null,
        "review": null,
        "setup_future_usage": null,
        "shipping": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": "requires_payment_method",
        "transfer_data": null,
        "transfer_group": null,
    });
    tx.put(kind::PAYMENT_INTENT, intent.clone());
    event::emit(tx, "payment_intent.created", &intent, None);
    intent
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    let amount = params
        .integer_from("amount", 1, 99_999_999)?
        .ok_or_else(|| StripeError::missing("amount"))?;
    let currency = params
        .currency("currency")?
        .ok_or_else(|| StripeError::missing("currency"))?;
    params.one_of("capture_method", &["automatic", "automatic_async"])?;
    let metadata = params.metadata(None)?;
    let confirm_now = params.boolean("confirm")?.unwrap_or(false);
    let owner = match params.text("customer")? {
        Some(id) => customer::live(tx, id, "customer")?["id"].clone(),
        None => Value::Null,
    };
    let mut intent = open(
        tx,
        amount,
        &currency,
        &owner,
        params.text("description")?,
        metadata,
    );
    if let Some(email) = params.text("receipt_email")? {
        intent["receipt_email"] = json!(email);
    }
    if let Some(id) = params.text("payment_method")? {
        use_method(tx, &mut intent, id)?;
    }
    session(&mut intent, params)?;
    tx.put(kind::PAYMENT_INTENT, intent.clone());
    if !confirm_now {
        return Ok(intent);
    }
    let id = intent["id"].as_str().unwrap_or_default().to_owned();
    let off_session = params.boolean("off_session")?.unwrap_or(false);
    finish(
        tx,
        &id,
        off_session,
        params.boolean("error_on_requires_action")?.unwrap_or(false),
    )
}

/// What the caller says about how the holder takes part, now and later.
fn session(intent: &mut Value, params: &Params<'_>) -> Result<()> {
    if let Some(url) = params.text("return_url")? {
        intent["_return_url"] = json!(url);
    }
    if let Some(usage) = params.one_of("setup_future_usage", &["off_session", "on_session"])? {
        intent["setup_future_usage"] = json!(usage);
    }
    Ok(())
}

fn use_method(tx: &mut Tx<'_>, intent: &mut Value, id: &str) -> Result<()> {
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
    Ok(())
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut intent = get(tx, kind::PAYMENT_INTENT, "payment_intent", call.id)?.clone();
    let changeable = [
        "requires_payment_method",
        "requires_confirmation",
        "requires_action",
    ];
    if let Some(amount) = call.params.integer_from("amount", 1, 99_999_999)? {
        if !changeable.iter().any(|status| intent["status"] == *status) {
            return Err(unexpected_state(&intent, "updated"));
        }
        intent["amount"] = json!(amount);
    }
    if let Some(id) = call.params.text("customer")? {
        intent["customer"] = customer::live(tx, id, "customer")?["id"].clone();
    }
    for field in ["description", "receipt_email"] {
        if let Some(text) = call.params.raw(field)? {
            intent[field] = if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            };
        }
    }
    if let Some(id) = call.params.text("payment_method")? {
        use_method(tx, &mut intent, id)?;
    }
    intent["metadata"] = call.params.metadata(Some(&intent["metadata"]))?;
    tx.put(kind::PAYMENT_INTENT, intent.clone());
    Ok(intent)
}

fn confirm_call(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut intent = get(tx, kind::PAYMENT_INTENT, "payment_intent", call.id)?.clone();
    if intent["status"] == "succeeded" || intent["status"] == "canceled" {
        return Err(unexpected_state(&intent, "confirmed"));
    }
    match call.params.text("payment_method")? {
        Some(id) => use_method(tx, &mut intent, id)?,
        // The holder has been asked already; asking again changes nothing.
        None if intent["status"] == "requires_action" => return Ok(intent),
        None => {}
    }
    session(&mut intent, &call.params)?;
    tx.put(kind::PAYMENT_INTENT, intent);
    let off_session = call.params.boolean("off_session")?.unwrap_or(false);
    finish(
        tx,
        call.id,
        off_session,
        call.params
            .boolean("error_on_requires_action")?
            .unwrap_or(false),
    )
}

fn unexpected_state(intent: &Value, verb: &str) -> Box<StripeError> {
    let status = intent["status"].as_str().unwrap_or_default();
    let message =
        format!("This PaymentIntent could not be {verb} because it has a status of {status}.");
    let mut error = StripeError::state(Some("payment_intent_unexpected_state"), message);
    error
        .more
        .insert("payment_intent".into(), super::public(intent));
    error
}

/// Confirms on behalf of an API caller: what happened is kept, a decline is the 402.
fn finish(tx: &mut Tx<'_>, id: &str, off_session: bool, fail_on_action: bool) -> Result<Value> {
    let outcome = confirm(tx, id, off_session);
    let intent = get(tx, kind::PAYMENT_INTENT, "payment_intent", id)?.clone();
    let invoice = intent["_invoice"].as_str().map(str::to_owned);
    if let Some(invoice) = &invoice {
        match &outcome {
            Ok(Outcome::Succeeded) => invoice::settle(tx, invoice),
            Ok(Outcome::RequiresAction) => invoice::note_action_required(tx, invoice),
            Err(error) if error.error_type == "card_error" => {
                invoice::note_failure(tx, invoice, error.decline_code.as_deref());
            }
            Err(_) => {}
        }
    }
    match outcome {
        Ok(Outcome::RequiresAction) if fail_on_action => Err(with_intent(
            StripeError::declined(
                "authentication_required",
                Some("authentication_required"),
                AUTHENTICATE,
            ),
            tx,
            id,
        )),
        Ok(_) => get(tx, kind::PAYMENT_INTENT, "payment_intent", id).cloned(),
        Err(error) if error.error_type == "card_error" => Err(with_intent(error, tx, id)),
        Err(error) => Err(error),
    }
}

fn with_intent(mut error: Box<StripeError>, tx: &Tx<'_>, id: &str) -> Box<StripeError> {
    error.keeps_effects = true;
    if let Some(intent) = tx.get(kind::PAYMENT_INTENT, id) {
        error
            .more
            .insert("payment_intent".into(), super::public(intent));
    }
    error
}

const INSUFFICIENT: &str = "Your card has insufficient funds.";
pub(super) const UNABLE: &str =
    "We are unable to authenticate your payment method. Please choose a different payment method.";
const AUTHENTICATE: &str = "Your card was declined. This transaction requires authentication.";

/// How a confirmation ended, unless the card was declined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Succeeded,
    RequiresAction,
}

/// Tries to take the money. A decline leaves its trace in the intent and comes back as a `card_error`.
pub(super) fn confirm(tx: &mut Tx<'_>, id: &str, off_session: bool) -> Result<Outcome> {
    let intent = get(tx, kind::PAYMENT_INTENT, "payment_intent", id)?.clone();
    let Some(method) = intent["payment_method"]
        .as_str()
        .and_then(|pm| tx.get(kind::PAYMENT_METHOD, pm))
        .cloned()
    else {
        let message =
            "You cannot confirm this PaymentIntent because it's missing a payment method.";
        return Err(StripeError::state(
            Some("payment_intent_unexpected_state"),
            message,
        ));
    };
    let behavior = match customer::bank_declines(tx, &intent) {
        true => Behavior::DeclinesCharges,
        false => payment_method::behavior(&method),
    };
    match behavior {
        Behavior::Works | Behavior::Disputes(_) | Behavior::RefundsFail | Behavior::RefundsPend => {
            take(tx, intent, &method);
            Ok(Outcome::Succeeded)
        }
        // Set up once with the holder present; from then on it works without him.
        Behavior::NeedsSetup | Behavior::NeedsSetupThenDeclines if method["_set_up"] == true => {
            if let Behavior::NeedsSetup = payment_method::behavior(&method) {
                take(tx, intent, &method);
                return Ok(Outcome::Succeeded);
            }
            Err(decline(
                tx,
                intent,
                &method,
                "card_declined",
                Some("insufficient_funds"),
                INSUFFICIENT,
            ))
        }
        // A renewal that needs the holder waits for him, though nobody is there when it is tried.
        Behavior::NeedsAuthentication | Behavior::NeedsSetup | Behavior::NeedsSetupThenDeclines
            if !off_session || intent["_invoice"].is_string() =>
        {
            let mut intent = intent;
            intent["status"] = json!("requires_action");
            intent["next_action"] = next_action(&intent);
            tx.put(kind::PAYMENT_INTENT, intent.clone());
            event::emit(tx, "payment_intent.requires_action", &intent, None);
            Ok(Outcome::RequiresAction)
        }
        Behavior::NeedsAuthentication | Behavior::NeedsSetup | Behavior::NeedsSetupThenDeclines => {
            Err(decline(
                tx,
                intent,
                &method,
                "authentication_required",
                Some("authentication_required"),
                AUTHENTICATE,
            ))
        }
        Behavior::Declines(code, decline_code, message) => {
            Err(decline(tx, intent, &method, code, decline_code, message))
        }
        Behavior::DeclinesCharges => Err(decline(
            tx,
            intent,
            &method,
            "card_declined",
            Some("generic_decline"),
            "Your card was declined.",
        )),
    }
}

/// Where the holder goes to authenticate: the page of the redirect, if the caller takes redirects.
pub(super) fn next_action(object: &Value) -> Value {
    match object["_return_url"].as_str() {
        Some(return_url) => {
            let id = object["id"].as_str().unwrap_or_default();
            json!({
                "redirect_to_url": { "return_url": return_url, "url": format!("https://hooks.stripe.com/3d_secure_2/hosted/{id}") },
                "type": "redirect_to_url",
            })
        }
        None => json!({
            "type": "use_stripe_sdk",
            "use_stripe_sdk": { "source": ids::stripe("src"), "type": "three_d_secure_redirect" },
        }),
    }
}

/// The customer authenticated, or failed to; the simulator's stand-in for the bank's page.
pub(crate) fn authenticate(tx: &mut Tx<'_>, id: &str, succeeded: bool) -> Result<Value> {
    let mut intent = get(tx, kind::PAYMENT_INTENT, "payment_intent", id)?.clone();
    if intent["status"] != "requires_action" {
        return Err(unexpected_state(&intent, "authenticated"));
    }
    let mut method = method_of(tx, &intent);
    let invoice = intent["_invoice"].as_str().map(str::to_owned);
    intent["next_action"] = Value::Null;
    if !succeeded {
        fail_authentication(tx, intent, &method);
        if let Some(invoice) = invoice {
            invoice::note_failure(tx, &invoice, None);
        }
    } else if payment_method::behavior(&method) == Behavior::NeedsSetupThenDeclines {
        let error = decline(
            tx,
            intent,
            &method,
            "card_declined",
            Some("insufficient_funds"),
            INSUFFICIENT,
        );
        if let Some(invoice) = invoice {
            invoice::note_failure(tx, &invoice, error.decline_code.as_deref());
        }
    } else {
        if invoice.is_some() || intent["setup_future_usage"] == "off_session" {
            method["_set_up"] = json!(true);
            tx.put(kind::PAYMENT_METHOD, method.clone());
        }
        take(tx, intent, &method);
        if let Some(invoice) = invoice {
            invoice::settle(tx, &invoice);
        }
    }
    get(tx, kind::PAYMENT_INTENT, "payment_intent", id).cloned()
}

/// The bank was never asked for money, so there is no charge.
fn fail_authentication(tx: &mut Tx<'_>, mut intent: Value, method: &Value) {
    let error = StripeError::declined("payment_intent_authentication_failure", None, UNABLE);
    let mut last_error = error.fields();
    last_error["payment_method"] = super::public(method);
    intent["status"] = json!("requires_payment_method");
    intent["payment_method"] = Value::Null;
    intent["last_payment_error"] = last_error;
    tx.put(kind::PAYMENT_INTENT, intent.clone());
    event::emit(tx, "payment_intent.payment_failed", &intent, None);
}

fn take(tx: &mut Tx<'_>, mut intent: Value, method: &Value) {
    let charge = charge::record(tx, &intent, method, None);
    event::emit(tx, "charge.succeeded", &charge, None);
    intent["status"] = json!("succeeded");
    intent["amount_received"] = intent["amount"].clone();
    intent["latest_charge"] = charge["id"].clone();
    intent["last_payment_error"] = Value::Null;
    intent["next_action"] = Value::Null;
    tx.put(kind::PAYMENT_INTENT, intent.clone());
    event::emit(tx, "payment_intent.succeeded", &intent, None);
    if let Behavior::Disputes(reason) = payment_method::behavior(method) {
        // A fresh charge can always be disputed.
        let _: Result<Value> =
            dispute::open(tx, charge["id"].as_str().unwrap_or_default(), reason, None);
    }
}

fn method_of(tx: &Tx<'_>, intent: &Value) -> Value {
    intent["payment_method"]
        .as_str()
        .and_then(|id| tx.get(kind::PAYMENT_METHOD, id))
        .cloned()
        .unwrap_or(Value::Null)
}

/// The bank of an asynchronous payment has sent the money.
pub(super) fn force(tx: &mut Tx<'_>, intent: Value) {
    let method = method_of(tx, &intent);
    take(tx, intent, &method);
}

/// The bank of an asynchronous payment will not send it.
pub(super) fn bounce(tx: &mut Tx<'_>, intent: Value) {
    let method = method_of(tx, &intent);
    let message = "The customer's bank account does not have enough funds.";
    decline(
        tx,
        intent,
        &method,
        "payment_intent_payment_attempt_failed",
        Some("insufficient_funds"),
        message,
    );
}

fn decline(
    tx: &mut Tx<'_>,
    mut intent: Value,
    method: &Value,
    code: &str,
    decline_code: Option<&str>,
    message: &str,
) -> Box<StripeError> {
    let mut error = StripeError::declined(code, decline_code, message);
    let charge = charge::record(tx, &intent, method, Some(&error));
    event::emit(tx, "charge.failed", &charge, None);
    error.more.insert("charge".into(), charge["id"].clone());
    let mut last_error = error.fields();
    last_error["payment_method"] = super::public(method);
    intent["status"] = json!("requires_payment_method");
    intent["payment_method"] = Value::Null;
    intent["latest_charge"] = charge["id"].clone();
    intent["last_payment_error"] = last_error;
    tx.put(kind::PAYMENT_INTENT, intent.clone());
    event::emit(tx, "payment_intent.payment_failed", &intent, None);
    error
}

fn cancel(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let intent = get(tx, kind::PAYMENT_INTENT, "payment_intent", call.id)?.clone();
    let reasons = [
        "duplicate",
        "fraudulent",
        "requested_by_customer",
        "abandoned",
    ];
    let reason = call.params.one_of("cancellation_reason", &reasons)?;
    if intent["status"] == "succeeded" || intent["status"] == "canceled" {
        return Err(unexpected_state(&intent, "canceled"));
    }
    if intent["_invoice"].is_string() {
        let message = "This PaymentIntent belongs to an invoice; void the invoice instead.";
        return Err(StripeError::state(
            Some("payment_intent_unexpected_state"),
            message,
        ));
    }
    Ok(cancel_intent(tx, intent, reason))
}

pub(super) fn cancel_intent(tx: &mut Tx<'_>, mut intent: Value, reason: Option<&str>) -> Value {
    intent["status"] = json!("canceled");
    intent["canceled_at"] = json!(tx.now);
    intent["cancellation_reason"] = json!(reason);
    intent["next_action"] = Value::Null;
    tx.put(kind::PAYMENT_INTENT, intent.clone());
    event::emit(tx, "payment_intent.canceled", &intent, None);
    intent
}
