//! The client's one place, given up or emptied by a saga that is being undone. Whoever began with it, by an order or by a
//! payment link, ends here.
//! Deliberately absent: taking the place. What is bought differs, and so does who is told when it is taken.

use mainstay_db::TenantTx;
use mainstay_types::SubscriptionId;

use super::definition::{Call, Failure, Stop};
use crate::history::{self, By, SubscriptionChange};
use crate::subscription::{Status, Subscription, sql};

/// The saga's subscription, under the lock of its client's account.
pub(super) async fn lock(
    tx: &mut TenantTx,
    call: &Call<'_>,
    id: SubscriptionId,
) -> Result<Subscription, Stop> {
    sql::lock_account(tx.conn(), call.tenant).await?;
    let subscription = sql::get(tx.conn(), call.tenant, id).await?;
    Ok(subscription.ok_or_else(|| Failure::new("the saga's subscription is not there"))?)
}

/// Back to its place, granting nothing, until money and subscription are undone at Stripe.
pub(super) async fn revoke(
    tx: &mut TenantTx,
    call: &Call<'_>,
    id: SubscriptionId,
    by: &By,
) -> Result<(), Stop> {
    let before = lock(tx, call, id).await?;
    if !before.status.is_live() {
        return Ok(());
    }
    let revoked = Subscription {
        status: Status::Incomplete,
        ..before.clone()
    };
    let after = sql::apply(tx.conn(), call.tenant, &revoked, true, call.now).await?;
    let what = SubscriptionChange::Revoked;
    history::subscription_changed(tx.conn(), &by.at(call.now), what, Some(&before), &after).await?;
    Ok(())
}

/// Last of all undoing: only now is the client free to try again.
pub(super) async fn give_up(
    tx: &mut TenantTx,
    call: &Call<'_>,
    id: SubscriptionId,
    by: &By,
) -> Result<(), Stop> {
    let before = lock(tx, call, id).await?;
    if !before.status.is_live() {
        return Ok(());
    }
    let reason = call
        .refusal
        .map_or("It was undone.", |refusal| &refusal.detail);
    let failed = Subscription {
        status: Status::Failed,
        failure_reason: Some(reason.to_owned()),
        payer_action: None,
        ..before.clone()
    };
    let after = sql::apply(tx.conn(), call.tenant, &failed, false, call.now).await?;
    let what = SubscriptionChange::Failed;
    history::subscription_changed(tx.conn(), &by.at(call.now), what, Some(&before), &after).await?;
    Ok(())
}
