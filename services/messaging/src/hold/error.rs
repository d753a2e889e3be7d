//! What can keep a hold from being placed or lifted.

use mainstay_jobs::failure;
use mainstay_rpc::Problem;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such client.
    #[error("there is no such client")]
    NoSuchClient,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NoSuchClient => Problem::not_found("client"),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
