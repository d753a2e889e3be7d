//! `customer.subscription.*`: our subscription follows Stripe's object.
//! Deliberately absent: which of the types it was, but for the few that somebody must hear of.

use mainstay_db::TenantTx;
use mainstay_types::{SagaId, SubscriptionId, Tenant};
use serde_json::json;

use super::directory::Look;
use super::effects::Effect;
use super::{Handled, Intake, IntakeError, Outcome, READINGS, StripeEvent, sql};
use crate::history::{self, By, Notice, SubscriptionChange};
use crate::offboarding::{self, Offboarding};
use crate::saga::{
    Started, end_grace,
    sync_entitlements::{self, SyncEntitlements},
};
use crate::stripe::object;
use crate::subscription::{Status, Subscription, rules, sql as rows};

/// A reading of Stripe's object, and the count of those applied before it was made.
pub(super) struct Read {
    subscription: SubscriptionId,
    reading: object::Reading,
    revision: i64,
}

pub(super) async fn handle(
    intake: &Intake,
    event: &StripeEvent,
    effect: Effect,
    look: Look,
) -> Result<Handled, IntakeError> {
    let tenant = look.tenant();
    let known = look
        .object
        .and_then(|owner| Some((owner.tenant, owner.subscription?)));
    let Some((tenant, id)) = known else {
        let detail = "no subscription of ours is known by this id yet";
        return Ok(Handled::retry(detail, tenant));
    };
    for _ in 0..READINGS {
        let Some(read) = read(intake, tenant, id, &event.about.id).await? else {
            let detail = "Stripe has no such subscription";
            return Ok(Handled::retry(detail, Some(tenant)));
        };
        let mut tx = intake.database.worker().tenant(tenant).await?;
        rows::lock_account(tx.conn(), tenant).await?;
        if !sql::note(tx.conn(), event, "applied").await? {
            return Ok(Handled::new(
                Outcome::Duplicate,
                "seen before",
                Some(tenant),
            ));
        }
        let by = By::stripe(tenant, &event.id, intake.clock.now());
        let Some(started) = apply(intake, &mut tx, &by, &read).await? else {
            // Rolled back. Another reading was applied since ours was begun, and may be the newer one.
            continue;
        };
        let live = rules::status_of(&read.reading.status).is_some_and(|status| status.is_live());
        if let Some(what) = notice(effect).filter(|_| live) {
            let told = json!({
                "subscription_id": id,
                "trial_end_at": read.reading.trial_end,
                "current_period_end_at": read.reading.period_end,
            });
            history::notice(tx.conn(), tenant, &by, what, told).await?;
        }
        tx.commit().await?;
        intake.engine.wake();
        let detail = match started.is_empty() {
            false => "followed Stripe's object, the others are being told",
            true => "followed Stripe's object",
        };
        for started in started {
            intake.engine.launch(started);
        }
        return Ok(Handled::new(Outcome::Applied, detail, Some(tenant)));
    }
    let detail = "the subscription is being changed by others";
    Ok(Handled::retry(detail, Some(tenant)))
}

fn notice(effect: Effect) -> Option<Notice> {
    match effect {
        Effect::AnnounceTrialEnd => Some(Notice::TrialWillEnd),
        Effect::AnnounceLapsedChange => Some(Notice::PendingUpdateExpired),
        _ => None,
    }
}

/// Reads Stripe's object; none when Stripe or we have no such subscription.
pub(super) async fn read(
    intake: &Intake,
    tenant: Tenant,
    id: SubscriptionId,
    stripe_id: &str,
) -> Result<Option<Read>, IntakeError> {
    // The count of readings applied so far, taken before Stripe is asked.
    let mut tx = intake.database.worker().tenant(tenant).await?;
    let ours = rows::get(tx.conn(), tenant, id).await?;
    drop(tx);
    let Some(revision) = ours.map(|ours| ours.provider_revision) else {
        return Ok(None);
    };
    match intake.stripe.subscription(stripe_id).await {
        Ok(subscription) => Ok(Some(Read {
            subscription: id,
            reading: subscription.reading(),
            revision,
        })),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(IntakeError::Stripe(failure)),
    }
}

/// Writes a reading; none when another one was applied since it was begun. Under the lock of the client's account.
pub(super) async fn apply(
    intake: &Intake,
    tx: &mut TenantTx,
    by: &By,
    read: &Read,
) -> Result<Option<Vec<Started>>, IntakeError> {
    let tenant = tx.tenant();
    let id = read.subscription;
    if !rows::count_reading(tx.conn(), tenant, id, read.revision).await? {
        return Ok(None);
    }
    let Some(before) = rows::get(tx.conn(), tenant, id).await? else {
        return Ok(None);
    };
    let after = rules::read(&before, &read.reading, by.now);
    signal(intake, tx, &before).await?;
    Ok(Some(change(intake, tx, by, &before, after).await?))
}

/// Tells the saga of a subscription that is not paid yet, or of a client that leaves, that something happened: it may wait
/// for just this.
pub(super) async fn signal(
    intake: &Intake,
    tx: &mut TenantTx,
    subscription: &Subscription,
) -> Result<(), IntakeError> {
    if subscription.status == Status::Incomplete {
        intake
            .engine
            .signal(tx.conn(), subscription.saga_id)
            .await?;
    }
    let tenant = tx.tenant();
    let leaving = offboarding::sql::get(tx.conn(), tenant).await?;
    if let Some(leaving) = leaving.filter(Offboarding::is_pending) {
        intake.engine.signal(tx.conn(), leaving.saga).await?;
    }
    Ok(())
}

/// Writes a changed subscription with its event, and the sagas that follow from it: telling the others where they must
/// know, and ending a grace in its time. Under the lock of the client's account.
pub(super) async fn change(
    intake: &Intake,
    tx: &mut TenantTx,
    by: &By,
    before: &Subscription,
    after: Subscription,
) -> Result<Vec<Started>, IntakeError> {
    let mut sagas = Vec::new();
    if after == *before {
        return Ok(sagas);
    }
    let tenant = tx.tenant();
    let entitling = rules::entitling(before) != rules::entitling(&after);
    let after = rows::apply(tx.conn(), tenant, &after, entitling, by.now).await?;
    let what = match after.status.is_live() {
        true => SubscriptionChange::Updated,
        false => SubscriptionChange::Canceled,
    };
    history::subscription_changed(tx.conn(), by, what, Some(before), &after).await?;
    if before.grace_ends_at != after.grace_ends_at
        && let Some(ends_at) = after.grace_ends_at
    {
        let input = end_grace::EndGrace {
            subscription: after.id,
            ends_at,
        };
        let (name, saga) = (end_grace::NAME, SagaId::generate());
        let timer = intake.engine.start(tx.conn(), tenant, name, saga, &input);
        sagas.push(timer.await?);
    }
    if !entitling {
        return Ok(sagas);
    }
    let input = SyncEntitlements {
        subscription: after.id,
    };
    let (name, saga) = (sync_entitlements::NAME, SagaId::generate());
    let started = intake.engine.start(tx.conn(), tenant, name, saga, &input);
    sagas.push(started.await?);
    Ok(sagas)
}
