//! The queries of invoices.
//! Deliberately absent: deleting.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{Currency, InvoiceId, Money, SubscriptionId, Tenant};
use sqlx::PgConnection;

use super::{Invoice, InvoiceStatus};

struct Row {
    id: InvoiceId,
    subscription_id: Option<SubscriptionId>,
    stripe_invoice_id: String,
    status: String,
    currency: String,
    amount_due_minor: i64,
    amount_paid_minor: i64,
    period_start_at: Option<DateTime<Utc>>,
    period_end_at: Option<DateTime<Utc>>,
    paid_at: Option<DateTime<Utc>>,
    sequence: i64,
    created_at: DateTime<Utc>,
}

impl From<Row> for Invoice {
    fn from(row: Row) -> Invoice {
        let currency = row.currency.parse().unwrap_or(Currency::USD);
        Invoice {
            id: row.id,
            subscription_id: row.subscription_id,
            stripe_invoice_id: row.stripe_invoice_id,
            // A CHECK keeps it to these words.
            status: InvoiceStatus::from_text(&row.status).unwrap_or(InvoiceStatus::Draft),
            amount_due: Money::new(row.amount_due_minor, currency),
            amount_paid: Money::new(row.amount_paid_minor, currency),
            period_start_at: row.period_start_at,
            period_end_at: row.period_end_at,
            paid_at: row.paid_at,
            sequence: row.sequence,
            created_at: row.created_at,
        }
    }
}

/// A client's, newest first; or the one that Stripe calls so.
async fn select(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_invoice: Option<&str>,
    after: Option<InvoiceId>,
    limit: i64,
) -> Result<Vec<Invoice>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select id as "id: InvoiceId", subscription_id as "subscription_id: SubscriptionId", stripe_invoice_id, status,
          currency, amount_due_minor, amount_paid_minor, period_start_at, period_end_at, paid_at, sequence, created_at
        from invoice
        where tenant_id = $1 and ($2::text is null or stripe_invoice_id = $2) and ($3::uuid is null or id < $3)
        order by id desc
        limit $4
        "#,
        tenant.client.uuid(),
        stripe_invoice,
        after.map(InvoiceId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Invoice::from).collect())
}

/// A page of a client's, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: Option<InvoiceId>,
    limit: i64,
) -> Result<Vec<Invoice>> {
    select(conn, tenant, None, after, limit).await
}

/// The mirror of an invoice at Stripe. Read under the lock of the client's account.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_invoice: &str,
) -> Result<Option<Invoice>> {
    let mut rows = select(conn, tenant, Some(stripe_invoice), None, 1).await?;
    Ok(rows.pop())
}

/// Writes the mirror.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    invoice: &Invoice,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into invoice (agency_id, tenant_id, id, subscription_id, stripe_invoice_id, status, currency,
                             amount_due_minor, amount_paid_minor, period_start_at, period_end_at, paid_at, sequence,
                             created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        on conflict (tenant_id, id) do update set subscription_id = excluded.subscription_id, status = excluded.status,
          amount_due_minor = excluded.amount_due_minor, amount_paid_minor = excluded.amount_paid_minor,
          period_start_at = excluded.period_start_at, period_end_at = excluded.period_end_at,
          paid_at = excluded.paid_at, sequence = excluded.sequence, updated_at = excluded.updated_at
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        invoice.id.uuid(),
        invoice.subscription_id.map(SubscriptionId::uuid),
        invoice.stripe_invoice_id,
        invoice.status.as_str(),
        invoice.amount_due.currency.as_str(),
        invoice.amount_due.amount_minor,
        invoice.amount_paid.amount_minor,
        invoice.period_start_at,
        invoice.period_end_at,
        invoice.paid_at,
        invoice.sequence,
        invoice.created_at,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
