//! What can keep a canned reply from being made or changed.

use mainstay_jobs::{failure, once};
use mainstay_proto::errors::v1::ObjectExists;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::CannedReplyId;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client has no such canned reply.
    #[error("there is no such canned reply")]
    NotFound,
    /// Another has the shortcut.
    #[error("another canned reply has the shortcut")]
    Taken {
        /// Which, unless it is gone again.
        existing: Option<CannedReplyId>,
    },
    /// It has changed since it was read.
    #[error("the canned reply has changed")]
    EtagMismatch {
        /// The etag that would be right.
        current: String,
    },
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
            Error::NotFound => Problem::not_found("canned reply"),
            Error::Taken { existing } => Problem::new(
                ErrorReason::CannedReplyShortcutTaken,
                "Another canned reply of the client has this shortcut.",
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The canned reply's etag is {current} now."),
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
