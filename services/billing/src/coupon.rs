//! Coupons (BIL-03, BIL-04): what an agency takes off, redeemed by subscriptions as they are started, and counted so that
//! no race redeems one too many.
//! Deliberately absent: editing the terms, and calls to Stripe. A coupon is ended and another made; Stripe comes to know it
//! from the saga of its first subscription.

pub mod count;
mod error;
pub mod redemption;
pub mod rpc;
pub(crate) mod rules;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::{Database, page::Page, page::PageRequest};
use mainstay_types::{AgencyScope, CouponId, Money, PlanId};
use serde::{Deserialize, Serialize};

pub use error::{CouponError, CouponRefusal};

use crate::history::{self, By, CouponChange};
use crate::jobs::count_redemptions;
use crate::repeat::{Answered, Begun, Repeat};

/// What a coupon takes off a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Off {
    /// A share of it.
    Percent {
        /// Hundredths of a per cent: 3333 is 33.33 %. An integer, so that no float decides about a cent.
        bp: i32,
    },
    /// An amount, never more than the charge.
    Amount {
        /// How much.
        amount: Money,
    },
}

/// For how long a coupon takes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Duration {
    /// The first charge.
    Once,
    /// The charges of some months.
    Repeating {
        /// How many.
        months: i32,
    },
    /// Every charge.
    Forever,
}

impl Duration {
    /// As the database, REST and Stripe spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Duration::Once => "once",
            Duration::Repeating { .. } => "repeating",
            Duration::Forever => "forever",
        }
    }

    /// The months of a repeating one.
    pub const fn months(self) -> Option<i32> {
        match self {
            Duration::Repeating { months } => Some(months),
            Duration::Once | Duration::Forever => None,
        }
    }
}

/// What a coupon says. Frozen once it was redeemed, by a trigger too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// What people type, in upper case.
    pub code: String,
    /// What it takes off.
    pub off: Off,
    /// For how long.
    pub duration: Duration,
    /// How often in all.
    pub max_redemptions: Option<i32>,
    /// How often by one client.
    pub max_redemptions_per_client: Option<i32>,
    /// For which plans; none: for all.
    pub plans: Vec<PlanId>,
    /// Only for clients that never had a subscription.
    pub first_time_only: bool,
    /// From when on it can be redeemed.
    pub starts_at: Option<DateTime<Utc>>,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Whether a coupon can be redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CouponState {
    /// It can, within its window and limits.
    Active,
    /// Not any more.
    Deactivated,
}

impl CouponState {
    /// As the database spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            CouponState::Active => "active",
            CouponState::Deactivated => "deactivated",
        }
    }
}

/// A coupon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupon {
    /// Its id; at Stripe it has the same.
    pub id: CouponId,
    /// What it says.
    pub terms: Terms,
    /// Whether it can be redeemed.
    pub state: CouponState,
    /// Redemptions that are not released, those of running sagas included.
    pub times_redeemed: i32,
    /// Rises with every event about it.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was deactivated.
    pub deactivated_at: Option<DateTime<Utc>>,
}

/// What ending a coupon made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It was never redeemed and is gone.
    Deleted,
    /// It stays, and cannot be redeemed any more.
    Deactivated(Box<Coupon>),
}

/// Creates a coupon, active.
pub async fn create(
    database: &Database,
    by: &By,
    scope: &AgencyScope,
    terms: Terms,
    repeat: &Repeat,
    answer: impl FnOnce(&Coupon) -> Vec<u8>,
) -> Result<Answered<Coupon>, CouponError> {
    let mut tx = database.agency(scope).await?;
    if let Begun::Before(bytes) = repeat.begin(tx.conn(), by).await? {
        return Ok(Answered::Before(bytes));
    }
    rules::window_ahead(&terms, by.now)?;
    let unknown = sql::unknown_plans(tx.conn(), by.agency, &terms.plans).await?;
    if !unknown.is_empty() {
        return Err(CouponError::UnknownPlans { places: unknown });
    }
    let coupon = Coupon {
        id: CouponId::generate(),
        terms,
        state: CouponState::Active,
        times_redeemed: 0,
        revision: 1,
        created_at: by.now,
        deactivated_at: None,
    };
    if let Err(error) = sql::insert(tx.conn(), by.agency, &coupon).await {
        drop(tx);
        return Err(code_taken(database, scope, &coupon.terms.code, error).await);
    }
    history::coupon_changed(tx.conn(), by, CouponChange::Created, None, &coupon).await?;
    count_redemptions::ensure(tx.conn(), by.agency, by.now).await?;
    repeat.store(tx.conn(), by, answer(&coupon)).await?;
    tx.commit().await?;
    Ok(Answered::Now(coupon))
}

/// Reads a coupon by its code.
pub async fn get(
    database: &Database,
    scope: &AgencyScope,
    code: &str,
) -> Result<Coupon, CouponError> {
    let mut tx = database.agency(scope).await?;
    let coupon = sql::find(tx.conn(), scope.agency, &rules::folded(code)).await?;
    coupon.ok_or(CouponError::NotFound)
}

/// Lists coupons, newest first.
pub async fn list(
    database: &Database,
    scope: &AgencyScope,
    state: Option<CouponState>,
    page: PageRequest<CouponId>,
) -> Result<Page<Coupon>, CouponError> {
    let mut tx = database.agency(scope).await?;
    let after = page.after().copied();
    let rows = sql::list(tx.conn(), scope.agency, state, after, page.limit()).await?;
    Ok(page.page(rows, |coupon| coupon.id))
}

/// Ends a coupon: one that was never redeemed goes, one that ever was stays and is deactivated. Which of the two is decided
/// by the statement itself: a redemption that is under way is waited for, and then counts.
pub async fn remove(
    database: &Database,
    by: &By,
    scope: &AgencyScope,
    code: &str,
    repeat: &Repeat,
    answer: impl FnOnce(&Removed) -> Vec<u8>,
) -> Result<Answered<Removed>, CouponError> {
    let mut tx = database.agency(scope).await?;
    if let Begun::Before(bytes) = repeat.begin(tx.conn(), by).await? {
        return Ok(Answered::Before(bytes));
    }
    let before = sql::find(tx.conn(), by.agency, &rules::folded(code)).await?;
    let before = before.ok_or(CouponError::NotFound)?;
    let removed = if sql::delete_never_redeemed(tx.conn(), by.agency, before.id).await? {
        let last = Coupon {
            revision: before.revision + 1,
            ..before.clone()
        };
        history::coupon_changed(tx.conn(), by, CouponChange::Deleted, Some(&before), &last).await?;
        Removed::Deleted
    } else {
        let deactivated = sql::deactivate(tx.conn(), by.agency, before.id, by.now).await?;
        let after = sql::find(tx.conn(), by.agency, &before.terms.code).await?;
        // Somebody else ended it in between, and it had not been redeemed.
        let after = after.ok_or(CouponError::NotFound)?;
        if deactivated {
            let what = CouponChange::Deactivated;
            history::coupon_changed(tx.conn(), by, what, Some(&before), &after).await?;
        }
        Removed::Deactivated(Box::new(after))
    };
    repeat.store(tx.conn(), by, answer(&removed)).await?;
    tx.commit().await?;
    Ok(Answered::Now(removed))
}

/// The failed transaction is gone; a new one finds whose code it is.
async fn code_taken(
    database: &Database,
    scope: &AgencyScope,
    code: &str,
    error: mainstay_db::Error,
) -> CouponError {
    if error.constraint() != Some("coupon_code_key") {
        return error.into();
    }
    let existing = async {
        let mut tx = database.agency(scope).await?;
        sql::find(tx.conn(), scope.agency, code).await
    };
    CouponError::CodeTaken {
        code: code.to_owned(),
        existing: existing.await.ok().flatten().map(|coupon| coupon.id),
    }
}
