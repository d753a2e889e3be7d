//! What is asked of a running subscription: each change is a saga, one at a time; and a first payment that goes on after its
//! payer has acted.
//! Deliberately absent: how a change is made at Stripe; `saga/change_subscription.rs`.

use std::time::Instant;

use chrono::{DateTime, Utc};
use mainstay_rpc::Violations;
use mainstay_types::{SagaId, SubscriptionId, Tenant};

use super::{Desk, Start, Status, Subscription, SubscriptionError, sql};
use crate::history::By;
use crate::repeat::{Begun, Repeat};
use crate::saga::Standing;
use crate::saga::change_subscription::{self, Change, ChangeSubscription};

/// Carries out a change, and waits for its saga until then.
pub async fn change(
    desk: &Desk,
    by: &By,
    tenant: Tenant,
    id: SubscriptionId,
    change: Change,
    repeat: &Repeat,
    until: Instant,
) -> Result<Start, SubscriptionError> {
    check(change, by.now)?;
    let begun = match begin(desk, by, tenant, id, change, repeat).await? {
        Begin::Known(begun) => begun,
        // Its first saga decides whether there will be anything to cancel.
        Begin::Starting(saga) => {
            desk.engine.wake();
            desk.engine.wait_for_rest(saga, until).await?;
            let mut tx = desk.database.tenant(tenant).await?;
            let subscription = sql::get(tx.conn(), tenant, id).await?;
            drop(tx);
            // It never came to be: what was asked for stands.
            if let Some(subscription) = subscription.filter(|found| !found.status.is_live()) {
                return Ok(Start::Stands(Box::new(subscription), Standing::settled()));
            }
            match begin(desk, by, tenant, id, change, repeat).await? {
                Begin::Known(begun) => begun,
                Begin::Starting(saga) => Begun::Started(saga.uuid()),
            }
        }
    };
    let saga = match begun {
        Begun::Before(answer) => return Ok(Start::Before(answer)),
        Begun::Started(saga) => SagaId::from_uuid(saga),
        Begun::Now => unreachable!("a change that is begun names its saga"),
    };
    let standing = desk.engine.wait(saga, until).await?;
    let mut tx = desk.database.tenant(tenant).await?;
    let subscription = sql::get(tx.conn(), tenant, id).await?;
    let subscription = subscription.ok_or(SubscriptionError::NotFound)?;
    Ok(Start::Stands(Box::new(subscription), standing))
}

fn check(change: Change, now: DateTime<Utc>) -> Result<(), SubscriptionError> {
    let mut faults = Violations::new();
    if let Change::Pause {
        resumes_at: Some(at),
    } = change
        && at <= now
    {
        faults.add(
            "resumes_at",
            "must lie ahead; leave it out to pause until it is resumed",
        );
    }
    faults.finish().map_err(SubscriptionError::Invalid)
}

enum Begin {
    Known(Begun),
    /// Its first saga has not ended; it was told that the subscription is not wanted any more.
    Starting(SagaId),
}

async fn begin(
    desk: &Desk,
    by: &By,
    tenant: Tenant,
    id: SubscriptionId,
    change: Change,
    repeat: &Repeat,
) -> Result<Begin, SubscriptionError> {
    let mut tx = desk.database.tenant(tenant).await?;
    match repeat.begin(tx.conn(), by).await? {
        Begun::Now => {}
        known => return Ok(Begin::Known(known)),
    }
    sql::lock_account(tx.conn(), tenant).await?;
    let subscription = sql::get(tx.conn(), tenant, id).await?;
    let subscription = subscription.ok_or(SubscriptionError::NotFound)?;
    if let Some(saga) = change_subscription::busy(&subscription) {
        return Err(SubscriptionError::Busy(saga));
    }
    if subscription.status == Status::Incomplete {
        if change != Change::CancelNow {
            return Err(SubscriptionError::State(subscription.status));
        }
        drop(tx);
        return give_up(desk, by, tenant, &subscription).await;
    }
    let Some(stripe_subscription) = subscription.stripe_subscription_id.clone() else {
        return Err(SubscriptionError::State(subscription.status));
    };
    if !change_subscription::allowed(&subscription, change) {
        return Err(SubscriptionError::State(subscription.status));
    }
    let input = ChangeSubscription {
        subscription: id,
        stripe_subscription,
        change,
        by: by.clone(),
    };
    let saga = SagaId::generate();
    sql::hold(tx.conn(), tenant, id, saga).await?;
    repeat.refer(tx.conn(), by, saga.uuid()).await?;
    let started = desk
        .engine
        .start(tx.conn(), tenant, change.saga(), saga, &input)
        .await?;
    tx.commit().await?;
    desk.engine.launch(started);
    Ok(Begin::Known(Begun::Started(saga.uuid())))
}

/// Tells the saga of a subscription that is not paid yet that it is not wanted any more. If it is paid by then, it is
/// canceled like any other.
async fn give_up(
    desk: &Desk,
    by: &By,
    tenant: Tenant,
    subscription: &Subscription,
) -> Result<Begin, SubscriptionError> {
    // By the worker: the app role may not write to sagas.
    let mut tx = desk.database.worker().tenant(tenant).await?;
    sql::lock_account(tx.conn(), tenant).await?;
    sql::request_cancel(tx.conn(), tenant, subscription.id, by.now).await?;
    desk.engine.signal(tx.conn(), subscription.saga_id).await?;
    tx.commit().await?;
    Ok(Begin::Starting(subscription.saga_id))
}

/// Goes on with a first payment after its payer has acted, and waits for the saga that waits for it.
pub async fn confirm_payment(
    desk: &Desk,
    tenant: Tenant,
    payment_intent: &str,
    until: Instant,
) -> Result<Start, SubscriptionError> {
    let mut tx = desk.database.tenant(tenant).await?;
    let id = sql::find_by_payment(tx.conn(), tenant, payment_intent).await?;
    let id = id.ok_or(SubscriptionError::NotFound)?;
    let subscription = sql::get(tx.conn(), tenant, id).await?;
    let subscription = subscription.ok_or(SubscriptionError::NotFound)?;
    drop(tx);
    if subscription.status != Status::Incomplete {
        return Err(SubscriptionError::NotWaiting);
    }
    let intent = desk.stripe.payment_intent(payment_intent).await;
    let mut intent = intent.map_err(SubscriptionError::from)?;
    if intent.status == "requires_confirmation" {
        let key = format!("confirm/{payment_intent}");
        let confirmed = desk
            .stripe
            .confirm_payment_intent(payment_intent, &key)
            .await;
        intent = confirmed.map_err(SubscriptionError::from)?;
    }
    let saga = subscription.saga_id;
    let standing = match intent.waits_for_payer() {
        // Still the payer's turn: the answer says so, with what the payer's browser needs.
        true => desk.engine.wait(saga, Instant::now()).await?,
        false => {
            let mut tx = desk.database.worker().tenant(tenant).await?;
            desk.engine.signal(tx.conn(), saga).await?;
            tx.commit().await?;
            desk.engine.wake();
            desk.engine.wait_for_rest(saga, until).await?
        }
    };
    let mut tx = desk.database.tenant(tenant).await?;
    let subscription = sql::get(tx.conn(), tenant, id).await?;
    let subscription = subscription.ok_or(SubscriptionError::NotFound)?;
    Ok(Start::Stands(Box::new(subscription), standing))
}
