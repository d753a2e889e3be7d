//! What can keep a call from being read.
//! Deliberately absent: a refusal of a callback; those are ignored, and say so.

use mainstay_jobs::failure;
use mainstay_rpc::Problem;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client has no such call.
    #[error("there is no such call")]
    NotFound,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("call"),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
