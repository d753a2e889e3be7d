//! What can keep a note from being written, shown or deleted.

use mainstay_jobs::{failure, once};
use mainstay_rpc::Problem;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client has no such conversation, or it was deleted.
    #[error("there is no such conversation")]
    NoConversation,
    /// The conversation has no such note.
    #[error("there is no such note")]
    NotFound,
    /// The Idempotency-Key.
    #[error(transparent)]
    Once(#[from] once::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NoConversation => Problem::not_found("conversation"),
            Error::NotFound => Problem::not_found("note"),
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
