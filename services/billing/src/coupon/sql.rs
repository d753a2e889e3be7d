//! The queries of coupons and their redemptions.
//! Deliberately absent: a statement that moves the counter without its row, or a row without the counter. Only the daily
//! count writes the counter alone, to what the rows say.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, CouponId, Currency, Money, PlanId, SubscriptionId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::redemption::Purchase;
use super::rules::{self, Past};
use super::{Coupon, CouponState, Duration, Off, Terms};

struct CouponRow {
    id: CouponId,
    code: String,
    percent_off_bp: Option<i32>,
    amount_off_minor: Option<i64>,
    currency: Option<String>,
    duration: String,
    duration_in_months: Option<i32>,
    max_redemptions: Option<i32>,
    max_redemptions_per_client: Option<i32>,
    first_time_only: bool,
    starts_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    state: String,
    deactivated_at: Option<DateTime<Utc>>,
    times_redeemed: i32,
    revision: i64,
    created_at: DateTime<Utc>,
    plans: Vec<PlanId>,
}

/// What is taken off, from columns that a CHECK keeps to exactly one of the two.
pub(crate) fn off(percent_off_bp: Option<i32>, amount: Option<i64>, currency: Option<&str>) -> Off {
    match percent_off_bp {
        Some(bp) => Off::Percent { bp },
        None => Off::Amount {
            amount: Money::new(
                amount.unwrap_or_default(),
                currency
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(Currency::USD),
            ),
        },
    }
}

/// For how long, from columns that a CHECK keeps whole.
pub(crate) fn duration(kind: &str, months: Option<i32>) -> Duration {
    match (kind, months) {
        ("repeating", Some(months)) => Duration::Repeating { months },
        ("forever", _) => Duration::Forever,
        _ => Duration::Once,
    }
}

impl From<CouponRow> for Coupon {
    fn from(row: CouponRow) -> Coupon {
        Coupon {
            id: row.id,
            terms: Terms {
                off: off(
                    row.percent_off_bp,
                    row.amount_off_minor,
                    row.currency.as_deref(),
                ),
                code: row.code,
                duration: duration(&row.duration, row.duration_in_months),
                max_redemptions: row.max_redemptions,
                max_redemptions_per_client: row.max_redemptions_per_client,
                plans: row.plans,
                first_time_only: row.first_time_only,
                starts_at: row.starts_at,
                expires_at: row.expires_at,
            },
            state: match row.state.as_str() {
                "deactivated" => CouponState::Deactivated,
                _ => CouponState::Active,
            },
            times_redeemed: row.times_redeemed,
            revision: row.revision,
            created_at: row.created_at,
            deactivated_at: row.deactivated_at,
        }
    }
}

/// The coupon with this code, which is in upper case.
pub(super) async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    code: &str,
) -> Result<Option<Coupon>> {
    let mut rows = select(conn, agency, Some(code), None, None, None, 1).await?;
    Ok(rows.pop())
}

pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    state: Option<CouponState>,
    after: Option<CouponId>,
    limit: i64,
) -> Result<Vec<Coupon>> {
    select(conn, agency, None, None, state, after, limit).await
}

/// The coupon with this id.
pub(super) async fn get(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: CouponId,
) -> Result<Option<Coupon>> {
    let mut rows = select(conn, agency, None, Some(id), None, None, 1).await?;
    Ok(rows.pop())
}

async fn select(
    conn: &mut PgConnection,
    agency: AgencyId,
    code: Option<&str>,
    id: Option<CouponId>,
    state: Option<CouponState>,
    after: Option<CouponId>,
    limit: i64,
) -> Result<Vec<Coupon>> {
    let rows = sqlx::query_file_as!(
        CouponRow,
        "src/coupon/queries/select.sql",
        agency.uuid(),
        code,
        id.map(CouponId::uuid),
        state.map(CouponState::as_str),
        after.map(CouponId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Coupon::from).collect())
}

/// The places of plans in the list that are not the agency's. Those that are stay: plans are not deleted.
pub(super) async fn unknown_plans(
    conn: &mut PgConnection,
    agency: AgencyId,
    plans: &[PlanId],
) -> Result<Vec<usize>> {
    let ids: Vec<Uuid> = plans.iter().map(|plan| plan.uuid()).collect();
    let known = sqlx::query_scalar!(
        "select id from plan where agency_id = $1 and id = any ($2)",
        agency.uuid(),
        &ids
    )
    .fetch_all(conn)
    .await?;
    let places = ids.iter().enumerate();
    Ok(places
        .filter(|(_, id)| !known.contains(id))
        .map(|(place, _)| place)
        .collect())
}

pub(super) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    coupon: &Coupon,
) -> Result<()> {
    let terms = &coupon.terms;
    let (percent_off_bp, amount) = match terms.off {
        Off::Percent { bp } => (Some(bp), None),
        Off::Amount { amount } => (None, Some(amount)),
    };
    sqlx::query!(
        r#"
        insert into coupon (agency_id, id, code, percent_off_bp, amount_off_minor, currency, duration, duration_in_months,
                            max_redemptions, max_redemptions_per_client, first_time_only, starts_at, expires_at,
                            created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
        "#,
        agency.uuid(),
        coupon.id.uuid(),
        terms.code,
        percent_off_bp,
        amount.map(|amount| amount.amount_minor),
        amount.map(|amount| amount.currency.to_string()),
        terms.duration.as_str(),
        terms.duration.months(),
        terms.max_redemptions,
        terms.max_redemptions_per_client,
        terms.first_time_only,
        terms.starts_at,
        terms.expires_at,
        coupon.created_at
    )
    .execute(&mut *conn)
    .await?;
    let plans: Vec<Uuid> = terms.plans.iter().map(|plan| plan.uuid()).collect();
    sqlx::query!(
        "insert into coupon_plan (agency_id, coupon_id, plan_id) select $1, $2, plan_id from unnest($3::uuid[]) as p (plan_id)",
        agency.uuid(),
        coupon.id.uuid(),
        &plans
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes a coupon that nobody ever redeemed; false when somebody did, or it is gone.
pub(super) async fn delete_never_redeemed(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: CouponId,
) -> Result<bool> {
    let deleted = sqlx::query!(
        "delete from coupon where agency_id = $1 and id = $2 and first_redeemed_at is null",
        agency.uuid(),
        id.uuid()
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

/// False when it was deactivated already.
pub(super) async fn deactivate(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: CouponId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let deactivated = sqlx::query!(
        r#"
        update coupon set state = 'deactivated', deactivated_at = $3, revision = revision + 1, updated_at = $3
        where agency_id = $1 and id = $2 and state = 'active'
        "#,
        agency.uuid(),
        id.uuid(),
        now
    )
    .execute(conn)
    .await?;
    Ok(deactivated.rows_affected() == 1)
}

/// What is known of the client, apart from the subscription that is being started. One that never became active does not
/// count as had.
pub(super) async fn past(
    conn: &mut PgConnection,
    tenant: Tenant,
    coupon: CouponId,
    starting: SubscriptionId,
) -> Result<Past> {
    let row = sqlx::query!(
        r#"
        select
          (select count(*) from coupon_redemption r
           where r.tenant_id = $1 and r.coupon_id = $2 and r.state <> 'released') as "redemptions!",
          exists (
            select from subscription s
            where s.tenant_id = $1 and s.id <> $3
              and s.status in ('trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled')) as "subscribed!"
        "#,
        tenant.client.uuid(),
        coupon.uuid(),
        starting.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(Past {
        redemptions: row.redemptions,
        subscribed: row.subscribed,
    })
}

/// Reserves, if all that stands against it does not: the counter and the row in one statement. Whoever waited for the
/// coupon's row has it judged again as it stands then; what concerns the client is as it was when the statement began,
/// which is why the caller holds the lock of the client's account.
pub(super) async fn reserve(
    conn: &mut PgConnection,
    tenant: Tenant,
    coupon: &Coupon,
    purchase: &Purchase,
) -> Result<bool> {
    let price = purchase.price;
    let discount_minor = rules::discount_minor(coupon.terms.off, price.amount_minor);
    let reserved = sqlx::query_file!(
        "src/coupon/queries/reserve.sql",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        coupon.id.uuid(),
        purchase.subscription.uuid(),
        purchase.plan.uuid(),
        price.currency.as_str(),
        purchase.now,
        Uuid::now_v7(),
        purchase.saga.uuid(),
        price.amount_minor,
        discount_minor
    )
    .execute(conn)
    .await?;
    Ok(reserved.rows_affected() == 1)
}

pub(super) async fn redeem(
    conn: &mut PgConnection,
    tenant: Tenant,
    subscription: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let redeemed = sqlx::query!(
        r#"
        update coupon_redemption set state = 'redeemed', redeemed_at = $3, updated_at = $3
        where tenant_id = $1 and subscription_id = $2 and state = 'reserved'
        "#,
        tenant.client.uuid(),
        subscription.uuid(),
        now
    )
    .execute(conn)
    .await?;
    Ok(redeemed.rows_affected() == 1)
}

/// Gives back what the subscription holds in one of these states. A counter that has drifted to nothing does not stop it:
/// an undoing must not hang on a number that the daily count mends.
pub(super) async fn release(
    conn: &mut PgConnection,
    tenant: Tenant,
    subscription: SubscriptionId,
    from: &[&str],
    now: DateTime<Utc>,
) -> Result<bool> {
    let from: Vec<String> = from.iter().map(|&state| state.to_owned()).collect();
    let released = sqlx::query!(
        r#"
        with freed as (
          update coupon_redemption set state = 'released', released_at = $3, updated_at = $3
          where tenant_id = $1 and subscription_id = $2 and state = any ($4)
          returning agency_id, coupon_id
        )
        update coupon c set times_redeemed = greatest(c.times_redeemed - 1, 0), updated_at = $3
        from freed
        where c.agency_id = freed.agency_id and c.id = freed.coupon_id
        "#,
        tenant.client.uuid(),
        subscription.uuid(),
        now,
        &from
    )
    .execute(conn)
    .await?;
    Ok(released.rows_affected() == 1)
}
