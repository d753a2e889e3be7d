//! Owns what at Stripe is set in the dashboard and cannot be set by the API: `PUT /_/stripe/settings`.
//!
//! Deliberately absent: everything the product never touches there, such as branding and mails.

use serde_json::{Value, json};

use super::kind;
use crate::store::Tx;

const ID: &str = "settings";

/// What becomes of a subscription when the last attempt at its renewal has failed.
pub(crate) const FAILED_PAYMENTS: [&str; 3] = ["cancel", "mark_unpaid", "leave_past_due"];

pub(crate) fn failed_payments(tx: &Tx<'_>) -> &'static str {
    let set = tx
        .get(kind::SETTINGS, ID)
        .and_then(|settings| settings["failed_payments"].as_str());
    FAILED_PAYMENTS
        .iter()
        .find(|known| Some(**known) == set)
        .copied()
        .unwrap_or(FAILED_PAYMENTS[0])
}

/// Sets what is given and tells what then holds.
pub(crate) fn change(tx: &mut Tx<'_>, failed_payments_to: Option<&str>) -> Value {
    let failed_payments = failed_payments_to.unwrap_or_else(|| failed_payments(tx));
    let settings = json!({ "id": ID, "failed_payments": failed_payments });
    if failed_payments_to.is_some() {
        tx.put(kind::SETTINGS, settings);
    }
    json!({ "failed_payments": failed_payments })
}
