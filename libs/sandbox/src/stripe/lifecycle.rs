//! Owns what time does: trials end, periods renew, incomplete subscriptions expire, failed invoices are tried again.
//!
//! Deliberately absent: notices ahead of time (`trial_will_end`, `invoice.upcoming`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::invoice::lines;
use super::payment_intent::Outcome;
use super::subscription::{self, items, period, plan, set_period, update};
use super::{event, invoice, kind};
use crate::core::Core;
use crate::store::{Origin, Record, Tx};

/// What falls due by the passing of real time is seen to within this long even if nobody calls.
const PULSE: Duration = Duration::from_secs(1);

pub(crate) async fn keep_time(core: Arc<Core>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            () = tokio::time::sleep(PULSE) => catch_up(&core),
        }
    }
}

/// Does everything that is due by now, in the order of time, each in a transaction of its own at its own second.
pub(crate) fn catch_up(core: &Core) {
    while core.read(|world| world.next_due(world.now())).is_some() {
        let committed = core.commit(|world| {
            // Looked up again under the lock: a request may have got there first.
            let Some((at, kind, id)) = world.next_due(world.now()) else {
                return (Record::default(), ());
            };
            let origin = Origin {
                operation: "clock.advance".to_owned(),
                ..Origin::default()
            };
            let mut tx = Tx::new(world, at, origin);
            perform(&mut tx, &kind, &id);
            (tx.into_record(), ())
        });
        if let Err(error) = committed {
            tracing::error!(%error, "the simulators' journal cannot be written; time stands still");
            return;
        }
    }
}

fn perform(tx: &mut Tx<'_>, of_kind: &str, id: &str) {
    let Some(mut object) = tx.get(of_kind, id).cloned() else {
        return;
    };
    // Whatever happens below plans anew; an object that nothing plans must not come up for ever.
    object["_due_at"] = Value::Null;
    tx.put(of_kind, object.clone());
    match of_kind {
        kind::SUBSCRIPTION => subscription_due(tx, object),
        kind::INVOICE => invoice_due(tx, &object),
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
    match subscription["status"].as_str().unwrap_or_default() {
        "incomplete" => {
            subscription::end(tx, subscription, "incomplete_expired", now);
        }
        "trialing" => trial_over(tx, subscription),
        "active" | "past_due" | "unpaid" => renew(tx, subscription, "subscription_cycle"),
        _ => {}
    }
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
    if subscription["pause_collection"]["resumes_at"]
        .as_i64()
        .is_some_and(|at| at <= tx.now)
    {
        subscription["pause_collection"] = Value::Null;
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
    if paused == Some("keep_as_draft") {
        let mut invoice = invoice;
        invoice["auto_advance"] = json!(false);
        tx.put(kind::INVOICE, invoice);
        return;
    }
    let mut invoice = invoice::finalize(tx, invoice);
    if invoice["status"] != "open" {
        return;
    }
    match paused {
        Some("void") => {
            invoice::void(tx, invoice);
        }
        Some(_) => {
            invoice["status"] = json!("uncollectible");
            invoice["status_transitions"]["marked_uncollectible_at"] = json!(tx.now);
            tx.put(kind::INVOICE, invoice.clone());
            event::emit(tx, "invoice.marked_uncollectible", &invoice, None);
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
    // No attempt is planned any more: Stripe's default then is to cancel.
    let subscription = invoice["parent"]["subscription_details"]["subscription"].as_str();
    let subscription = subscription
        .and_then(|id| tx.get(kind::SUBSCRIPTION, id))
        .cloned();
    if let Some(mut subscription) = subscription.filter(subscription::is_live) {
        subscription["cancellation_details"]["reason"] = json!("payment_failed");
        subscription::end(tx, subscription, "canceled", tx.now);
    }
}
