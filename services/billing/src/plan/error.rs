//! What can be wrong with a plan, and what the caller is told.
//! Deliberately absent: a catch-all. A new error does not compile until it is told.

use mainstay_proto::errors::v1::{ObjectExists, PlanHasSubscriptions, StateConflict};
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::PlanId;

use crate::repeat::RepeatError;
use crate::wire::database_problem;

/// Why a plan cannot be made, changed or archived.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not in this agency.
    #[error("there is no such plan")]
    NotFound,
    /// Another active plan is called so.
    #[error("an active plan is called {name}")]
    NameTaken {
        /// The name.
        name: String,
        /// That plan, if it still is.
        existing: Option<PlanId>,
    },
    /// It is not sold any more.
    #[error("the plan is archived")]
    Archived,
    /// Clients live on it.
    #[error("the plan has {live_subscriptions} live subscriptions")]
    HasSubscriptions {
        /// How many.
        live_subscriptions: i64,
    },
    /// It changed since it was read.
    #[error("the plan has changed since it was read")]
    Stale,
    /// The Idempotency-Key says no.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// The database says no.
    #[error("the database failed")]
    Database(#[from] mainstay_db::Error),
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Problem {
        let detail = error.to_string();
        match error {
            PlanError::NotFound => Problem::not_found("plan"),
            PlanError::NameTaken { name, existing } => Problem::new(
                ErrorReason::PlanNameTaken,
                format!("An active plan of your agency is called {name}."),
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            PlanError::Archived => archived(),
            PlanError::HasSubscriptions { live_subscriptions } => Problem::new(
                ErrorReason::PlanHasSubscriptions,
                format!("{live_subscriptions} live subscriptions are on versions of this plan."),
            )
            .with_data(&PlanHasSubscriptions { live_subscriptions }),
            PlanError::Stale => Problem::new(ErrorReason::EtagMismatch, detail),
            PlanError::Repeat(error) => error.into(),
            PlanError::Database(error) => database_problem(error),
        }
    }
}

/// An archived plan is neither edited nor sold.
pub(crate) fn archived() -> Problem {
    Problem::new(ErrorReason::PlanArchived, "The plan is archived.").with_data(&StateConflict {
        state: "archived".to_owned(),
    })
}
