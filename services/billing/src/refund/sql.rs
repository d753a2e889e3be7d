//! The queries of refunds.
//! Deliberately absent: sums. What was given back of a payment stands on the payment.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{Currency, Money, PaymentId, RefundId, Tenant};
use sqlx::PgConnection;

use super::{Refund, RefundStatus};

struct Row {
    id: RefundId,
    payment_id: PaymentId,
    stripe_refund_id: String,
    status: String,
    currency: String,
    amount_minor: i64,
    reason: Option<String>,
    failure_reason: Option<String>,
    sequence: i64,
    created_at: DateTime<Utc>,
}

impl From<Row> for Refund {
    fn from(row: Row) -> Refund {
        Refund {
            id: row.id,
            payment_id: row.payment_id,
            stripe_refund_id: row.stripe_refund_id,
            // CHECKs keep both to what we know.
            status: RefundStatus::from_text(&row.status).unwrap_or(RefundStatus::Pending),
            amount: Money::new(
                row.amount_minor,
                row.currency.parse().unwrap_or(Currency::USD),
            ),
            reason: row.reason,
            failure_reason: row.failure_reason,
            sequence: row.sequence,
            created_at: row.created_at,
        }
    }
}

/// Those of these payments, newest first. A page of payments, each with the few refunds it can have.
pub(crate) async fn of_payments(
    conn: &mut PgConnection,
    tenant: Tenant,
    payments: &[PaymentId],
) -> Result<Vec<Refund>> {
    let payments: Vec<uuid::Uuid> = payments.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"
        select id as "id: RefundId", payment_id as "payment_id: PaymentId", stripe_refund_id, status, currency,
          amount_minor, reason, failure_reason, sequence, created_at
        from refund
        where tenant_id = $1 and payment_id = any($2)
        order by id desc
        limit 1000
        "#,
        tenant.client.uuid(),
        &payments
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Refund::from).collect())
}

/// The mirror of a refund at Stripe. Read under the lock of the client's account.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_refund: &str,
) -> Result<Option<Refund>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id as "id: RefundId", payment_id as "payment_id: PaymentId", stripe_refund_id, status, currency,
          amount_minor, reason, failure_reason, sequence, created_at
        from refund
        where tenant_id = $1 and stripe_refund_id = $2
        "#,
        tenant.client.uuid(),
        stripe_refund
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Refund::from))
}

/// Writes the mirror.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    refund: &Refund,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into refund (agency_id, tenant_id, id, payment_id, stripe_refund_id, status, currency, amount_minor,
                            reason, failure_reason, sequence, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        on conflict (tenant_id, id) do update set status = excluded.status, amount_minor = excluded.amount_minor,
          reason = excluded.reason, failure_reason = excluded.failure_reason, sequence = excluded.sequence,
          updated_at = excluded.updated_at
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        refund.id.uuid(),
        refund.payment_id.uuid(),
        refund.stripe_refund_id,
        refund.status.as_str(),
        refund.amount.currency.as_str(),
        refund.amount.amount_minor,
        refund.reason,
        refund.failure_reason,
        refund.sequence,
        refund.created_at,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
