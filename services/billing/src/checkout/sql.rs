//! The queries of checkout sessions, and of the place that a paid one takes.
//! Deliberately absent: deleting.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, SagaId, SubscriptionId, Tenant};
use sqlx::PgConnection;

use super::SessionState;
use crate::saga::onboard_client::Sold;

/// Notes how far a session has come; gives its sequence, none when that was noted or it has gone further since.
pub(crate) async fn note(
    conn: &mut PgConnection,
    agency: AgencyId,
    stripe_session: &str,
    state: SessionState,
) -> Result<Option<i64>> {
    let row = sqlx::query!(
        r#"
        insert into checkout_session as c (agency_id, stripe_session_id, state, sequence) values ($1, $2, $3, 1)
        on conflict (stripe_session_id) do update set state = excluded.state, sequence = c.sequence + 1
          where c.agency_id = $1 and c.state = 'awaiting_payment' and c.state <> excluded.state
        returning sequence
        "#,
        agency.uuid(),
        stripe_session,
        state.as_str()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.sequence))
}

/// Notes that a session was paid, and by which saga it has its effect; false when it had it before.
pub(crate) async fn note_paid(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_session: &str,
    saga: SagaId,
) -> Result<bool> {
    let noted = sqlx::query!(
        r#"
        insert into checkout_session as c (agency_id, stripe_session_id, state, client_id, saga_id, sequence)
        values ($1, $2, 'paid', $3, $4, 1)
        on conflict (stripe_session_id) do update set state = 'paid', client_id = $3, saga_id = $4,
          sequence = c.sequence + 1
          where c.agency_id = $1 and c.state <> 'paid'
        "#,
        tenant.agency.uuid(),
        stripe_session,
        tenant.client.uuid(),
        saga.uuid()
    )
    .execute(conn)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Takes the client's one place for what it bought at Stripe; `subscription_one_live_key` refuses when it is taken.
pub(crate) async fn take_place(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: SubscriptionId,
    saga: SagaId,
    sold: &Sold,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into subscription (agency_id, tenant_id, id, plan_id, plan_version, currency, "interval", amount_minor,
                                  saga_id, sequence, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $10)
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        id.uuid(),
        sold.plan.uuid(),
        sold.plan_version,
        sold.price.currency.as_str(),
        sold.interval.as_str(),
        sold.price.amount_minor,
        saga.uuid(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
