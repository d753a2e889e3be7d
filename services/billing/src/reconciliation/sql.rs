//! The queries of runs, of what they met, and of our rows that they did not meet.
//! Deliberately absent: counting by addition what can be counted from rows; a page that is done twice counts once.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, ReconciliationId, SubscriptionId, Tenant};
use serde_json::Value;
use sqlx::PgConnection;

use super::{Run, RunState, Tally};

/// A run without a page done for so long has lost its job: a page takes minutes, and its tries end within half an hour.
const LOST_AFTER: TimeDelta = TimeDelta::hours(2);
const LOST: &str =
    "No page was done for two hours; its job is gone. See the dead letters, and start another run.";

struct Row {
    id: ReconciliationId,
    agency_id: Option<AgencyId>,
    dry_run: bool,
    state: String,
    position: Value,
    objects_count: i64,
    in_flight_count: i64,
    foreign_count: i64,
    found_count: i64,
    repaired_count: i64,
    open_count: i64,
    error: Option<String>,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<Row> for Run {
    fn from(row: Row) -> Run {
        Run {
            id: row.id,
            agency: row.agency_id,
            dry_run: row.dry_run,
            state: RunState::from_text(&row.state),
            position: row.position,
            objects_count: row.objects_count,
            in_flight_count: row.in_flight_count,
            foreign_count: row.foreign_count,
            found_count: row.found_count,
            repaired_count: row.repaired_count,
            open_count: row.open_count,
            error: row.error,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

/// Writes a run; `billing_reconciliation_one_running_key` refuses when another is under way.
pub(super) async fn insert(conn: &mut PgConnection, run: &Run, requested_by: &str) -> Result<()> {
    sqlx::query!(
        r#"
        insert into billing_reconciliation (id, agency_id, provider, dry_run, position, requested_by, created_at, updated_at)
        values ($1, $2, 'stripe', $3, $4, $5, $6, $6)
        "#,
        run.id.uuid(),
        run.agency.map(AgencyId::uuid),
        run.dry_run,
        run.position,
        requested_by,
        run.created_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the run that lost its job, so that another can start.
pub(super) async fn end_lost(
    conn: &mut PgConnection,
    agency: Option<AgencyId>,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        update billing_reconciliation set state = 'failed', error = $3, ended_at = $2, updated_at = $2
        where agency_id is not distinct from $1 and state = 'running' and updated_at < $4
        "#,
        agency.map(AgencyId::uuid),
        now,
        LOST,
        now - LOST_AFTER,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The agency's run that is under way.
pub(super) async fn find_running(
    conn: &mut PgConnection,
    agency: Option<AgencyId>,
) -> Result<Option<ReconciliationId>> {
    let row = sqlx::query!(
        r#"
        select id as "id: ReconciliationId" from billing_reconciliation
        where agency_id is not distinct from $1 and state = 'running'
        "#,
        agency.map(AgencyId::uuid),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.id))
}

/// A run, whosoever it is. For workers.
pub(crate) async fn find(conn: &mut PgConnection, id: ReconciliationId) -> Result<Option<Run>> {
    let mut rows = select(conn, None, Some(id), None, 1).await?;
    Ok(rows.pop())
}

/// An agency's run.
pub(super) async fn get(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ReconciliationId,
) -> Result<Option<Run>> {
    let mut rows = select(conn, Some(agency), Some(id), None, 1).await?;
    Ok(rows.pop())
}

/// An agency's runs, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    after: Option<ReconciliationId>,
    limit: i64,
) -> Result<Vec<Run>> {
    select(conn, Some(agency), None, after, limit).await
}

async fn select(
    conn: &mut PgConnection,
    agency: Option<AgencyId>,
    id: Option<ReconciliationId>,
    after: Option<ReconciliationId>,
    limit: i64,
) -> Result<Vec<Run>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select id as "id: ReconciliationId", agency_id as "agency_id: AgencyId", dry_run, state, position, objects_count,
          in_flight_count, foreign_count, found_count, repaired_count, open_count, error, created_at, ended_at
        from billing_reconciliation
        where ($1::uuid is null or agency_id = $1) and ($2::uuid is null or id = $2) and ($3::uuid is null or id < $3)
        order by id desc
        limit $4
        "#,
        agency.map(AgencyId::uuid),
        id.map(ReconciliationId::uuid),
        after.map(ReconciliationId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Run::from).collect())
}

/// How a page leaves its run.
#[derive(Debug)]
pub(crate) enum Left<'a> {
    /// Another page follows.
    At(&'a Value),
    /// That was the last.
    Completed,
    /// It cannot go on.
    Failed(&'a str),
}

/// Writes what a page did and where that leaves the run. What was found is counted from its rows.
pub(crate) async fn advance(
    conn: &mut PgConnection,
    id: ReconciliationId,
    tally: Tally,
    left: &Left<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    let (state, position, error) = match left {
        Left::At(position) => ("running", Some(*position), None),
        Left::Completed => ("completed", None, None),
        Left::Failed(error) => ("failed", None, Some(*error)),
    };
    let ended = state != "running";
    sqlx::query!(
        r#"
        with met as (
          select count(*) as found, count(*) filter (where state = 'repaired') as repaired,
            count(*) filter (where state = 'open') as open
          from billing_discrepancy
          where last_reconciliation_id = $1 and state <> 'resolved' and kind <> 'foreign'
        )
        update billing_reconciliation r set state = $2, position = coalesce($3, r.position), error = $4,
          ended_at = case when $5 then $6::timestamptz end, updated_at = $6,
          objects_count = r.objects_count + $7, in_flight_count = r.in_flight_count + $8,
          foreign_count = r.foreign_count + $9,
          found_count = met.found, repaired_count = met.repaired, open_count = met.open
        from met
        where r.id = $1 and r.state = 'running'
        "#,
        id.uuid(),
        state,
        position,
        error,
        ended,
        now,
        tally.objects,
        tally.in_flight,
        tally.foreign,
    )
    .execute(&mut *conn)
    .await?;
    if ended {
        sqlx::query!(
            "delete from reconciliation_sighting where reconciliation_id = $1",
            id.uuid()
        )
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Notes that a run met an object at Stripe.
pub(super) async fn note_sighting(
    conn: &mut PgConnection,
    run: ReconciliationId,
    tenant: Tenant,
    noun: &str,
    stripe_id: &str,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into reconciliation_sighting (reconciliation_id, stripe_id, noun, agency_id, tenant_id)
        values ($1, $2, $3, $4, $5)
        on conflict (reconciliation_id, stripe_id) do nothing
        "#,
        run.uuid(),
        stripe_id,
        noun,
        tenant.agency.uuid(),
        tenant.client.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Clients of whom a run met more than one live subscription.
pub(super) async fn list_doubled(
    conn: &mut PgConnection,
    run: ReconciliationId,
    after: Option<ClientId>,
    limit: i64,
) -> Result<Vec<(Tenant, Vec<String>)>> {
    let rows = sqlx::query!(
        r#"
        select (array_agg(agency_id))[1] as "agency_id!: AgencyId", tenant_id as "tenant_id: ClientId",
          array_agg(stripe_id order by stripe_id) as "stripe_ids!"
        from reconciliation_sighting
        where reconciliation_id = $1 and noun = 'subscription' and ($2::uuid is null or tenant_id > $2)
        group by tenant_id
        having count(*) > 1
        order by tenant_id
        limit $3
        "#,
        run.uuid(),
        after.map(ClientId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    let doubled = rows.into_iter().map(|row| {
        let tenant = Tenant {
            agency: row.agency_id,
            client: row.tenant_id,
        };
        (tenant, row.stripe_ids)
    });
    Ok(doubled.collect())
}

/// The agency after this one, of all that ever had an object at Stripe.
pub(super) async fn next_agency(
    conn: &mut PgConnection,
    after: Option<AgencyId>,
) -> Result<Option<AgencyId>> {
    let row = sqlx::query!(
        r#"
        select agency_id as "agency_id: AgencyId" from stripe_object
        where $1::uuid is null or agency_id > $1
        order by agency_id limit 1
        "#,
        after.map(AgencyId::uuid),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.agency_id))
}

/// A row of ours that a run did not meet at Stripe.
#[derive(Debug)]
pub(super) struct Unmet<K> {
    pub id: K,
    pub client: ClientId,
    pub stripe_id: String,
}

/// An agency's live subscriptions that the run did not meet. In a transaction of that agency.
pub(super) async fn list_unmet_subscriptions(
    conn: &mut PgConnection,
    agency: AgencyId,
    run: ReconciliationId,
    after: Option<SubscriptionId>,
    limit: i64,
) -> Result<Vec<Unmet<SubscriptionId>>> {
    Ok(sqlx::query_as!(
        Unmet,
        r#"
        select o.id as "id: SubscriptionId", o.tenant_id as "client: ClientId",
          o.stripe_subscription_id as "stripe_id!"
        from subscription o
        where o.agency_id = $1 and o.stripe_subscription_id is not null and ($3::uuid is null or o.id < $3)
          and o.status in ('incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused')
          and not exists (
            select from reconciliation_sighting s
            where s.reconciliation_id = $2 and s.stripe_id = o.stripe_subscription_id)
        order by o.id desc
        limit $4
        "#,
        agency.uuid(),
        run.uuid(),
        after.map(SubscriptionId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// An agency's accounts whose customer the run did not meet. In a transaction of that agency.
pub(super) async fn list_unmet_accounts(
    conn: &mut PgConnection,
    agency: AgencyId,
    run: ReconciliationId,
    after: Option<ClientId>,
    limit: i64,
) -> Result<Vec<Unmet<ClientId>>> {
    Ok(sqlx::query_as!(
        Unmet,
        r#"
        select o.tenant_id as "id: ClientId", o.tenant_id as "client: ClientId", o.stripe_customer_id as "stripe_id!"
        from billing_account o
        where o.agency_id = $1 and o.stripe_customer_id is not null and ($3::uuid is null or o.tenant_id > $3)
          and not exists (
            select from reconciliation_sighting s
            where s.reconciliation_id = $2 and s.stripe_id = o.stripe_customer_id)
        order by o.tenant_id
        limit $4
        "#,
        agency.uuid(),
        run.uuid(),
        after.map(ClientId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?)
}
