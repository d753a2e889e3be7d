//! What can keep an alert from being read or worked on.

use mainstay_jobs::failure;
use mainstay_proto::errors::v1::StateConflict;
use mainstay_rpc::{ErrorReason, Problem};

use super::State;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none, or none that may be seen.
    #[error("there is no such alert")]
    NotFound,
    /// It is over.
    #[error("the alert is resolved")]
    Resolved,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("alert"),
            Error::Resolved => Problem::new(
                ErrorReason::AlertResolved,
                "The alert is resolved already: nobody need look at it.",
            )
            .with_data(&StateConflict {
                state: State::Resolved.as_str().to_owned(),
            }),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
