//! What can keep entitlements from being written.

use mainstay_jobs::saga_step::Refusal;
use mainstay_proto::errors::v1::StateConflict;
use mainstay_rpc::{ErrorReason, Problem};

use crate::failure;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such client.
    #[error("there is no such client")]
    NoSuchClient,
    /// It is gone.
    #[error("the client is canceled")]
    ClientCanceled,
    /// The write came from a saga step that has lost its right to write.
    #[error("the saga step may not write any more")]
    Refused(Refusal),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NoSuchClient => Problem::not_found("client"),
            Error::ClientCanceled => {
                Problem::new(ErrorReason::ClientNotActive, "The client is canceled.").with_data(
                    &StateConflict {
                        state: "canceled".to_owned(),
                    },
                )
            }
            Error::Refused(refusal) => Problem::new(ErrorReason::Conflict, refusal.to_string()),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
