//! What can keep an address for forms from being made or found.

use mainstay_jobs::{failure, once};
use mainstay_rpc::Problem;

use crate::vault::VaultError;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client has no such address.
    #[error("there is no such form endpoint")]
    NotFound,
    /// No token could be made.
    #[error(transparent)]
    Random(#[from] VaultError),
    /// About the Idempotency-Key.
    #[error(transparent)]
    Once(#[from] once::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("form endpoint"),
            Error::Random(error) => Problem::internal(error),
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
