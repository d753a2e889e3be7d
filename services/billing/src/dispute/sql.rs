//! The queries of disputes.
//! Deliberately absent: deleting.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, Currency, DisputeId, Money, PaymentId, Tenant};
use sqlx::PgConnection;

use super::{Dispute, DisputeStatus};

struct Row {
    id: DisputeId,
    tenant_id: ClientId,
    payment_id: PaymentId,
    stripe_dispute_id: String,
    status: String,
    currency: String,
    amount_minor: i64,
    reason: String,
    evidence_due_at: Option<DateTime<Utc>>,
    funds_withdrawn: bool,
    funds_reinstated: bool,
    closed_at: Option<DateTime<Utc>>,
    sequence: i64,
    created_at: DateTime<Utc>,
}

impl From<Row> for Dispute {
    fn from(row: Row) -> Dispute {
        Dispute {
            id: row.id,
            client_id: row.tenant_id,
            payment_id: row.payment_id,
            stripe_dispute_id: row.stripe_dispute_id,
            // CHECKs keep both to what we know.
            status: DisputeStatus::from_text(&row.status).unwrap_or(DisputeStatus::NeedsResponse),
            amount: Money::new(
                row.amount_minor,
                row.currency.parse().unwrap_or(Currency::USD),
            ),
            reason: row.reason,
            evidence_due_at: row.evidence_due_at,
            funds_withdrawn: row.funds_withdrawn,
            funds_reinstated: row.funds_reinstated,
            closed_at: row.closed_at,
            sequence: row.sequence,
            created_at: row.created_at,
        }
    }
}

/// Those of the clients that the transaction may see, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: Option<DisputeId>,
    status: Option<DisputeStatus>,
    after: Option<DisputeId>,
    limit: i64,
) -> Result<Vec<Dispute>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select id as "id: DisputeId", tenant_id as "tenant_id: ClientId", payment_id as "payment_id: PaymentId",
          stripe_dispute_id, status, currency, amount_minor, reason, evidence_due_at, funds_withdrawn, funds_reinstated,
          closed_at, sequence, created_at
        from dispute
        where agency_id = $1 and ($2::uuid is null or id = $2) and ($3::text is null or status = $3)
          and ($4::uuid is null or id < $4)
        order by id desc
        limit $5
        "#,
        agency.uuid(),
        id.map(DisputeId::uuid),
        status.map(DisputeStatus::as_str),
        after.map(DisputeId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Dispute::from).collect())
}

/// The mirror of a dispute at Stripe. Read under the lock of the client's account.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    stripe_dispute: &str,
) -> Result<Option<Dispute>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id as "id: DisputeId", tenant_id as "tenant_id: ClientId", payment_id as "payment_id: PaymentId",
          stripe_dispute_id, status, currency, amount_minor, reason, evidence_due_at, funds_withdrawn, funds_reinstated,
          closed_at, sequence, created_at
        from dispute
        where tenant_id = $1 and stripe_dispute_id = $2
        "#,
        tenant.client.uuid(),
        stripe_dispute
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Dispute::from))
}

/// Writes the mirror.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    dispute: &Dispute,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into dispute (agency_id, tenant_id, id, payment_id, stripe_dispute_id, status, currency, amount_minor,
                             reason, evidence_due_at, funds_withdrawn, funds_reinstated, closed_at, sequence, created_at,
                             updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
        on conflict (tenant_id, id) do update set status = excluded.status, amount_minor = excluded.amount_minor,
          reason = excluded.reason, evidence_due_at = excluded.evidence_due_at,
          funds_withdrawn = excluded.funds_withdrawn, funds_reinstated = excluded.funds_reinstated,
          closed_at = excluded.closed_at, sequence = excluded.sequence, updated_at = excluded.updated_at
        "#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        dispute.id.uuid(),
        dispute.payment_id.uuid(),
        dispute.stripe_dispute_id,
        dispute.status.as_str(),
        dispute.amount.currency.as_str(),
        dispute.amount.amount_minor,
        dispute.reason,
        dispute.evidence_due_at,
        dispute.funds_withdrawn,
        dispute.funds_reinstated,
        dispute.closed_at,
        dispute.sequence,
        dispute.created_at,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
