//! What can keep an automation from being made or changed.

use mainstay_jobs::{failure, once};
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client has no such automation.
    #[error("there is no such automation")]
    NotFound,
    /// Fields that cannot be kept.
    #[error("fields of the automation cannot be kept")]
    Invalid(Vec<FieldViolation>),
    /// It has changed since it was read.
    #[error("the automation has changed")]
    EtagMismatch {
        /// The etag that would be right.
        current: String,
    },
    /// The Idempotency-Key.
    #[error(transparent)]
    Once(#[from] once::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("automation"),
            Error::Invalid(faults) => Problem::invalid(faults),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The automation's etag is {current} now."),
            ),
            Error::Once(error) => error.into(),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
