//! What can be wrong with a request about disputes.
//! Deliberately absent: what Stripe says; a dispute here is only read.

use mainstay_rpc::Problem;

use crate::wire::database_problem;

/// Why a request about disputes was refused.
#[derive(Debug, thiserror::Error)]
pub enum DisputeError {
    /// There is none, or none the caller may see.
    #[error("there is no such dispute")]
    NotFound,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<DisputeError> for Problem {
    fn from(error: DisputeError) -> Problem {
        match error {
            DisputeError::NotFound => Problem::not_found("dispute"),
            DisputeError::Database(error) => database_problem(error),
        }
    }
}
