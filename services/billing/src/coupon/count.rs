//! The daily count (BIL-04): what the counters say against what the rows say. Repairs what is apart and records it; gives
//! back what a subscription that has ended still reserves.
//! Deliberately absent: a cause. A counter moves with its row in one statement, so each drift is a defect or a hand in the
//! database; it is told as an error for a person to look into.

use chrono::{DateTime, Utc};
use mainstay_db::{Result, Worker};
use mainstay_types::{AgencyId, AgencyScope, ClientId, CouponId, SubscriptionId, Tenant, Visible};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{rules, sql};
use crate::history::{self, By, CouponChange};
use crate::subscription::sql::lock_account;

/// Coupons, or reservations, looked at in one transaction.
const AT_ONCE: i64 = 500;

/// What a count found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Coupons looked at.
    pub coupons: u64,
    /// Counters that were repaired.
    pub repaired: u64,
    /// Coupons with more redemptions than they allow.
    pub oversold: u64,
    /// Reservations of subscriptions that have ended, given back.
    pub released: u64,
}

/// A coupon and its rows, as one snapshot has them.
struct Tally {
    id: CouponId,
    code: String,
    times_redeemed: i32,
    max_redemptions: Option<i32>,
    redemptions: i64,
}

impl Tally {
    fn should_say(&self) -> i32 {
        rules::counter(self.redemptions, self.max_redemptions)
    }

    fn oversold(&self) -> bool {
        self.max_redemptions
            .is_some_and(|most| self.redemptions > i64::from(most))
    }
}

/// Counts the redemptions of an agency's coupons.
///
/// # Errors
/// Those of the database; what was repaired until then stays so.
pub async fn count(worker: &Worker, agency: AgencyId, now: DateTime<Utc>) -> Result<Counted> {
    let scope = AgencyScope {
        agency,
        visible: Visible::All,
    };
    let mut counted = Counted {
        released: release_ended(worker, &scope, now).await?,
        ..Counted::default()
    };
    let mut after: Option<CouponId> = None;
    loop {
        let mut tx = worker.agency(&scope).await?;
        let page = tallies(tx.conn(), agency, after, AT_ONCE).await?;
        drop(tx);
        let Some(last) = page.last() else {
            return Ok(counted);
        };
        after = Some(last.id);
        for tally in &page {
            counted.coupons += 1;
            if tally.oversold() {
                counted.oversold += 1;
                tracing::error!(
                    agency = %agency,
                    coupon = %tally.id,
                    redemptions = tally.redemptions,
                    "a coupon has more redemptions than it allows"
                );
            }
            if tally.should_say() != tally.times_redeemed
                && repair(worker, &scope, tally.id, now).await?
            {
                counted.repaired += 1;
            }
        }
    }
}

/// Looks again under the coupon's lock, which nobody counts or uncounts without, and writes what the rows say.
async fn repair(
    worker: &Worker,
    scope: &AgencyScope,
    id: CouponId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let agency = scope.agency;
    let mut tx = worker.agency(scope).await?;
    if !lock(tx.conn(), agency, id).await? {
        return Ok(false);
    }
    // A statement of its own: it sees what those committed who held the lock before.
    let before = sql::get(tx.conn(), agency, id).await?;
    let tally = tally(tx.conn(), agency, id).await?;
    let (Some(before), Some(tally)) = (before, tally) else {
        return Ok(false);
    };
    let after = tally.should_say();
    if after == tally.times_redeemed {
        return Ok(false);
    }
    write(tx.conn(), agency, &tally, after, now).await?;
    let repaired = super::Coupon {
        times_redeemed: after,
        revision: before.revision + 1,
        ..before.clone()
    };
    let by = By {
        agency,
        client: None,
        principal: "service:billing".to_owned(),
        request_id: None,
        now,
    };
    let what = CouponChange::Recounted;
    history::coupon_changed(tx.conn(), &by, what, Some(&before), &repaired).await?;
    tx.commit().await?;
    tracing::error!(
        agency = %agency,
        coupon = %id,
        code = tally.code,
        said = tally.times_redeemed,
        redemptions = tally.redemptions,
        says = after,
        "a coupon's counter had drifted from its redemptions; repaired"
    );
    Ok(true)
}

/// Gives back what subscriptions that have ended still reserve: their saga ended without its undoing, as when an operator
/// abandoned it.
async fn release_ended(worker: &Worker, scope: &AgencyScope, now: DateTime<Utc>) -> Result<u64> {
    let mut released = 0;
    loop {
        let mut tx = worker.agency(scope).await?;
        let ended = reserved_by_ended(tx.conn(), scope.agency, AT_ONCE).await?;
        drop(tx);
        let mut freed = 0;
        for (client, subscription) in &ended {
            let tenant = Tenant {
                agency: scope.agency,
                client: *client,
            };
            let mut tx = worker.tenant(tenant).await?;
            lock_account(tx.conn(), tenant).await?;
            let from = ["reserved"];
            if sql::release(tx.conn(), tenant, *subscription, &from, now).await? {
                freed += 1;
                tracing::warn!(
                    subscription = %subscription,
                    "gave back a coupon that a subscription which has ended still reserved"
                );
            }
            tx.commit().await?;
        }
        released += freed;
        // Another coordinator frees them as well: without progress there is nothing left for this one.
        if freed == 0 || ended.len() < usize::try_from(AT_ONCE).unwrap_or(usize::MAX) {
            return Ok(released);
        }
    }
}

async fn tallies(
    conn: &mut PgConnection,
    agency: AgencyId,
    after: Option<CouponId>,
    limit: i64,
) -> Result<Vec<Tally>> {
    Ok(sqlx::query_as!(
        Tally,
        r#"
        select c.id as "id: CouponId", c.code, c.times_redeemed, c.max_redemptions,
          (select count(*) from coupon_redemption r
           where r.agency_id = $1 and r.coupon_id = c.id and r.state <> 'released') as "redemptions!"
        from coupon c
        where c.agency_id = $1 and ($2::uuid is null or c.id > $2)
        order by c.id
        limit $3
        "#,
        agency.uuid(),
        after.map(CouponId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?)
}

async fn tally(conn: &mut PgConnection, agency: AgencyId, id: CouponId) -> Result<Option<Tally>> {
    Ok(sqlx::query_as!(
        Tally,
        r#"
        select c.id as "id: CouponId", c.code, c.times_redeemed, c.max_redemptions,
          (select count(*) from coupon_redemption r
           where r.agency_id = $1 and r.coupon_id = $2 and r.state <> 'released') as "redemptions!"
        from coupon c
        where c.agency_id = $1 and c.id = $2
        "#,
        agency.uuid(),
        id.uuid()
    )
    .fetch_optional(conn)
    .await?)
}

async fn lock(conn: &mut PgConnection, agency: AgencyId, id: CouponId) -> Result<bool> {
    let row = sqlx::query!(
        "select id from coupon where agency_id = $1 and id = $2 for update",
        agency.uuid(),
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

async fn write(
    conn: &mut PgConnection,
    agency: AgencyId,
    tally: &Tally,
    says: i32,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"
        with drift as (
          insert into coupon_drift (agency_id, id, coupon_id, code, times_redeemed_before, redemptions,
                                    times_redeemed_after, created_at)
          values ($1, $3, $2, $4, $5, $6, $7, $8)
        )
        update coupon set times_redeemed = $7, first_redeemed_at = case when $7 > 0 then coalesce(first_redeemed_at, $8)
                                                                   else first_redeemed_at end,
          revision = revision + 1, updated_at = $8
        where agency_id = $1 and id = $2
        "#,
        agency.uuid(),
        tally.id.uuid(),
        Uuid::now_v7(),
        tally.code,
        tally.times_redeemed,
        tally.redemptions,
        says,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn reserved_by_ended(
    conn: &mut PgConnection,
    agency: AgencyId,
    limit: i64,
) -> Result<Vec<(ClientId, SubscriptionId)>> {
    let rows = sqlx::query!(
        r#"
        select r.tenant_id as "client: ClientId", r.subscription_id as "subscription: SubscriptionId"
        from coupon_redemption r
        join subscription s on s.tenant_id = r.tenant_id and s.id = r.subscription_id
        where r.agency_id = $1 and r.state = 'reserved' and s.status in ('canceled', 'incomplete_expired', 'failed')
        order by r.id
        limit $2
        "#,
        agency.uuid(),
        limit
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows.map(|row| (row.client, row.subscription)).collect())
}
