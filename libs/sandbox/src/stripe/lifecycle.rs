//! Owns what time does: trials end, periods renew, incomplete subscriptions expire, failed invoices are tried again,
//! paused collection resumes, notices are given.
//!
//! Deliberately absent: the calendar (`period`) and what a change of state is (`subscription`, `invoice`).

use serde_json::{Value, json};

use super::invoice::lines;
use super::payment_intent::Outcome;
use super::subscription::{self, items, notice, period, plan, set_period, update};
use super::{checkout, dispute, event, invoice, kind, refund, settings, test_clock};
use crate::store::Tx;

/// The time of an object of Stripe's has come: its own, or that of what lives by its test clock.
pub(crate) fn due(tx: &mut Tx<'_>, of_kind: &str, id: &str) {
    match tx.get(of_kind, id).cloned() {
        Some(clock) if of_kind == kind::TEST_CLOCK => {
            if let Some((of_kind, id)) = test_clock::step(tx, clock) {
                perform(tx, &of_kind, &id);
            }
        }
        Some(_) => perform(tx, of_kind, id),
        None => {}
    }
}

pub(super) fn perform(tx: &mut Tx<'_>, of_kind: &str, id: &str) {
    let Some(mut object) = tx.get(of_kind, id).cloned() else {
        return;
    };
    // Whatever happens below plans anew; an object that nothing plans must not come up for ever.
    object["_due_at"] = Value::Null;
    tx.put(of_kind, object.clone());
    match of_kind {
        kind::SUBSCRIPTION => subscription_due(tx, object),
        kind::INVOICE => invoice_due(tx, &object),
        kind::REFUND => refund::due(tx, object),
        kind::DISPUTE => dispute::due(tx, object),
        kind::CHECKOUT_SESSION => checkout::due(tx, object),
        _ => {}
    }
}

fn subscription_due(tx: &mut Tx<'_>, subscription: Value) {
    let now = tx.now;
    if subscription["cancel_at"]
        .as_i64()
        .is_some_and(|at| at <= now)
    {
        subscription::end(tx, subscription, "canceled", now);
        return;
    }
    if subscription["pause_collection"]["resumes_at"]
        .as_i64()
        .is_some_and(|at| at <= now)
    {
        resume_collection(tx, subscription);
        return;
    }
    if period_over(&subscription, now) {
        // Renewal makes the notice of it pointless.
    } else if notice::give(tx, &subscription) {
        return;
    }
    match subscription["status"].as_str().unwrap_or_default() {
        "incomplete" => {
            subscription::end(tx, subscription, "incomplete_expired", now);
        }
        "trialing" => trial_over(tx, subscription),
        "active" | "past_due" | "unpaid" => renew(tx, subscription, "subscription_cycle"),
        _ => {}
    }
}

fn period_over(subscription: &Value, now: i64) -> bool {
    match subscription["status"].as_str() {
        Some("trialing") => subscription["trial_end"]
            .as_i64()
            .is_some_and(|at| at <= now),
        Some("incomplete") => true,
        _ => period(subscription).1 <= now,
    }
}

/// Invoices are collected again from now on; drafts kept meanwhile stay drafts.
fn resume_collection(tx: &mut Tx<'_>, mut subscription: Value) {
    subscription["pause_collection"] = Value::Null;
    plan(&mut subscription);
    event::put_updated(
        tx,
        kind::SUBSCRIPTION,
        "customer.subscription.updated",
        subscription,
    );
}

fn trial_over(tx: &mut Tx<'_>, mut subscription: Value) {
    let customer = subscription["customer"]
        .as_str()
        .and_then(|id| tx.get(kind::CUSTOMER, id));
    let default = customer.map_or(Value::Null, |c| {
        c["invoice_settings"]["default_payment_method"].clone()
    });
    let missing = subscription["default_payment_method"].is_null() && default.is_null();
    let on_missing =
        subscription["trial_settings"]["end_behavior"]["missing_payment_method"].clone();
    if missing && on_missing == "cancel" {
        subscription::end(tx, subscription, "canceled", tx.now);
    } else if missing && on_missing == "pause" {
        subscription["status"] = json!("paused");
        plan(&mut subscription);
        event::put_updated(
            tx,
            kind::SUBSCRIPTION,
            "customer.subscription.updated",
            subscription.clone(),
        );
        event::emit(tx, "customer.subscription.paused", &subscription, None);
    } else {
        renew(tx, subscription, "subscription_cycle");
    }
}

/// Begins the next period: moves it, invoices it, collects it.
fn renew(tx: &mut Tx<'_>, mut subscription: Value, reason: &str) {
    let id = subscription["id"].as_str().unwrap_or_default().to_owned();
    let (old_start, start) = period(&subscription);
    let anchor = subscription["billing_cycle_anchor"]
        .as_i64()
        .unwrap_or(start);
    let end = lines::period_end(anchor, &items(&subscription)[0]["price"], start);
    set_period(&mut subscription, start, end);
    if subscription["status"] == "trialing" {
        subscription["status"] = json!("active");
    }
    let mut charges = update::take_pending(&mut subscription);
    charges.extend(lines::full_period(tx, &items(&subscription), start, end));
    plan(&mut subscription);
    // Told once the new invoice is known; staged now, because the invoice reads it.
    let before = tx.world().get(kind::SUBSCRIPTION, &id).cloned();
    tx.put(kind::SUBSCRIPTION, subscription.clone());
    let invoice = invoice::draft(tx, &subscription, reason, &charges, old_start, start);
    subscription = tx
        .get(kind::SUBSCRIPTION, &id)
        .cloned()
        .unwrap_or(subscription);
    subscription["latest_invoice"] = invoice["id"].clone();
    if let Some(before) = before {
        tx.put(kind::SUBSCRIPTION, before);
    }
    event::put_updated(
        tx,
        kind::SUBSCRIPTION,
        "customer.subscription.updated",
        subscription.clone(),
    );
    collect_renewal(tx, &subscription, invoice);
}

fn collect_renewal(tx: &mut Tx<'_>, subscription: &Value, invoice: Value) {
    let paused = subscription["pause_collection"]["behavior"].as_str();
    // Nobody asks an unpaid one for money; its invoices wait as drafts until somebody does.
    if paused == Some("keep_as_draft") || subscription["status"] == "unpaid" {
        let mut invoice = invoice;
        invoice["auto_advance"] = json!(false);
        tx.put(kind::INVOICE, invoice);
        return;
    }
    let invoice = invoice::finalize(tx, invoice);
    if invoice["status"] != "open" {
        return;
    }
    match paused {
        Some("void") => {
            invoice::void(tx, invoice);
        }
        Some(_) => {
            invoice::mark_uncollectible(tx, invoice);
        }
        None if subscription["collection_method"] == "send_invoice" => {}
        // A failure has planned its own retries and told of itself.
        None => {
            let _: Result<Outcome, _> =
                invoice::collect(tx, invoice["id"].as_str().unwrap_or_default(), None, true);
        }
    }
}

fn invoice_due(tx: &mut Tx<'_>, invoice: &Value) {
    if invoice["status"] != "open" {
        return;
    }
    let id = invoice["id"].as_str().unwrap_or_default();
    if invoice["next_payment_attempt"].is_i64() {
        let _: Result<Outcome, _> = invoice::collect(tx, id, None, true);
        return;
    }
    // No attempt is planned any more.
    let subscription = invoice["parent"]["subscription_details"]["subscription"].as_str();
    let subscription = subscription
        .and_then(|id| tx.get(kind::SUBSCRIPTION, id))
        .cloned();
    let Some(mut subscription) = subscription.filter(subscription::is_live) else {
        return;
    };
    match settings::failed_payments(tx) {
        "mark_unpaid" => {
            invoice::stop_collecting(tx, subscription["id"].as_str().unwrap_or_default());
            subscription["status"] = json!("unpaid");
            plan(&mut subscription);
            event::put_updated(
                tx,
                kind::SUBSCRIPTION,
                "customer.subscription.updated",
                subscription,
            );
        }
        "leave_past_due" => {}
        _ => {
            subscription["cancellation_details"]["reason"] = json!("payment_failed");
            subscription::end(tx, subscription, "canceled", tx.now);
        }
    }
}
