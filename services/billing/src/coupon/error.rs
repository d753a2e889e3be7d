//! What can be wrong with a coupon, and why one is not redeemed; what the caller is told.
//! Deliberately absent: a catch-all. A new error does not compile until it is told.

use chrono::{DateTime, SecondsFormat, Utc};
use mainstay_proto::errors::v1::ObjectExists;
use mainstay_rpc::{ErrorReason, Problem, Violations};
use mainstay_types::{CouponId, Currency};

use crate::repeat::RepeatError;
use crate::wire::database_problem;

/// Why a coupon cannot be made, read or ended.
#[derive(Debug, thiserror::Error)]
pub enum CouponError {
    /// Not in this agency.
    #[error("there is no such coupon")]
    NotFound,
    /// Another coupon of the agency has it.
    #[error("a coupon has the code {code}")]
    CodeTaken {
        /// The code.
        code: String,
        /// That coupon, if it still is.
        existing: Option<CouponId>,
    },
    /// It would be for plans that are not the agency's.
    #[error("plans that the coupon is for do not exist")]
    UnknownPlans {
        /// Their places in the list.
        places: Vec<usize>,
    },
    /// It could never be redeemed.
    #[error("the coupon's window is over")]
    WindowOver,
    /// The Idempotency-Key says no.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// The database says no.
    #[error("the database failed")]
    Database(#[from] mainstay_db::Error),
}

impl From<CouponError> for Problem {
    fn from(error: CouponError) -> Problem {
        match error {
            CouponError::NotFound => Problem::not_found("coupon"),
            CouponError::CodeTaken { code, existing } => Problem::new(
                ErrorReason::CouponCodeTaken,
                format!("A coupon of your agency has the code {code}."),
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            CouponError::UnknownPlans { places } => {
                let faults = places.into_iter().map(|place| {
                    let message = "there is no such plan in your agency";
                    (format!("plan_ids[{place}]"), message)
                });
                invalid(faults)
            }
            CouponError::WindowOver => {
                invalid([("expires_at".to_owned(), "must be in the future")])
            }
            CouponError::Repeat(error) => error.into(),
            CouponError::Database(error) => database_problem(error),
        }
    }
}

fn invalid(faults: impl IntoIterator<Item = (String, &'static str)>) -> Problem {
    let mut violations = Violations::new();
    for (field, message) in faults {
        violations.add(field, message);
    }
    let problem = violations.finish().err();
    problem.unwrap_or_else(|| Problem::invalid(Vec::new()))
}

/// Why a coupon is not redeemed. Each names what the caller can see and change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CouponRefusal {
    /// There is none, in this agency.
    #[error("There is no active coupon with this code.")]
    Unknown,
    /// It was ended.
    #[error("{code} was deactivated.")]
    Deactivated {
        /// Which.
        code: String,
    },
    /// Its window has not begun.
    #[error("{code} can be redeemed from {} on.", shown(.starts_at))]
    NotYet {
        /// Which.
        code: String,
        /// When it begins.
        starts_at: DateTime<Utc>,
    },
    /// Its window is over.
    #[error("{code} could be redeemed until {}.", shown(.expires_at))]
    Expired {
        /// Which.
        code: String,
        /// When it ended.
        expires_at: DateTime<Utc>,
    },
    /// It is restricted to other plans.
    #[error("{code} is not for this plan.")]
    NotForPlan {
        /// Which.
        code: String,
    },
    /// Its amount is in another currency.
    #[error("{code} takes off an amount in {coupon}; the subscription is in {subscription}.")]
    CurrencyMismatch {
        /// Which.
        code: String,
        /// The coupon's.
        coupon: Currency,
        /// The subscription's.
        subscription: Currency,
    },
    /// The client had a subscription.
    #[error("{code} is only for clients that never had a subscription.")]
    FirstTimeOnly {
        /// Which.
        code: String,
    },
    /// The client has used it up.
    #[error("The client has redeemed {code} {limit} of {limit} times.")]
    ClientLimit {
        /// Which.
        code: String,
        /// How often it may.
        limit: i32,
    },
    /// All have used it up.
    #[error("{code} has been redeemed {limit} of {limit} times.")]
    Exhausted {
        /// Which.
        code: String,
        /// How often they may.
        limit: i32,
    },
}

fn shown(at: &DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl From<CouponRefusal> for Problem {
    fn from(refusal: CouponRefusal) -> Problem {
        let reason = match &refusal {
            CouponRefusal::Unknown
            | CouponRefusal::Deactivated { .. }
            | CouponRefusal::NotYet { .. }
            | CouponRefusal::Expired { .. } => ErrorReason::CouponInactive,
            CouponRefusal::NotForPlan { .. } => ErrorReason::CouponNotForPlan,
            CouponRefusal::CurrencyMismatch { .. } => ErrorReason::CouponCurrencyMismatch,
            CouponRefusal::FirstTimeOnly { .. } => ErrorReason::CouponFirstTimeOnly,
            CouponRefusal::ClientLimit { .. } => ErrorReason::CouponClientLimit,
            CouponRefusal::Exhausted { .. } => ErrorReason::CouponExhausted,
        };
        let detail = refusal.to_string();
        Problem::new(reason, detail.clone()).violation("coupon_code", detail)
    }
}
