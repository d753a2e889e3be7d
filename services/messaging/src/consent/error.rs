//! What can keep consent from being recorded.
//! Deliberately absent: opting out. Whoever has opted out already is no error.

use mainstay_jobs::{failure, once};
use mainstay_rpc::Problem;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
