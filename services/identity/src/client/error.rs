//! What can keep a client from being made or changed.

use mainstay_proto::errors::v1::ObjectExists;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::ClientId;

use crate::{failure, once};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such client, or the caller may not see it.
    #[error("there is no such client")]
    NotFound,
    /// There is no such agency.
    #[error("there is no such agency")]
    NoSuchAgency,
    /// Clients of this email were made and canceled faster than one could be found.
    #[error("the client could not be made for others that were")]
    Contended,
    /// Another client that is not canceled has the email.
    #[error("a client with this email exists")]
    EmailTaken {
        /// Which, where the caller may know.
        existing: Option<ClientId>,
    },
    /// It has changed since it was read.
    #[error("the client has changed")]
    EtagMismatch {
        /// The etag that would be right.
        current: String,
    },
    /// What gave access to it could not be ended.
    #[error("the access to the client could not be ended")]
    Access(#[source] Box<dyn std::error::Error + Send + Sync>),
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
            Error::NotFound => Problem::not_found("client"),
            Error::NoSuchAgency => Problem::not_found("agency"),
            Error::Contended | Error::Access(_) => Problem::unavailable(error),
            Error::EmailTaken { existing } => Problem::new(
                ErrorReason::ClientEmailTaken,
                "Another client of the agency has this email address.",
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The client's etag is {current} now."),
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
