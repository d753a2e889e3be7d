//! The differences found, as rows: one that is found again is the same row, one that is gone says since when.
//! Deliberately absent: deleting. What was repaired is the answer to "why did this change?" for a year.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, DiscrepancyId, ReconciliationId, SubscriptionId, Tenant};
use serde_json::Value;
use sqlx::PgConnection;

use super::{Kind, State};

/// How long what a dry run found is kept.
const PREVIEW_KEPT: TimeDelta = TimeDelta::days(7);

/// A difference, to be written.
#[derive(Debug, Clone)]
pub(super) struct Difference<'a> {
    pub kind: Kind,
    /// Stripe's id of what differs, else ours.
    pub subject: &'a str,
    pub stripe_id: Option<&'a str>,
    pub tenant: Option<Tenant>,
    pub subscription: Option<SubscriptionId>,
    pub before: &'a Value,
    pub after: &'a Value,
    pub cause: &'a str,
    pub action: &'a str,
    /// A repair is begun.
    pub attempted: bool,
}

/// A difference as it stands.
#[derive(Debug, Clone)]
pub(super) struct Discrepancy {
    pub id: DiscrepancyId,
    pub agency_id: Option<AgencyId>,
    pub tenant_id: Option<ClientId>,
    pub reconciliation_id: ReconciliationId,
    pub last_reconciliation_id: ReconciliationId,
    pub kind: String,
    pub subject: String,
    pub stripe_id: Option<String>,
    pub subscription_id: Option<SubscriptionId>,
    pub state: String,
    pub before: Value,
    pub after: Value,
    pub cause: String,
    pub action: String,
    pub resolved_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

/// Writes what a dry run found.
pub(super) async fn preview(
    conn: &mut PgConnection,
    run: ReconciliationId,
    found: &Difference<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into billing_discrepancy
          (id, agency_id, tenant_id, reconciliation_id, last_reconciliation_id, kind, subject, stripe_id, subscription_id,
           state, before, after, cause, action, created_at, updated_at, expires_at)
        values ($1, $2, $3, $4, $4, $5, $6, $7, $8, 'previewed', $9, $10, $11, $12, $13, $13, $14)
        on conflict (reconciliation_id, subject, kind) where state = 'previewed' do nothing
        "#,
        DiscrepancyId::generate().uuid(),
        found.tenant.map(|tenant| tenant.agency.uuid()),
        found.tenant.map(|tenant| tenant.client.uuid()),
        run.uuid(),
        found.kind.as_str(),
        found.subject,
        found.stripe_id,
        found.subscription.map(SubscriptionId::uuid),
        found.before,
        found.after,
        found.cause,
        found.action,
        now,
        now + PREVIEW_KEPT,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes a difference, or that it was met again; also whether it is new.
pub(super) async fn record(
    conn: &mut PgConnection,
    run: ReconciliationId,
    found: &Difference<'_>,
    now: DateTime<Utc>,
) -> Result<(DiscrepancyId, bool)> {
    let row = sqlx::query!(
        r#"
        insert into billing_discrepancy
          (id, agency_id, tenant_id, reconciliation_id, last_reconciliation_id, kind, subject, stripe_id, subscription_id,
           state, before, after, cause, action, attempted, created_at, updated_at)
        values ($1, $2, $3, $4, $4, $5, $6, $7, $8, 'open', $9, $10, $11, $12, $13, $14, $14)
        on conflict (subject, kind) where state = 'open' do update
          set last_reconciliation_id = excluded.last_reconciliation_id, before = excluded.before, after = excluded.after,
            cause = excluded.cause, action = excluded.action, updated_at = excluded.updated_at,
            attempted = billing_discrepancy.attempted or excluded.attempted
        returning id as "id: DiscrepancyId", (id = $1) as "is_new!"
        "#,
        DiscrepancyId::generate().uuid(),
        found.tenant.map(|tenant| tenant.agency.uuid()),
        found.tenant.map(|tenant| tenant.client.uuid()),
        run.uuid(),
        found.kind.as_str(),
        found.subject,
        found.stripe_id,
        found.subscription.map(SubscriptionId::uuid),
        found.before,
        found.after,
        found.cause,
        found.action,
        found.attempted,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok((row.id, row.is_new))
}

/// The repair is done; `after` is how it stands here since.
pub(super) async fn repaired(
    conn: &mut PgConnection,
    id: DiscrepancyId,
    after: &Value,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        update billing_discrepancy set state = 'repaired', after = $2, resolved_at = $3, updated_at = $3
        where id = $1 and state = 'open'
        "#,
        id.uuid(),
        after,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What of an object does not differ any more: repaired where a repair had been begun, else gone by itself or by a person.
pub(super) async fn settle(
    conn: &mut PgConnection,
    run: ReconciliationId,
    subject: &str,
    still: &[Kind],
    now: DateTime<Utc>,
) -> Result<()> {
    let still: Vec<String> = still.iter().map(|kind| kind.as_str().to_owned()).collect();
    sqlx::query!(
        r#"
        update billing_discrepancy set state = case when attempted then 'repaired' else 'resolved' end,
          last_reconciliation_id = $1, resolved_at = $4, updated_at = $4
        where subject = $2 and state = 'open' and kind <> all($3)
        "#,
        run.uuid(),
        subject,
        &still,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What is open and was not met by this run, or whose repair was begun and not seen to end.
pub(super) async fn list_unmet(
    conn: &mut PgConnection,
    agency: Option<AgencyId>,
    run: ReconciliationId,
    after: Option<DiscrepancyId>,
    limit: i64,
) -> Result<Vec<Discrepancy>> {
    Ok(sqlx::query_as!(
        Discrepancy,
        r#"
        select id as "id: DiscrepancyId", agency_id as "agency_id: AgencyId", tenant_id as "tenant_id: ClientId",
          reconciliation_id as "reconciliation_id: ReconciliationId",
          last_reconciliation_id as "last_reconciliation_id: ReconciliationId", kind, subject, stripe_id,
          subscription_id as "subscription_id: SubscriptionId", state, before, after, cause, action, resolved_at, created_at
        from billing_discrepancy
        where state = 'open' and (last_reconciliation_id <> $2 or attempted)
          and ($1::uuid is null or agency_id = $1) and ($3::uuid is null or id > $3)
        order by id
        limit $4
        "#,
        agency.map(AgencyId::uuid),
        run.uuid(),
        after.map(DiscrepancyId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// Which differences are listed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Filter {
    pub kind: Option<Kind>,
    pub state: Option<State>,
    pub run: Option<ReconciliationId>,
}

/// An agency's, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    filter: Filter,
    after: Option<DiscrepancyId>,
    limit: i64,
) -> Result<Vec<Discrepancy>> {
    Ok(sqlx::query_as!(
        Discrepancy,
        r#"
        select id as "id: DiscrepancyId", agency_id as "agency_id: AgencyId", tenant_id as "tenant_id: ClientId",
          reconciliation_id as "reconciliation_id: ReconciliationId",
          last_reconciliation_id as "last_reconciliation_id: ReconciliationId", kind, subject, stripe_id,
          subscription_id as "subscription_id: SubscriptionId", state, before, after, cause, action, resolved_at, created_at
        from billing_discrepancy
        where agency_id = $1 and ($2::text is null or kind = $2) and ($3::text is null or state = $3)
          and ($4::uuid is null or last_reconciliation_id = $4) and ($5::uuid is null or id < $5)
        order by id desc
        limit $6
        "#,
        agency.uuid(),
        filter.kind.map(Kind::as_str),
        filter.state.map(State::as_str),
        filter.run.map(ReconciliationId::uuid),
        after.map(DiscrepancyId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?)
}
