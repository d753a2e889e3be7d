//! What can be wrong with starting a subscription, and what the caller is told.
//! Deliberately absent: what a saga refused; that is told from the saga's log, the same for every repeat.

use mainstay_proto::errors::v1::ObjectExists;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::{Currency, Interval, SubscriptionId};

use crate::repeat::RepeatError;
use crate::wire::database_problem;

/// Why a subscription cannot be started or read.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// Not this client's.
    #[error("there is no such subscription")]
    NotFound,
    /// Not this agency's.
    #[error("there is no such plan")]
    PlanNotFound,
    /// It is not sold any more.
    #[error("the plan is archived")]
    PlanArchived,
    /// It is not sold so.
    #[error("the plan has no price in {currency} a {interval}")]
    PriceMissing {
        /// The currency asked for.
        currency: Currency,
        /// The interval asked for.
        interval: Interval,
    },
    /// There is no such coupon.
    #[error("there is no active coupon with this code")]
    CouponInactive,
    /// A field that only the plan makes wrong.
    #[error("the request is not valid")]
    Invalid(Problem),
    /// The client's one place is taken.
    #[error("the client has a live subscription")]
    Exists {
        /// By this one, if it still is.
        existing: Option<SubscriptionId>,
    },
    /// Identity says no, or cannot say.
    #[error("identity did not agree")]
    Identity(Problem),
    /// The Idempotency-Key says no.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// The database says no.
    #[error("the database failed")]
    Database(#[from] mainstay_db::Error),
}

impl From<SubscriptionError> for Problem {
    fn from(error: SubscriptionError) -> Problem {
        match error {
            SubscriptionError::NotFound => Problem::not_found("subscription"),
            SubscriptionError::PlanNotFound => Problem::not_found("plan"),
            SubscriptionError::PlanArchived => crate::plan::archived(),
            SubscriptionError::PriceMissing { currency, interval } => Problem::new(
                ErrorReason::PlanPriceMissing,
                format!("The plan is not sold in {currency} by the {interval}."),
            ),
            SubscriptionError::CouponInactive => Problem::new(
                ErrorReason::CouponInactive,
                "There is no active coupon with this code.",
            ),
            SubscriptionError::Exists { existing } => Problem::new(
                ErrorReason::SubscriptionExists,
                "The client has a live subscription.",
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            SubscriptionError::Invalid(problem) | SubscriptionError::Identity(problem) => problem,
            SubscriptionError::Repeat(error) => error.into(),
            SubscriptionError::Database(error) => database_problem(error),
        }
    }
}
