//! What can keep a notice from being taken in hand.
//! Deliberately absent: what the gate says of it. That is its status.

use mainstay_jobs::failure;
use mainstay_rpc::{ErrorReason, Problem};

use crate::gate::Channel;
use crate::lead;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no sender that is for all of it.
    #[error("the agency has no sender of its own for {}", .0.as_str())]
    NoSender(Channel),
    /// Integrations could not say whom to send as.
    #[error(transparent)]
    Senders(#[from] Problem),
    /// The lead.
    #[error(transparent)]
    Lead(#[from] lead::Error),
    /// It was written and is not there: a mistake of the program.
    #[error("a notice was written and cannot be read")]
    Unwritten,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NoSender(channel) => Problem::new(
                ErrorReason::NoSender,
                format!(
                    "The agency has nothing for all its clients to send {} from.",
                    channel.as_str()
                ),
            ),
            Error::Senders(problem) => problem,
            Error::Lead(error) => error.into(),
            Error::Unwritten => Problem::internal(error),
            Error::Database(error) => failure::database(error),
        }
    }
}
