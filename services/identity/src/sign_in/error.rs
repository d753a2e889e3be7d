//! What can keep somebody from signing in. That they are not told which is the point.

use mainstay_rpc::{ErrorReason, Problem};

use crate::{failure, session};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The code is wrong, was used, has expired, or too many were tried.
    #[error("the code opens nothing")]
    Refused,
    /// Codes were asked for too often.
    #[error("too many codes were asked for")]
    TooMany {
        /// When to ask again.
        retry_after_seconds: i32,
    },
    /// The session.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::Refused => Problem::new(
                ErrorReason::SignInRefused,
                "The code is wrong, was used, has expired, or too many were tried.",
            ),
            Error::TooMany {
                retry_after_seconds,
            } => Problem::new(
                ErrorReason::RateLimited,
                "Too many codes were asked for: wait before asking for another.",
            )
            .retry_after(retry_after_seconds),
            Error::Session(error) => error.into(),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
