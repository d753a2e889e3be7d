//! Owns what the payer does on the page of a checkout session, in one transaction: he becomes a customer, his card is
//! attached, and what he came for is made.
//!
//! Deliberately absent: trying again. A declined card leaves the session open and nothing behind, so that the caller
//! may complete it with another one.

use serde_json::{Map, Value, json};

use super::{intent_of, open_one};
use crate::store::Tx;
use crate::stripe::errors::{Result, StripeError};
use crate::stripe::list::get;
use crate::stripe::params::Params;
use crate::stripe::payment_intent::{self, Outcome};
use crate::stripe::{
    Call, customer, event, invoice, kind, payment_method, setup_intent, subscription, test_clock,
};

/// What the payer fills in.
pub(crate) struct Payer<'a> {
    pub payment_method: &'a str,
    pub email: Option<&'a str>,
    pub name: Option<&'a str>,
    /// His bank takes its time: the session completes unpaid, and is settled later.
    pub is_async: bool,
}

pub(in crate::stripe) fn complete(tx: &mut Tx<'_>, id: &str, payer: &Payer<'_>) -> Result<Value> {
    let mut session = open_one(tx, id)?;
    test_clock::enter(tx, &session);
    if session["customer"].is_null() {
        let email = payer.email.or(session["customer_email"].as_str());
        session["customer"] = customer::make(tx, email, payer.name)["id"].clone();
    }
    let owner = session["customer"].as_str().unwrap_or_default().to_owned();
    customer::live(tx, &owner, "customer")?;
    let method = payment_method::attach_to(tx, payer.payment_method, &owner, "payment_method")?;
    let method = method["id"].as_str().unwrap_or_default().to_owned();
    let paid = match session["mode"].as_str() {
        Some("subscription") => subscribe(tx, &mut session, &method, payer.is_async)?,
        Some("payment") => pay(tx, &mut session, &method, payer.is_async)?,
        _ => {
            set_up(tx, &mut session, &method)?;
            true
        }
    };
    let free = session["amount_total"].as_i64().unwrap_or(0) == 0;
    session["payment_status"] = json!(match (free, paid) {
        (true, _) => "no_payment_required",
        (false, true) => "paid",
        (false, false) => "unpaid",
    });
    let customer = tx.get(kind::CUSTOMER, &owner);
    let known = |field: &str| customer.map_or(Value::Null, |customer| customer[field].clone());
    session["customer_details"] = json!({
        "address": known("address"),
        "email": payer.email.map_or_else(|| known("email"), |email| json!(email)),
        "name": payer.name.map_or_else(|| known("name"), |name| json!(name)),
        "phone": known("phone"),
        "tax_exempt": "none",
        "tax_ids": [],
    });
    session["status"] = json!("complete");
    session["url"] = Value::Null;
    session["_due_at"] = Value::Null;
    tx.put(kind::CHECKOUT_SESSION, session.clone());
    event::emit(tx, "checkout.session.completed", &session, None);
    Ok(session)
}

/// Makes the subscription as the API would, for he who sits before the page: what his bank asks, he answers.
fn subscribe(tx: &mut Tx<'_>, session: &mut Value, method: &str, is_async: bool) -> Result<bool> {
    let items: Vec<Value> = session["_items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            json!({ "price": item["price"]["id"], "quantity": item["quantity"].to_string() })
        })
        .collect();
    let coupons: Vec<Value> = session["_coupons"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|coupon| json!({ "coupon": coupon }))
        .collect();
    let mut tree = json!({
        "customer": session["customer"],
        "items": items,
        "default_payment_method": method,
        "metadata": session["_data"]["metadata"],
        "payment_behavior": if is_async { "default_incomplete" } else { "allow_incomplete" },
    });
    for field in ["description", "trial_end", "trial_period_days"] {
        if session["_data"][field].is_string() {
            tree[field] = session["_data"][field].clone();
        }
    }
    if !coupons.is_empty() {
        tree["discounts"] = json!(coupons);
    }
    if session["_data"]["metadata"]
        .as_object()
        .is_some_and(Map::is_empty)
    {
        tree.as_object_mut()
            .and_then(|tree| tree.shift_remove("metadata"));
    }
    let call = Call {
        id: "",
        url: "/v1/subscriptions",
        params: Params::new(&tree),
    };
    let mut made = subscription::create::create(tx, &call)?;
    let id = made["id"].as_str().unwrap_or_default().to_owned();
    session["subscription"] = made["id"].clone();
    session["invoice"] = made["latest_invoice"].clone();
    if let Some(invoice) = made["latest_invoice"]
        .as_str()
        .and_then(|id| tx.get(kind::INVOICE, id))
    {
        session["amount_total"] = invoice["total"].clone();
        let off =
            invoice["subtotal"].as_i64().unwrap_or(0) - invoice["total"].as_i64().unwrap_or(0);
        session["total_details"]["amount_discount"] = json!(off);
    }
    if !is_async && made["status"] == "incomplete" {
        let intent = intent_of(tx, &made["latest_invoice"]);
        answer_the_bank(tx, intent)?;
        made = get(tx, kind::SUBSCRIPTION, "subscription", &id)?.clone();
    }
    Ok(made["status"] != "incomplete")
}

fn pay(tx: &mut Tx<'_>, session: &mut Value, method: &str, is_async: bool) -> Result<bool> {
    let currency = session["currency"].as_str().unwrap_or("usd").to_owned();
    let amount = session["amount_total"].as_i64().unwrap_or(0);
    if amount == 0 {
        return Ok(true);
    }
    let description = session["_data"]["description"].as_str().map(str::to_owned);
    let mut intent = payment_intent::open(
        tx,
        amount,
        &currency,
        &session["customer"],
        description.as_deref(),
        session["_data"]["metadata"].clone(),
    );
    let id = intent["id"].as_str().unwrap_or_default().to_owned();
    session["payment_intent"] = intent["id"].clone();
    intent["payment_method"] = json!(method);
    intent["setup_future_usage"] = session["_data"]["setup_future_usage"].clone();
    if is_async {
        intent["status"] = json!("processing");
        tx.put(kind::PAYMENT_INTENT, intent.clone());
        event::emit(tx, "payment_intent.processing", &intent, None);
        return Ok(false);
    }
    intent["status"] = json!("requires_confirmation");
    tx.put(kind::PAYMENT_INTENT, intent);
    if payment_intent::confirm(tx, &id, false)? == Outcome::RequiresAction {
        let intent = tx.get(kind::PAYMENT_INTENT, &id).cloned();
        answer_the_bank(tx, intent)?;
    }
    Ok(true)
}

fn set_up(tx: &mut Tx<'_>, session: &mut Value, method: &str) -> Result<()> {
    let metadata = session["_data"]["metadata"].clone();
    let mut intent = setup_intent::open(tx, &session["customer"], metadata);
    session["setup_intent"] = intent["id"].clone();
    intent["payment_method"] = json!(method);
    let intent = setup_intent::confirm(tx, intent)?;
    if intent["status"] == "requires_action" {
        setup_intent::authenticate(tx, intent["id"].as_str().unwrap_or_default(), true)?;
    }
    Ok(())
}

/// He is there: where the bank asks him, he passes. What is still not paid then was declined.
fn answer_the_bank(tx: &mut Tx<'_>, intent: Option<Value>) -> Result<()> {
    let declined = || StripeError::declined("card_declined", None, "Your card was declined.");
    let intent = intent.ok_or_else(declined)?;
    if intent["status"] != "requires_action" {
        return Err(declined());
    }
    let id = intent["id"].as_str().unwrap_or_default();
    let answered = payment_intent::authenticate(tx, id, true)?;
    if answered["status"] == "succeeded" {
        Ok(())
    } else {
        Err(declined())
    }
}

/// The bank of an asynchronous payment has made up its mind.
pub(in crate::stripe) fn settle(tx: &mut Tx<'_>, id: &str, succeeded: bool) -> Result<Value> {
    let mut session = get(tx, kind::CHECKOUT_SESSION, "checkout.session", id)?.clone();
    test_clock::enter(tx, &session);
    if session["status"] != "complete" || session["payment_status"] != "unpaid" {
        let message = "Only a session that was completed and is still unpaid can be settled.";
        return Err(StripeError::state(None, message));
    }
    let intent = match session["payment_intent"].as_str() {
        Some(id) => tx.get(kind::PAYMENT_INTENT, id).cloned(),
        None => intent_of(tx, &session["invoice"]),
    };
    let intent = intent.ok_or_else(|| StripeError::state(None, "There is nothing to settle."))?;
    let invoice = intent["_invoice"].as_str().map(str::to_owned);
    if succeeded {
        payment_intent::force(tx, intent);
        if let Some(invoice) = invoice {
            invoice::settle(tx, &invoice);
        }
        session["payment_status"] = json!("paid");
        tx.put(kind::CHECKOUT_SESSION, session.clone());
        event::emit(
            tx,
            "checkout.session.async_payment_succeeded",
            &session,
            None,
        );
    } else {
        payment_intent::bounce(tx, intent);
        if let Some(invoice) = invoice {
            invoice::note_failure(tx, &invoice, None);
        }
        event::emit(tx, "checkout.session.async_payment_failed", &session, None);
    }
    Ok(session)
}
