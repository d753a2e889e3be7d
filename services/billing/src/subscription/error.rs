//! What can be wrong with starting a subscription, and what the caller is told.
//! Deliberately absent: what a saga refused; that is told from the saga's log, the same for every repeat.

use mainstay_proto::errors::v1::{ObjectExists, StateConflict, SubscriptionBusy};
use mainstay_providers::stripe::StripeFailure;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::{Currency, Interval, SagaId, SubscriptionId};

use super::Status;

use crate::coupon::CouponRefusal;
use crate::coupon::redemption::RedeemError;
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
    /// The coupon is not to be had, or not for this.
    #[error("the coupon is not redeemed")]
    Coupon(#[source] CouponRefusal),
    /// A field that only the plan makes wrong.
    #[error("the request is not valid")]
    Invalid(Problem),
    /// The client's one place is taken.
    #[error("the client has a live subscription")]
    Exists {
        /// By this one, if it still is.
        existing: Option<SubscriptionId>,
    },
    /// Another service says no, or cannot say.
    #[error("another service did not agree")]
    Asked(Problem),
    /// Another change of it has not ended.
    #[error("saga {0} is changing the subscription")]
    Busy(SagaId),
    /// The client leaves: nothing is sold to it any more.
    #[error("the client is being off-boarded")]
    Leaving,
    /// Its status does not allow the change.
    #[error("the subscription is {}", .0.as_str())]
    State(Status),
    /// Its payment waits for nobody.
    #[error("the payment does not wait for its payer")]
    NotWaiting,
    /// Stripe could not be asked.
    #[error("Stripe could not be asked")]
    Stripe(#[source] Box<StripeFailure>),
    /// The Idempotency-Key says no.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// The database says no.
    #[error("the database failed")]
    Database(#[from] mainstay_db::Error),
}

impl From<RedeemError> for SubscriptionError {
    fn from(error: RedeemError) -> Self {
        match error {
            RedeemError::Refused(refusal) => SubscriptionError::Coupon(refusal),
            RedeemError::Database(error) => SubscriptionError::Database(error),
        }
    }
}

impl From<StripeFailure> for SubscriptionError {
    fn from(failure: StripeFailure) -> Self {
        SubscriptionError::Stripe(Box::new(failure))
    }
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
            SubscriptionError::Coupon(refusal) => refusal.into(),
            SubscriptionError::Exists { existing } => Problem::new(
                ErrorReason::SubscriptionExists,
                "The client has a live subscription.",
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            SubscriptionError::Invalid(problem) | SubscriptionError::Asked(problem) => problem,
            SubscriptionError::Busy(saga) => Problem::new(
                ErrorReason::SubscriptionBusy,
                "Another change of the subscription has not ended yet.",
            )
            .with_data(&SubscriptionBusy {
                saga_id: saga.to_string(),
            }),
            SubscriptionError::Leaving => Problem::new(
                ErrorReason::ClientNotActive,
                "The client is being off-boarded.",
            )
            .with_data(&StateConflict {
                state: "leaving".to_owned(),
            }),
            SubscriptionError::State(status) => Problem::new(
                ErrorReason::SubscriptionState,
                format!("The subscription is {}.", status.as_str()),
            )
            .with_data(&StateConflict {
                state: status.as_str().to_owned(),
            }),
            SubscriptionError::NotWaiting => Problem::new(
                ErrorReason::PaymentNotWaiting,
                "This payment is not waiting for its payer.",
            ),
            SubscriptionError::Stripe(failure) => Problem::unavailable(failure),
            SubscriptionError::Repeat(error) => error.into(),
            SubscriptionError::Database(error) => database_problem(error),
        }
    }
}
