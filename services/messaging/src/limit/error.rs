//! What can keep limits from being applied.

use mainstay_jobs::failure;
use mainstay_jobs::saga_step::Refusal;
use mainstay_proto::errors::v1::SendingOnHold;
use mainstay_rpc::{ErrorReason, Problem};
use tonic::Status;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such client.
    #[error("there is no such client")]
    NoSuchClient,
    /// It is being sold what it could not use.
    #[error("the client's sending is on hold")]
    OnHold(String),
    /// The write came from a saga step that has lost its right to write.
    #[error("the saga step may not write any more")]
    Refused(Refusal),
    /// Identity could not be asked about a client that is new here.
    #[error("the client could not be looked up")]
    Directory(#[source] Status),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NoSuchClient => Problem::not_found("client"),
            Error::OnHold(reason) => Problem::new(
                ErrorReason::SendingOnHold,
                format!("The client's sending is on hold: {reason}"),
            )
            .with_data(&SendingOnHold { reason }),
            Error::Refused(refusal) => Problem::new(ErrorReason::Conflict, refusal.to_string()),
            Error::Directory(status) => Problem::unavailable(status),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
