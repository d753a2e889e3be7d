//! The queries of plans.
//! Deliberately absent: `delete from plan` and anything that changes a sold version; a trigger refuses both anyway.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, Currency, Money, PlanId};
use serde::Deserialize;
use sqlx::{PgConnection, types::Json};

use super::{Grants, Limit, Plan, PlanState, Price, Terms};
use crate::saga::start_subscription::StartSubscription;

/// A limit as its row has it.
#[derive(Debug, Deserialize)]
struct LimitRow {
    name: String,
    beyond: String,
    included: Option<i64>,
    block_size: Option<i64>,
    price_amount_minor: Option<i64>,
    price_currency: Option<Currency>,
}

impl LimitRow {
    /// A CHECK keeps each kind whole, so the zeros below are never used.
    fn read(self) -> (String, Limit) {
        let included = self.included.unwrap_or_default();
        let limit = match (self.beyond.as_str(), self.price_currency) {
            ("overage", Some(currency)) => Limit::Overage {
                included,
                block_size: self.block_size.unwrap_or_default(),
                price: Money::new(self.price_amount_minor.unwrap_or_default(), currency),
            },
            ("unlimited", _) => Limit::Unlimited,
            _ => Limit::Block { included },
        };
        (self.name, limit)
    }
}

struct PlanRow {
    id: PlanId,
    state: String,
    revision: i64,
    version: i32,
    sold: bool,
    name: String,
    trial_days: i32,
    features: Vec<String>,
    prices: Json<Vec<Price>>,
    limits: Json<Vec<LimitRow>>,
    created_at: DateTime<Utc>,
    version_created_at: DateTime<Utc>,
}

impl From<PlanRow> for Plan {
    fn from(row: PlanRow) -> Plan {
        Plan {
            id: row.id,
            state: match row.state.as_str() {
                "archived" => PlanState::Archived,
                _ => PlanState::Active,
            },
            revision: row.revision,
            version: row.version,
            sold: row.sold,
            terms: Terms {
                name: row.name,
                prices: row.prices.0,
                trial_days: row.trial_days,
                grants: Grants {
                    features: row.features,
                    limits: row.limits.0.into_iter().map(LimitRow::read).collect(),
                },
            },
            created_at: row.created_at,
            version_created_at: row.version_created_at,
        }
    }
}

/// Reads a plan by one of its versions, the latest when none is named.
pub(crate) async fn get(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: PlanId,
    version: Option<i32>,
) -> Result<Option<Plan>> {
    let row = sqlx::query_file_as!(
        PlanRow,
        "src/plan/queries/get.sql",
        agency.uuid(),
        id.uuid(),
        version
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Plan::from))
}

pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    state: Option<PlanState>,
    after: Option<PlanId>,
    limit: i64,
) -> Result<Vec<Plan>> {
    let rows = sqlx::query_file_as!(
        PlanRow,
        "src/plan/queries/list.sql",
        agency.uuid(),
        state.map(PlanState::as_str),
        after.map(PlanId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Plan::from).collect())
}

/// Locks a plan against sale and change; false when there is none.
pub(super) async fn lock(conn: &mut PgConnection, agency: AgencyId, id: PlanId) -> Result<bool> {
    let row = sqlx::query!(
        "select id from plan where agency_id = $1 and id = $2 for update",
        agency.uuid(),
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Locks a plan as it stands while it is being sold; many may sell it at once, nobody may archive or edit it meanwhile.
pub(crate) async fn lock_for_sale(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: PlanId,
) -> Result<bool> {
    let row = sqlx::query!(
        "select id from plan where agency_id = $1 and id = $2 for share",
        agency.uuid(),
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// From now on this version stays as it is.
pub(crate) async fn mark_sold(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: PlanId,
    version: i32,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update plan_version set sold_at = $4 where agency_id = $1 and plan_id = $2 and version = $3 and sold_at is null",
        agency.uuid(),
        id.uuid(),
        version,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn find_by_name(
    conn: &mut PgConnection,
    agency: AgencyId,
    name: &str,
) -> Result<Option<PlanId>> {
    let row = sqlx::query!(
        r#"select id as "id: PlanId" from plan where agency_id = $1 and lower(name) = lower($2) and state = 'active'"#,
        agency.uuid(),
        name
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.id))
}

pub(super) async fn insert(conn: &mut PgConnection, agency: AgencyId, plan: &Plan) -> Result<()> {
    sqlx::query!(
        "insert into plan (agency_id, id, name, created_at, updated_at) values ($1, $2, $3, $4, $4)",
        agency.uuid(),
        plan.id.uuid(),
        plan.terms.name,
        plan.created_at
    )
    .execute(&mut *conn)
    .await?;
    insert_version(conn, agency, plan).await
}

/// Writes an edited plan: in the place of a version that nobody bought, or after one that somebody did.
pub(super) async fn apply(
    conn: &mut PgConnection,
    agency: AgencyId,
    before: &Plan,
    after: &Plan,
) -> Result<()> {
    sqlx::query!(
        "update plan set name = $3, latest_version = $4, revision = $5, updated_at = $6 where agency_id = $1 and id = $2",
        agency.uuid(),
        after.id.uuid(),
        after.terms.name,
        after.version,
        after.revision,
        after.version_created_at
    )
    .execute(&mut *conn)
    .await?;
    if before.version == after.version {
        delete_version(conn, agency, before).await?;
    }
    insert_version(conn, agency, after).await
}

pub(super) async fn archive(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: PlanId,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"update plan set state = 'archived', archived_at = $3, revision = revision + 1, updated_at = $3
           where agency_id = $1 and id = $2 and state = 'active'"#,
        agency.uuid(),
        id.uuid(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Live subscriptions on any version of the plan. Asked in an agency's transaction that sees all its clients.
pub(super) async fn count_live(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: PlanId,
) -> Result<i64> {
    let row = sqlx::query!(
        r#"
        select count(*) as "live!" from subscription
        where agency_id = $1 and plan_id = $2
          and status in ('incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused')
        "#,
        agency.uuid(),
        id.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(row.live)
}

async fn insert_version(conn: &mut PgConnection, agency: AgencyId, plan: &Plan) -> Result<()> {
    let terms = &plan.terms;
    sqlx::query!(
        r#"
        insert into plan_version (agency_id, plan_id, version, name, trial_days, features, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $7)
        "#,
        agency.uuid(),
        plan.id.uuid(),
        plan.version,
        terms.name,
        terms.trial_days,
        &terms.grants.features,
        plan.version_created_at
    )
    .execute(&mut *conn)
    .await?;
    insert_prices(conn, agency, plan).await?;
    insert_limits(conn, agency, plan).await
}

async fn insert_prices(conn: &mut PgConnection, agency: AgencyId, plan: &Plan) -> Result<()> {
    let prices = &plan.terms.prices;
    let currencies: Vec<String> = prices.iter().map(|p| p.currency.to_string()).collect();
    let intervals: Vec<String> = prices.iter().map(|p| p.interval.to_string()).collect();
    let amounts: Vec<i64> = prices.iter().map(|p| p.amount_minor).collect();
    sqlx::query!(
        r#"
        insert into plan_price (agency_id, plan_id, version, currency, "interval", amount_minor, position)
        select $1, $2, $3, currency, every, amount_minor, position::int
        from unnest($4::text[], $5::text[], $6::bigint[]) with ordinality as p (currency, every, amount_minor, position)
        "#,
        agency.uuid(),
        plan.id.uuid(),
        plan.version,
        &currencies,
        &intervals,
        &amounts
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_limits(conn: &mut PgConnection, agency: AgencyId, plan: &Plan) -> Result<()> {
    for (name, limit) in &plan.terms.grants.limits {
        let (beyond, included, block_size, price) = match limit {
            Limit::Block { included } => ("block", Some(*included), None, None),
            Limit::Overage {
                included,
                block_size,
                price,
            } => ("overage", Some(*included), Some(*block_size), Some(*price)),
            Limit::Unlimited => ("unlimited", None, None, None),
        };
        sqlx::query!(
            r#"
            insert into plan_limit (agency_id, plan_id, version, name, beyond, included, block_size, price_amount_minor,
                                    price_currency)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            "#,
            agency.uuid(),
            plan.id.uuid(),
            plan.version,
            name,
            beyond,
            included,
            block_size,
            price.map(|price| price.amount_minor),
            price.map(|price| price.currency.to_string())
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn delete_version(conn: &mut PgConnection, agency: AgencyId, plan: &Plan) -> Result<()> {
    let (agency, id, version) = (agency.uuid(), plan.id.uuid(), plan.version);
    sqlx::query!(
        "delete from plan_price where agency_id = $1 and plan_id = $2 and version = $3",
        agency,
        id,
        version
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "delete from plan_limit where agency_id = $1 and plan_id = $2 and version = $3",
        agency,
        id,
        version
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "delete from plan_version where agency_id = $1 and plan_id = $2 and version = $3",
        agency,
        id,
        version
    )
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// The price at Stripe that this price became, if it was sold before.
pub(crate) async fn stripe_price(
    conn: &mut PgConnection,
    agency: AgencyId,
    sold: &StartSubscription,
) -> Result<Option<String>> {
    let row = sqlx::query!(
        r#"
        select stripe_price_id from stripe_price
        where agency_id = $1 and plan_id = $2 and version = $3 and currency = $4 and "interval" = $5
        "#,
        agency.uuid(),
        sold.plan.uuid(),
        sold.plan_version,
        sold.price.currency.as_str(),
        sold.interval.as_str()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.stripe_price_id))
}

/// Notes it. Two who buy the same at once found the same one.
pub(crate) async fn note_stripe_price(
    conn: &mut PgConnection,
    agency: AgencyId,
    sold: &StartSubscription,
    stripe_product: &str,
    stripe_price: &str,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into stripe_price (agency_id, plan_id, version, currency, "interval", stripe_product_id, stripe_price_id)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (agency_id, plan_id, version, currency, "interval") do nothing
        "#,
        agency.uuid(),
        sold.plan.uuid(),
        sold.plan_version,
        sold.price.currency.as_str(),
        sold.interval.as_str(),
        stripe_product,
        stripe_price
    )
    .execute(conn)
    .await?;
    Ok(())
}
