//! What can keep a key from being made or rotated.

use mainstay_rpc::{ErrorReason, Problem};

use crate::role::exceeds_own;
use crate::{failure, once};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such key.
    #[error("there is no such API key")]
    NotFound,
    /// The agency has no such client.
    #[error("there is no such client")]
    NoSuchClient,
    /// It was revoked or has expired.
    #[error("the API key has ended")]
    Ended,
    /// Nobody grants what they lack.
    #[error("the caller lacks what it would grant")]
    ExceedsOwn {
        /// The permissions it lacks.
        lacking: Vec<String>,
    },
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
            Error::NotFound => Problem::not_found("API key"),
            Error::NoSuchClient => Problem::not_found("client"),
            Error::Ended => Problem::new(
                ErrorReason::Conflict,
                "The key was revoked or has expired. Make a new one.",
            ),
            Error::ExceedsOwn { lacking } => exceeds_own(lacking),
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
