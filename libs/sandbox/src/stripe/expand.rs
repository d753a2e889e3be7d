//! Owns `expand`: replacing ids by the objects they name, down to four levels, as the answer's transaction sees them.
//!
//! Deliberately absent: fields that the API version no longer has. Expanding an invoice's `payment_intent` is an
//! error here as it is at Stripe; `confirmation_secret` and `payments` take its place.

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::params::Params;
use super::subscription;
use super::{checkout, kind};
use crate::store::{By, Tx};

const DEEPEST: usize = 4;

/// Fields that hold an id, and of what.
const REFERENCES: &[(&str, &str)] = &[
    ("customer", kind::CUSTOMER),
    ("product", kind::PRODUCT),
    ("price", kind::PRICE),
    ("default_price", kind::PRICE),
    ("coupon", kind::COUPON),
    ("discounts", kind::DISCOUNT),
    ("payment_method", kind::PAYMENT_METHOD),
    ("default_payment_method", kind::PAYMENT_METHOD),
    ("payment_intent", kind::PAYMENT_INTENT),
    ("charge", kind::CHARGE),
    ("latest_charge", kind::CHARGE),
    ("invoice", kind::INVOICE),
    ("latest_invoice", kind::INVOICE),
    ("subscription", kind::SUBSCRIPTION),
    ("setup_intent", kind::SETUP_INTENT),
    ("payment_link", kind::PAYMENT_LINK),
    ("test_clock", kind::TEST_CLOCK),
];

pub(crate) fn paths(params: &Params<'_>) -> Result<Vec<String>> {
    let paths = params.texts("expand")?;
    if paths.len() > 20 {
        return Err(StripeError::parameter(
            "parameter_invalid",
            "expand",
            "You may expand at most 20 properties.",
        ));
    }
    for path in &paths {
        if path.split('.').count() > DEEPEST {
            let message =
                format!("You cannot expand more than {DEEPEST} levels of a property: {path}");
            return Err(StripeError::parameter(
                "parameter_invalid",
                "expand",
                message,
            ));
        }
    }
    Ok(paths.into_iter().map(str::to_owned).collect())
}

pub(crate) fn expand(tx: &Tx<'_>, answer: &mut Value, paths: &[String]) -> Result<()> {
    for path in paths {
        let segments: Vec<&str> = path.split('.').collect();
        walk(tx, answer, &segments, path)?;
    }
    Ok(())
}

fn walk(tx: &Tx<'_>, value: &mut Value, segments: &[&str], path: &str) -> Result<()> {
    let Some((name, rest)) = segments.split_first() else {
        return Ok(());
    };
    if let Value::Array(values) = value {
        for value in values {
            walk(tx, value, segments, path)?;
        }
        return Ok(());
    }
    if !value.is_object() {
        return Ok(());
    }
    add_includable(tx, value, name);
    let kind = REFERENCES
        .iter()
        .find(|(field, _)| field == name)
        .map(|(_, kind)| *kind);
    let cannot = || {
        let message = format!(
            "This property cannot be expanded ({name}). You may want to try expanding another property of '{path}'."
        );
        StripeError::parameter("parameter_invalid", "expand", message)
    };
    let Some(field) = value.get_mut(*name) else {
        return Err(cannot());
    };
    match field {
        Value::Null => return Ok(()),
        Value::String(id) => {
            let object = kind.and_then(|kind| tx.get(kind, id)).ok_or_else(cannot)?;
            *field = object.clone();
        }
        Value::Array(values) => {
            for value in values {
                let object = value.as_str().and_then(|id| tx.get(kind?, id)).cloned();
                if let Some(object) = object {
                    *value = object;
                }
            }
        }
        // `data`, `items`, `discount.source` and what an earlier path expanded.
        _ => {}
    }
    walk(tx, field, rest, path)
}

/// Fields that are only there when asked for.
fn add_includable(tx: &Tx<'_>, value: &mut Value, name: &str) {
    let id = value["id"].as_str().unwrap_or_default().to_owned();
    let listed = |data: Vec<&Value>, url: String| json!({ "object": "list", "data": data, "has_more": false, "url": url });
    let added = match (value["object"].as_str().unwrap_or_default(), name) {
        ("invoice", "confirmation_secret") => {
            let intent = value["_payment_intent"]
                .as_str()
                .and_then(|id| tx.get(kind::PAYMENT_INTENT, id));
            intent.map_or(
                Value::Null,
                |i| json!({ "client_secret": i["client_secret"], "type": "payment_intent" }),
            )
        }
        ("invoice", "payments") => listed(
            tx.select(
                kind::INVOICE_PAYMENT,
                By::field("invoice", &id).as_ref(),
                |_| true,
            ),
            format!("/v1/invoice_payments?invoice={id}"),
        ),
        ("customer", "subscriptions") => {
            let own = By::customer(&id);
            listed(
                tx.select(kind::SUBSCRIPTION, own.as_ref(), subscription::is_live),
                format!("/v1/customers/{id}/subscriptions"),
            )
        }
        ("checkout.session" | "payment_link", "line_items") => {
            let lines = checkout::line_items(value);
            listed(
                lines.iter().collect(),
                format!("/v1/checkout/sessions/{id}/line_items"),
            )
        }
        ("coupon", "applies_to") => value["_applies_to"].clone(),
        ("charge", "refunds") => listed(
            tx.select(kind::REFUND, By::field("charge", &id).as_ref(), |_| true),
            format!("/v1/charges/{id}/refunds"),
        ),
        _ => return,
    };
    value[name] = added;
}
