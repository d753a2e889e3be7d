//! The inbox of Stripe's events, and the directory that says whose an object is.
//! Deliberately absent: the events' bodies; integrations keeps them.

use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, SubscriptionId, Tenant};
use sqlx::PgConnection;

use super::StripeEvent;
use crate::subscription::sql::lookup_key;

/// Whose an object at Stripe is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub tenant: Tenant,
    pub subscription: Option<SubscriptionId>,
}

pub(super) async fn find_owner(conn: &mut PgConnection, stripe_id: &str) -> Result<Option<Owner>> {
    let key = lookup_key(stripe_id);
    let row = sqlx::query!(
        r#"
        select agency_id as "agency_id: AgencyId", tenant_id as "tenant_id: ClientId",
          subscription_id as "subscription_id: SubscriptionId"
        from stripe_object where lookup_key = $1
        "#,
        key.as_slice()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Owner {
        tenant: Tenant {
            agency: row.agency_id,
            client: row.tenant_id,
        },
        subscription: row.subscription_id,
    }))
}

/// Whether the event had its effect. A first look, so that most duplicates cost nothing; [`note`] decides.
pub(super) async fn seen(conn: &mut PgConnection, event_id: &str) -> Result<bool> {
    let row = sqlx::query!(
        "select stripe_event_id from stripe_event_inbox where stripe_event_id = $1",
        event_id
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Notes the event in the transaction of its effect; false when it had it before. Waits for another transaction that is
/// giving it its effect right now.
pub(super) async fn note(
    conn: &mut PgConnection,
    event: &StripeEvent,
    outcome: &str,
) -> Result<bool> {
    let noted = sqlx::query!(
        r#"
        insert into stripe_event_inbox (stripe_event_id, type, outcome) values ($1, $2, $3)
        on conflict (stripe_event_id) do nothing
        "#,
        event.id,
        event.kind,
        outcome
    )
    .execute(conn)
    .await?;
    Ok(noted.rows_affected() == 1)
}
