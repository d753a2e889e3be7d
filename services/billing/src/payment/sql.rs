//! The queries of payments.
//! Deliberately absent: deleting.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{Currency, InvoiceId, Money, PaymentId, Tenant};
use sqlx::PgConnection;

use super::{Payment, PaymentStatus};

struct Row {
    id: PaymentId,
    stripe_id: String,
    stripe_charge_id: Option<String>,
    stripe_invoice_id: Option<String>,
    invoice_id: Option<InvoiceId>,
    status: String,
    currency: String,
    amount_minor: i64,
    amount_captured_minor: i64,
    amount_refunded_minor: i64,
    disputed: bool,
    failure_code: Option<String>,
    failure_message: Option<String>,
    charged_at: Option<DateTime<Utc>>,
    sequence: i64,
    created_at: DateTime<Utc>,
}

impl From<Row> for Payment {
    fn from(row: Row) -> Payment {
        Payment {
            id: row.id,
            stripe_id: row.stripe_id,
            stripe_charge_id: row.stripe_charge_id,
            stripe_invoice_id: row.stripe_invoice_id,
            invoice_id: row.invoice_id,
            // CHECKs keep both to what we know.
            status: PaymentStatus::from_text(&row.status).unwrap_or(PaymentStatus::Failed),
            amount: Money::new(
                row.amount_minor,
                row.currency.parse().unwrap_or(Currency::USD),
            ),
            captured_minor: row.amount_captured_minor,
            refunded_minor: row.amount_refunded_minor,
            disputed: row.disputed,
            failure_code: row.failure_code,
            failure_message: row.failure_message,
            charged_at: row.charged_at,
            sequence: row.sequence,
            created_at: row.created_at,
        }
    }
}

/// A client's, newest first; or the one that Stripe calls so.
async fn select(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_id: Option<&str>,
    after: Option<PaymentId>,
    limit: i64,
) -> Result<Vec<Payment>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select p.id as "id: PaymentId", p.stripe_id, p.stripe_charge_id, p.stripe_invoice_id,
          i.id as "invoice_id?: InvoiceId", p.status, p.currency, p.amount_minor, p.amount_captured_minor,
          p.amount_refunded_minor, p.disputed, p.failure_code, p.failure_message, p.charged_at, p.sequence, p.created_at
        from payment p
        left join invoice i on i.stripe_invoice_id = p.stripe_invoice_id and i.tenant_id = p.tenant_id
        where p.tenant_id = $1 and ($2::text is null or p.stripe_id = $2) and ($3::uuid is null or p.id < $3)
        order by p.id desc
        limit $4
        "#,
        tenant.client.uuid(),
        stripe_id,
        after.map(PaymentId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Payment::from).collect())
}

/// A page of a client's, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: Option<PaymentId>,
    limit: i64,
) -> Result<Vec<Payment>> {
    select(conn, tenant, None, after, limit).await
}

/// The mirror of a payment at Stripe. Read under the lock of the client's account.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_id: &str,
) -> Result<Option<Payment>> {
    let mut rows = select(conn, tenant, Some(stripe_id), None, 1).await?;
    Ok(rows.pop())
}

/// What the mirror says was taken for an invoice.
pub(crate) async fn taken_for(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_invoice: &str,
) -> Result<i64> {
    let row = sqlx::query!(
        r#"
        select coalesce(sum(amount_captured_minor), 0)::bigint as "taken!" from payment
        where tenant_id = $1 and stripe_invoice_id = $2
        "#,
        tenant.client.uuid(),
        stripe_invoice
    )
    .fetch_one(conn)
    .await?;
    Ok(row.taken)
}

/// Writes the mirror.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    payment: &Payment,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into payment (agency_id, tenant_id, id, stripe_id, stripe_charge_id, stripe_invoice_id, status, currency,
                             amount_minor, amount_captured_minor, amount_refunded_minor, disputed, failure_code,
                             failure_message, charged_at, sequence, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
        on conflict (tenant_id, id) do update set stripe_charge_id = excluded.stripe_charge_id,
          stripe_invoice_id = excluded.stripe_invoice_id, status = excluded.status, amount_minor = excluded.amount_minor,
          amount_captured_minor = excluded.amount_captured_minor, amount_refunded_minor = excluded.amount_refunded_minor,
          disputed = excluded.disputed, failure_code = excluded.failure_code, failure_message = excluded.failure_message,
          charged_at = excluded.charged_at, sequence = excluded.sequence, updated_at = excluded.updated_at
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        payment.id.uuid(),
        payment.stripe_id,
        payment.stripe_charge_id,
        payment.stripe_invoice_id,
        payment.status.as_str(),
        payment.amount.currency.as_str(),
        payment.amount.amount_minor,
        payment.captured_minor,
        payment.refunded_minor,
        payment.disputed,
        payment.failure_code,
        payment.failure_message,
        payment.charged_at,
        payment.sequence,
        payment.created_at,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
