//! What can keep a submission from being read.
//! Deliberately absent: a refusal of a form. Whoever sent it has gone; what cannot be taken is named beside it.

use mainstay_jobs::failure;
use mainstay_rpc::Problem;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client has no such submission.
    #[error("there is no such submission")]
    NotFound,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("form submission"),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
