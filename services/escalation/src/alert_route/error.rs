//! What can keep a route from being added or changed.

use mainstay_jobs::{failure, once};
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};

use super::MOST;
use crate::members;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such route.
    #[error("there is no such route")]
    NotFound,
    /// The agency has no such client.
    #[error("there is no such client")]
    NoSuchClient,
    /// Identity could not be asked about a client.
    #[error("the client could not be looked up")]
    Directory(#[source] tonic::Status),
    /// The member at this place of the list may not see what the route takes, or is none.
    #[error("no such member")]
    NoMember(usize),
    /// Identity could not be asked about members.
    #[error(transparent)]
    Members(#[from] members::Error),
    /// Nothing can be told there.
    #[error("nothing can be told there")]
    Address(&'static str),
    /// The agency has as many as there may be.
    #[error("there are too many routes")]
    TooMany,
    /// It has changed since it was read.
    #[error("the route has changed")]
    EtagMismatch {
        /// The etag that would be right.
        current: String,
    },
    /// About the Idempotency-Key.
    #[error(transparent)]
    Once(#[from] once::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

fn fault(field: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(vec![FieldViolation {
        field: field.to_owned(),
        message: message.into(),
    }])
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("alert route"),
            Error::NoSuchClient => fault("client_id", "is no client of the agency"),
            Error::Directory(status) => Problem::unavailable(Problem::from_status(&status)),
            Error::NoMember(at) => fault(
                &format!("member_ids[{at}]"),
                "is no active member who may see what the route takes",
            ),
            Error::Members(error) => error.into(),
            Error::Address(message) => fault("address", message),
            Error::TooMany => fault(
                "name",
                format!("is one too many: an agency has {MOST} routes"),
            ),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The route's etag is {current} now."),
            ),
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
