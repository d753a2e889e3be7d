//! What can keep a session from being begun, continued or ended.

use mainstay_rpc::{ErrorReason, Problem};

use crate::failure;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The refresh token is unknown or was used, or its session has ended.
    #[error("the session has ended")]
    Ended,
    /// The caller has no such session.
    #[error("there is no such session")]
    NotFound,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::Ended => Problem::new(
                ErrorReason::SessionEnded,
                "The refresh token is unknown or was used, or its session has ended.",
            ),
            Error::NotFound => Problem::not_found("session"),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
