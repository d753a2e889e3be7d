//! Owns notices ahead of time: `customer.subscription.trial_will_end` three days before, `invoice.upcoming` seven.
//!
//! Deliberately absent: a choice of days, which at Stripe is a setting of the dashboard.

use serde_json::{Value, json};

use super::{items, period, plan};
use crate::store::Tx;
use crate::stripe::invoice::{self, lines};
use crate::stripe::{event, kind};

const TRIAL_NOTICE_SECONDS: i64 = 3 * 86_400;
const RENEWAL_NOTICE_SECONDS: i64 = 7 * 86_400;

/// When the next notice wants to be given. A trial shorter than the notice is told of at once; a period as short as
/// its notice is renewed without one.
pub(super) fn next(subscription: &Value) -> Option<i64> {
    if subscription["status"] == "trialing" {
        let end = subscription["trial_end"].as_i64()?;
        let told = subscription["_told_trial_end"].as_i64() == Some(end);
        return (!told).then_some(end - TRIAL_NOTICE_SECONDS);
    }
    let (start, end) = period(subscription);
    let told = subscription["_told_period_end"].as_i64() == Some(end);
    let ends = subscription["cancel_at"]
        .as_i64()
        .is_some_and(|at| at <= end);
    (!told && !ends && end - start > RENEWAL_NOTICE_SECONDS).then_some(end - RENEWAL_NOTICE_SECONDS)
}

/// Gives the notice whose time has come, if one has.
pub(in crate::stripe) fn give(tx: &mut Tx<'_>, subscription: &Value) -> bool {
    if next(subscription).is_none_or(|at| at > tx.now) {
        return false;
    }
    let mut subscription = subscription.clone();
    if subscription["status"] == "trialing" {
        subscription["_told_trial_end"] = subscription["trial_end"].clone();
        plan(&mut subscription);
        tx.put(kind::SUBSCRIPTION, subscription.clone());
        event::emit(
            tx,
            "customer.subscription.trial_will_end",
            &subscription,
            None,
        );
        return true;
    }
    let (start, end) = period(&subscription);
    subscription["_told_period_end"] = json!(end);
    plan(&mut subscription);
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    let items = items(&subscription);
    let anchor = subscription["billing_cycle_anchor"].as_i64().unwrap_or(end);
    let next_end = lines::period_end(anchor, &items[0]["price"], end);
    let charges = lines::full_period(tx, &items, end, next_end);
    let invoice = invoice::preview(tx, &subscription, &charges, start, end);
    event::emit(tx, "invoice.upcoming", &invoice, None);
    true
}
