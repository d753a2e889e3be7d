//! Owns payment methods: Stripe's magic test cards, attaching and detaching.
//!
//! Deliberately absent: everything but cards, and real card numbers; only the test numbers of Stripe's documentation
//! mean something.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, list_parameters};
use super::{Call, Operation, customer, event, kind, operation};
use crate::ids;
use crate::store::{By, Tx};

const BILLING: &[&str] = &[
    "type",
    "card.number",
    "card.exp_month",
    "card.exp_year",
    "card.cvc",
    "card.token",
    "billing_details.name",
    "billing_details.email",
    "billing_details.phone",
    "billing_details.address.*",
    "metadata",
    "metadata.*",
    "allow_redisplay",
];
const UPDATE: &[&str] = &[
    "card.exp_month",
    "card.exp_year",
    "billing_details.name",
    "billing_details.email",
    "billing_details.phone",
    "billing_details.address.*",
    "metadata",
    "metadata.*",
    "allow_redisplay",
];

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/payment_methods",
        "payment_methods.create",
        BILLING,
        create,
    ),
    operation(
        "GET",
        "/v1/payment_methods",
        "payment_methods.list",
        list_parameters!("customer", "type"),
        list_methods,
    ),
    operation(
        "GET",
        "/v1/payment_methods/{id}",
        "payment_methods.retrieve",
        &[],
        retrieve,
    ),
    operation(
        "POST",
        "/v1/payment_methods/{id}",
        "payment_methods.update",
        UPDATE,
        update,
    ),
    operation(
        "POST",
        "/v1/payment_methods/{id}/attach",
        "payment_methods.attach",
        &["customer"],
        attach,
    ),
    operation(
        "POST",
        "/v1/payment_methods/{id}/detach",
        "payment_methods.detach",
        &[],
        detach,
    ),
];

/// How a test card behaves.
struct Magic {
    /// Behind `pm_card_` and `tok_`; an older name may be given too.
    names: &'static [&'static str],
    number: &'static str,
    brand: &'static str,
    funding: &'static str,
    behavior: Behavior,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Behavior {
    Works,
    /// Declined whenever it is looked at, attaching included: code, decline code, message.
    Declines(&'static str, Option<&'static str>, &'static str),
    /// Can be attached; every charge is declined.
    DeclinesCharges,
    /// Every payment asks the holder to authenticate.
    NeedsAuthentication,
    /// The holder authenticates once; payments without him work from then on.
    NeedsSetup,
    /// The same, but every payment is then declined for lack of funds.
    NeedsSetupThenDeclines,
    /// Works, and the holder then disputes it: Stripe's reason for the dispute.
    Disputes(&'static str),
    /// Works; a refund of it fails later, or stays pending for a while.
    RefundsFail,
    RefundsPend,
}

const DECLINED: &str = "Your card was declined.";
const fn works(
    names: &'static [&'static str],
    number: &'static str,
    brand: &'static str,
    funding: &'static str,
) -> Magic {
    Magic {
        names,
        number,
        brand,
        funding,
        behavior: Behavior::Works,
    }
}
const fn visa(names: &'static [&'static str], number: &'static str, behavior: Behavior) -> Magic {
    Magic {
        names,
        number,
        brand: "visa",
        funding: "credit",
        behavior,
    }
}

/// From https://docs.stripe.com/testing.
const MAGIC: &[Magic] = &[
    works(&["visa"], "4242424242424242", "visa", "credit"),
    works(&["visa_debit"], "4000056655665556", "visa", "debit"),
    works(&["mastercard"], "5555555555554444", "mastercard", "credit"),
    works(&["amex"], "378282246310005", "amex", "credit"),
    visa(
        &["chargeDeclined", "visa_chargeDeclined"],
        "4000000000000002",
        Behavior::Declines("card_declined", Some("generic_decline"), DECLINED),
    ),
    visa(
        &[
            "chargeDeclinedInsufficientFunds",
            "visa_chargeDeclinedInsufficientFunds",
        ],
        "4000000000009995",
        Behavior::Declines(
            "card_declined",
            Some("insufficient_funds"),
            "Your card has insufficient funds.",
        ),
    ),
    visa(
        &["chargeDeclinedLostCard", "visa_chargeDeclinedLostCard"],
        "4000000000009987",
        Behavior::Declines("card_declined", Some("lost_card"), DECLINED),
    ),
    visa(
        &["chargeDeclinedStolenCard", "visa_chargeDeclinedStolenCard"],
        "4000000000009979",
        Behavior::Declines("card_declined", Some("stolen_card"), DECLINED),
    ),
    visa(
        &["chargeDeclinedFraudulent"],
        "4100000000000019",
        Behavior::Declines("card_declined", Some("fraudulent"), DECLINED),
    ),
    visa(
        &["chargeDeclinedExpiredCard"],
        "4000000000000069",
        Behavior::Declines("expired_card", None, "Your card has expired."),
    ),
    visa(
        &["chargeDeclinedIncorrectCvc"],
        "4000000000000127",
        Behavior::Declines(
            "incorrect_cvc",
            None,
            "Your card's security code is incorrect.",
        ),
    ),
    visa(
        &["chargeDeclinedProcessingError"],
        "4000000000000119",
        Behavior::Declines(
            "processing_error",
            None,
            "An error occurred while processing your card. Try again in a little bit.",
        ),
    ),
    visa(
        &["chargeCustomerFail"],
        "4000000000000341",
        Behavior::DeclinesCharges,
    ),
    visa(
        &["threeDSecure2Required", "threeDSecureRequired"],
        "4000000000003220",
        Behavior::NeedsAuthentication,
    ),
    visa(
        &["authenticationRequired"],
        "4000002760003184",
        Behavior::NeedsAuthentication,
    ),
    visa(
        &[
            "authenticationRequiredOnSetup",
            "threeDSecure2RequiredOnSetup",
        ],
        "4000002500003155",
        Behavior::NeedsSetup,
    ),
    visa(
        &["authenticationRequiredChargeDeclinedInsufficientFunds"],
        "4000008260003178",
        Behavior::NeedsSetupThenDeclines,
    ),
    visa(
        &["createDispute"],
        "4000000000000259",
        Behavior::Disputes("fraudulent"),
    ),
    visa(
        &["createDisputeProductNotReceived"],
        "4000000000002685",
        Behavior::Disputes("product_not_received"),
    ),
    visa(&["refundFail"], "4000000000005126", Behavior::RefundsFail),
    visa(
        &["pendingRefund"],
        "4000000000007726",
        Behavior::RefundsPend,
    ),
];

fn by_name(name: &str) -> Option<&'static Magic> {
    MAGIC.iter().find(|magic| magic.names.contains(&name))
}

fn magic(pm: &str) -> Option<&'static Magic> {
    pm.strip_prefix("pm_card_").and_then(by_name)
}

pub(super) fn behavior(payment_method: &Value) -> Behavior {
    payment_method["_magic"]
        .as_str()
        .and_then(by_name)
        .map_or(Behavior::Works, |magic| magic.behavior)
}

fn build(magic: &Magic, id: String, now: i64) -> Value {
    json!({
        "id": id,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {
            "address": { "city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null },
            "email": null, "name": null, "phone": null, "tax_id": null,
        },
        "card": {
            "brand": magic.brand,
            "checks": { "address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass" },
            "country": "US",
            "display_brand": magic.brand,
            "exp_month": 12,
            "exp_year": 2034,
            "fingerprint": format!("fp{}", magic.number),
            "funding": magic.funding,
            "generated_from": null,
            "last4": &magic.number[magic.number.len() - 4..],
            "networks": { "available": [magic.brand], "preferred": null },
            "regulated_status": "unregulated",
            "three_d_secure_usage": { "supported": true },
            "wallet": null,
        },
        "created": now,
        "customer": null,
        "livemode": false,
        "metadata": {},
        "type": "card",
        "_magic": magic.names[0],
    })
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let params = &call.params;
    params
        .one_of("type", &["card"])?
        .ok_or_else(|| StripeError::missing("type"))?;
    let card = params
        .object("card")?
        .ok_or_else(|| StripeError::missing("card"))?;
    let magic = if let Some(token) = card.text("token")? {
        token
            .strip_prefix("tok_")
            .and_then(by_name)
            .ok_or_else(|| StripeError::no_such("token", token, "card[token]"))?
    } else {
        let number: String = card
            .require_text("number")?
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        let known = MAGIC.iter().find(|magic| magic.number == number);
        known.ok_or_else(|| {
            let mut error =
                StripeError::declined("incorrect_number", None, "Your card number is incorrect.");
            error.param = Some("number".to_owned());
            error
        })?
    };
    let mut method = build(magic, ids::stripe("pm"), tx.now);
    change(&mut method, call)?;
    tx.put(kind::PAYMENT_METHOD, method.clone());
    Ok(method)
}

fn change(method: &mut Value, call: &Call<'_>) -> Result<()> {
    let params = &call.params;
    if let Some(card) = params.object("card")? {
        if let Some(month) = card.integer_from("exp_month", 1, 12)? {
            method["card"]["exp_month"] = json!(month);
        }
        if let Some(year) = card.integer_from("exp_year", 2000, 2100)? {
            method["card"]["exp_year"] = json!(year);
        }
    }
    if let Some(details) = params.object("billing_details")? {
        for field in ["email", "name", "phone"] {
            if let Some(text) = details.raw(field)? {
                method["billing_details"][field] = if text.is_empty() {
                    Value::Null
                } else {
                    json!(text)
                };
            }
        }
        if let Some(address) = details.object("address")? {
            for field in ["city", "country", "line1", "line2", "postal_code", "state"] {
                if let Some(text) = address.raw(field)? {
                    method["billing_details"]["address"][field] = json!(text);
                }
            }
        }
    }
    if let Some(allowed) =
        params.one_of("allow_redisplay", &["always", "limited", "unspecified"])?
    {
        method["allow_redisplay"] = json!(allowed);
    }
    method["metadata"] = params.metadata(Some(&method["metadata"]))?;
    Ok(())
}

fn retrieve(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    if let Some(magic) = magic(call.id) {
        return Ok(build(magic, call.id.to_owned(), tx.now));
    }
    list::get(tx, kind::PAYMENT_METHOD, "PaymentMethod", call.id).cloned()
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut method = list::get(tx, kind::PAYMENT_METHOD, "PaymentMethod", call.id)?.clone();
    change(&mut method, call)?;
    event::put_updated(
        tx,
        kind::PAYMENT_METHOD,
        "payment_method.updated",
        method.clone(),
    );
    Ok(method)
}

fn list_methods(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let (of_customer, of_type) = (list::equals(call, "customer")?, list::equals(call, "type")?);
    list::list(tx, call, kind::PAYMENT_METHOD, |method| {
        of_customer(method) && of_type(method)
    })
}

fn attach(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let customer = call.params.require_text("customer")?.to_owned();
    customer::live(tx, &customer, "customer")?;
    attach_to(tx, call.id, &customer, "id")
}

/// Attaches a payment method to a customer who exists. A magic id becomes a new payment method with an id of its own.
pub(super) fn attach_to(tx: &mut Tx<'_>, id: &str, customer: &str, param: &str) -> Result<Value> {
    let mut method = usable(tx, id, param)?;
    match method["customer"].as_str() {
        Some(owner) if owner == customer => return Ok(method),
        Some(_) => {
            let message =
                "The payment method you provided has already been attached to a customer.";
            return Err(StripeError::state(
                Some("payment_method_unexpected_state"),
                message,
            ));
        }
        None if method["_detached"] == true => {
            let message = "This PaymentMethod was previously used without being attached to a Customer or was detached \
                           from a Customer, and may not be used again.";
            return Err(StripeError::state(
                Some("payment_method_unexpected_state"),
                message,
            ));
        }
        None => {}
    }
    if let Behavior::Declines(code, decline_code, message) = behavior(&method) {
        return Err(StripeError::declined(code, decline_code, message));
    }
    method["customer"] = json!(customer);
    tx.put(kind::PAYMENT_METHOD, method.clone());
    event::emit(tx, "payment_method.attached", &method, None);
    Ok(method)
}

/// An existing payment method, or a fresh one of the magic kind that `id` names.
pub(super) fn usable(tx: &Tx<'_>, id: &str, param: &str) -> Result<Value> {
    match magic(id) {
        Some(magic) => Ok(build(magic, ids::stripe("pm"), tx.now)),
        None => list::get_named(tx, kind::PAYMENT_METHOD, "PaymentMethod", id, param).cloned(),
    }
}

/// A payment method that is attached to this customer.
pub(super) fn of_customer<'t>(
    tx: &'t Tx<'_>,
    id: &str,
    customer: &str,
    param: &str,
) -> Result<&'t Value> {
    tx.get(kind::PAYMENT_METHOD, id).filter(|method| method["customer"] == customer).ok_or_else(|| {
        let message = format!(
            "The customer does not have a payment method with the ID {id}. The payment method must be attached to the customer."
        );
        StripeError::state(Some("resource_missing"), message).with_param(param)
    })
}

fn detach(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut method = list::get(tx, kind::PAYMENT_METHOD, "PaymentMethod", call.id)?.clone();
    let Some(owner) = method["customer"].as_str().map(str::to_owned) else {
        let message = "The payment method you provided is not attached to a customer so detachment is impossible.";
        return Err(StripeError::state(
            Some("payment_method_not_attached"),
            message,
        ));
    };
    method["customer"] = Value::Null;
    method["_detached"] = json!(true);
    tx.put(kind::PAYMENT_METHOD, method.clone());
    event::emit(
        tx,
        "payment_method.detached",
        &method,
        Some(json!({ "customer": owner })),
    );
    // What pointed at it points at nothing.
    if let Some(mut customer) = tx.get(kind::CUSTOMER, &owner).cloned()
        && customer["invoice_settings"]["default_payment_method"] == call.id
    {
        customer["invoice_settings"]["default_payment_method"] = Value::Null;
        event::put_updated(tx, kind::CUSTOMER, "customer.updated", customer);
    }
    let using: Vec<Value> = tx
        .select(kind::SUBSCRIPTION, By::customer(&owner).as_ref(), |s| {
            s["default_payment_method"] == call.id
        })
        .into_iter()
        .cloned()
        .collect();
    for mut subscription in using {
        subscription["default_payment_method"] = Value::Null;
        event::put_updated(
            tx,
            kind::SUBSCRIPTION,
            "customer.subscription.updated",
            subscription,
        );
    }
    Ok(method)
}
