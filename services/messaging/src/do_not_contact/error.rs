//! What can keep a list from being changed.
//! Deliberately absent: an address that is on it already. That is what was asked for.

use mainstay_jobs::failure;
use mainstay_rpc::Problem;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not on the list.
    #[error("the address is not on the list")]
    NotListed,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotListed => Problem::not_found("address"),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
