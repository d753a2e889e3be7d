//! Redeeming: a subscription that is being started reserves a coupon, its activation redeems it, its undoing releases it.
//! The counter and the row move in one statement, so that they are never apart and never one too many.
//! Deliberately absent: transactions. Each of these is part of the caller's, together with what it is done for.

use chrono::{DateTime, Utc};
use mainstay_types::{CouponId, Currency, Money, PlanId, SagaId, SubscriptionId, Tenant};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{Coupon, CouponRefusal, Duration, Off, rules, sql};

/// How often a reservation that was refused without a reason that can be read is tried again: the reason was gone when it
/// was looked for, as when somebody released the last place.
const TRIES: usize = 3;

/// Why a coupon was not reserved.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// It is not to be had, or not for this.
    #[error(transparent)]
    Refused(#[from] CouponRefusal),
    /// The database says no.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

/// What a coupon is to be redeemed for.
#[derive(Debug, Clone, Copy)]
pub struct Purchase {
    /// The plan that is bought.
    pub plan: PlanId,
    /// What it costs an interval.
    pub price: Money,
    /// By which subscription.
    pub subscription: SubscriptionId,
    /// In which saga.
    pub saga: SagaId,
    /// The platform's time.
    pub now: DateTime<Utc>,
}

impl Purchase {
    /// The currency of the price.
    pub(crate) fn currency(&self) -> Currency {
        self.price.currency
    }
}

/// A coupon that a saga holds, with what Stripe must know of it. Part of the saga's input: every try sends the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The coupon; its id at Stripe too.
    pub coupon: CouponId,
    /// Its code, which is its name at Stripe.
    pub code: String,
    /// What it takes off.
    pub off: Off,
    /// For how long.
    pub duration: Duration,
}

impl From<&Coupon> for Held {
    fn from(coupon: &Coupon) -> Self {
        Self {
            coupon: coupon.id,
            code: coupon.terms.code.clone(),
            off: coupon.terms.off,
            duration: coupon.terms.duration,
        }
    }
}

/// What a subscription's coupon takes off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discount {
    /// The coupon.
    pub held: Held,
    /// What it takes off the first charge, in the subscription's currency.
    pub first_minor: i64,
}

/// Reads the coupon with this code and judges it, locking nothing: whoever asks for a coupon that is used up does not stand
/// in the way of others.
///
/// # Errors
/// Why it cannot be redeemed for this.
pub async fn offer(
    conn: &mut PgConnection,
    tenant: Tenant,
    code: &str,
    purchase: &Purchase,
) -> Result<Coupon, RedeemError> {
    let found = sql::find(conn, tenant.agency, &rules::folded(code)).await?;
    let coupon = found.ok_or(CouponRefusal::Unknown)?;
    let past = sql::past(conn, tenant, coupon.id, purchase.subscription).await?;
    rules::judge(&coupon, purchase, &past)?;
    Ok(coupon)
}

/// Reserves a coupon for a subscription that was inserted before. The caller holds the lock of the client's account: what
/// the client redeemed before cannot change meanwhile. Between clients the coupon's row is the lock, held until the commit.
///
/// # Errors
/// Why it is not to be had.
pub async fn reserve(
    conn: &mut PgConnection,
    tenant: Tenant,
    coupon: &Coupon,
    purchase: &Purchase,
) -> Result<Held, RedeemError> {
    for _ in 0..TRIES {
        if sql::reserve(conn, tenant, coupon, purchase).await? {
            return Ok(Held::from(coupon));
        }
        // Read anew: this says why.
        offer(conn, tenant, &coupon.terms.code, purchase).await?;
    }
    let limit = coupon.terms.max_redemptions.unwrap_or_default();
    let code = coupon.terms.code.clone();
    Err(CouponRefusal::Exhausted { code, limit }.into())
}

/// The subscription was activated: what it reserved is redeemed. False when it holds nothing.
///
/// # Errors
/// Those of the database.
pub async fn redeem(
    conn: &mut PgConnection,
    tenant: Tenant,
    subscription: SubscriptionId,
    now: DateTime<Utc>,
) -> mainstay_db::Result<bool> {
    sql::redeem(conn, tenant, subscription, now).await
}

/// The subscription was undone: its place is free again at once. False when it holds nothing (any more).
///
/// # Errors
/// Those of the database.
pub async fn release(
    conn: &mut PgConnection,
    tenant: Tenant,
    subscription: SubscriptionId,
    now: DateTime<Utc>,
) -> mainstay_db::Result<bool> {
    sql::release(conn, tenant, subscription, &["reserved", "redeemed"], now).await
}
