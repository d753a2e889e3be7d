//! The queries of trials: who had one, and which card.
//! Deliberately absent: cards. A digest of the provider's fingerprint stands for one.

use mainstay_db::Result;
use mainstay_types::{SubscriptionId, Tenant};
use sqlx::PgConnection;

use super::lookup_key;

/// Whether the client ever had a subscription that came to be: then it has had its trial.
pub(crate) async fn had_subscription(conn: &mut PgConnection, tenant: Tenant) -> Result<bool> {
    let row = sqlx::query!(
        r#"
        select exists(
          select from subscription
          where tenant_id = $1 and status not in ('incomplete', 'incomplete_expired', 'failed')
        ) as "had!"
        "#,
        tenant.client.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(row.had)
}

/// Claims the one trial of a card for a subscription; false when another subscription has had it.
pub(crate) async fn claim_trial(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
    card: &str,
) -> Result<bool> {
    let fingerprint = lookup_key(card);
    let row = sqlx::query!(
        r#"
        insert into trial_claim (agency_id, fingerprint, tenant_id, subscription_id) values ($1, $2, $3, $4)
        on conflict (agency_id, fingerprint) do update set updated_at = trial_claim.updated_at
        returning subscription_id as "subscription_id: SubscriptionId"
        "#,
        tenant.agency.uuid(),
        fingerprint.as_slice(),
        tenant.client.uuid(),
        id.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(row.subscription_id == id)
}

/// Gives a trial back that came to nothing.
pub(crate) async fn release_trial(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
) -> Result<()> {
    sqlx::query!(
        "delete from trial_claim where agency_id = $1 and subscription_id = $2",
        tenant.agency.uuid(),
        id.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes the trial that was granted.
pub(crate) async fn note_trial(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
    days: i32,
) -> Result<()> {
    sqlx::query!(
        "update subscription set trial_days = $3 where tenant_id = $1 and id = $2",
        tenant.client.uuid(),
        id.uuid(),
        days
    )
    .execute(conn)
    .await?;
    Ok(())
}
