//! What can keep a conversation from being shown or changed.
//! Deliberately absent: one that was deleted. To whoever reads, it is not there.

use mainstay_jobs::{failure, once};
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};
use tonic::Status;

use crate::member::NOT_SERVING;
use crate::message;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("there is no such conversation")]
    NotFound,
    /// It has changed since it was read.
    #[error("the conversation has changed")]
    EtagMismatch {
        /// The etag that would be right.
        current: String,
    },
    /// Whom it was to be given to does not serve the client.
    #[error("the member does not serve the client")]
    NotServing,
    /// Identity could not be asked about the member.
    #[error("the member could not be looked up")]
    Directory(#[source] Status),
    /// Nobody answers with a number there.
    #[error("the conversation is not by text")]
    NotTexted,
    /// The question how it was may not be sent, or cannot be.
    #[error(transparent)]
    Question(#[from] message::Error),
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
            Error::NotFound => Problem::not_found("conversation"),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The conversation's etag is {current} now."),
            ),
            Error::NotServing => Problem::invalid(vec![FieldViolation {
                field: "assigned_to".to_owned(),
                message: NOT_SERVING.to_owned(),
            }]),
            Error::NotTexted => Problem::invalid(vec![FieldViolation {
                field: "ask_rating".to_owned(),
                message: "is for conversations by text: a number is what they answer".to_owned(),
            }]),
            Error::Question(error) => error.into(),
            Error::Directory(status) => Problem::unavailable(status),
            Error::Once(error) => error.into(),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
