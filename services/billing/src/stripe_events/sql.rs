//! The inbox of Stripe's events: which had their effect.
//! Deliberately absent: the events' bodies; integrations keeps them.

use mainstay_db::Result;
use sqlx::PgConnection;

use super::StripeEvent;

/// Which of these events had their effect.
pub(super) async fn seen_of(conn: &mut PgConnection, ids: &[String]) -> Result<Vec<String>> {
    let rows = sqlx::query!(
        "select stripe_event_id from stripe_event_inbox where stripe_event_id = any($1)",
        ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.stripe_event_id).collect())
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
