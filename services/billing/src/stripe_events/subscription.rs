//! `customer.subscription.*`: our subscription follows Stripe's object.
//! Deliberately absent: which of the types it was. All of them mean "look again".

use mainstay_db::TenantTx;
use mainstay_types::{SagaId, SubscriptionId, Tenant};

use super::sql::{self, Owner};
use super::{Handled, Intake, IntakeError, Outcome, READINGS, StripeEvent};
use crate::history::{self, By, SubscriptionChange};
use crate::saga::{
    Started,
    sync_entitlements::{self, SyncEntitlements},
};
use crate::subscription::{Subscription, rules, sql as rows};

pub(super) async fn handle(
    intake: &Intake,
    event: &StripeEvent,
    owner: Option<Owner>,
) -> Result<Handled, IntakeError> {
    let tenant = owner.map(|owner| owner.tenant);
    let Some((tenant, id)) = owner.and_then(|owner| Some((owner.tenant, owner.subscription?)))
    else {
        let detail = "no subscription of ours is known by this id yet";
        return Ok(Handled::new(Outcome::Retry, detail, tenant));
    };
    for _ in 0..READINGS {
        let Some(revision) = revision(intake, tenant, id).await? else {
            break;
        };
        let reading = match intake.stripe.subscription(&event.about.id).await {
            Ok(subscription) => subscription.reading(),
            Err(failure) if failure.is_missing() => {
                let detail = "Stripe has no such subscription";
                return Ok(Handled::new(Outcome::Retry, detail, Some(tenant)));
            }
            Err(failure) => return Err(IntakeError::Stripe(failure)),
        };
        let mut tx = intake.database.worker().tenant(tenant).await?;
        if !sql::note(tx.conn(), event, "applied").await? {
            return Ok(Handled::new(
                Outcome::Duplicate,
                "seen before",
                Some(tenant),
            ));
        }
        rows::lock_account(tx.conn(), tenant).await?;
        if !rows::count_reading(tx.conn(), tenant, id, revision).await? {
            // Rolled back. Another reading was applied since ours was begun, and may be the newer one.
            continue;
        }
        let Some(before) = rows::get(tx.conn(), tenant, id).await? else {
            break;
        };
        let after = rules::read(&before, &reading);
        let started = change(intake, &mut tx, event, &before, after).await?;
        tx.commit().await?;
        let detail = match (before.status, &started) {
            (status, _) if !status.is_live() => "it has ended here; nothing brings it back",
            (_, Some(_)) => "followed Stripe's object, identity is being told",
            (_, None) => "followed Stripe's object",
        };
        if let Some(started) = started {
            intake.engine.launch(started);
        }
        return Ok(Handled::new(Outcome::Applied, detail, Some(tenant)));
    }
    let detail = "the subscription is being changed by others";
    Ok(Handled::new(Outcome::Retry, detail, Some(tenant)))
}

/// The count of readings applied so far, taken before Stripe is asked.
async fn revision(
    intake: &Intake,
    tenant: Tenant,
    id: SubscriptionId,
) -> Result<Option<i64>, IntakeError> {
    let mut tx = intake.database.worker().tenant(tenant).await?;
    let subscription = rows::get(tx.conn(), tenant, id).await?;
    Ok(subscription.map(|subscription| subscription.provider_revision))
}

/// Writes a changed subscription with its event, and the saga that tells identity where it must know. Under the lock of
/// the client's account.
pub(super) async fn change(
    intake: &Intake,
    tx: &mut TenantTx,
    event: &StripeEvent,
    before: &Subscription,
    after: Subscription,
) -> Result<Option<Started>, IntakeError> {
    if after == *before {
        return Ok(None);
    }
    let (tenant, now) = (tx.tenant(), intake.clock.now());
    let entitling = rules::entitling(before) != rules::entitling(&after);
    let after = rows::apply(tx.conn(), tenant, &after, entitling, now).await?;
    let by = By::stripe(tenant, &event.id, now);
    let what = match after.status.is_live() {
        true => SubscriptionChange::Updated,
        false => SubscriptionChange::Canceled,
    };
    history::subscription_changed(tx.conn(), &by, what, Some(before), &after).await?;
    if !entitling {
        return Ok(None);
    }
    let input = SyncEntitlements {
        subscription: after.id,
    };
    let (name, saga) = (sync_entitlements::NAME, SagaId::generate());
    let started = intake.engine.start(tx.conn(), tenant, name, saga, &input);
    Ok(Some(started.await?))
}
