//! What can keep a message from being taken in hand, or from being taken back.
//! Deliberately absent: what happens after it was taken in hand. That is its status.

use chrono::{DateTime, Utc};
use mainstay_jobs::{failure, once};
use mainstay_proto::errors::v1 as proto;
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};

use super::rules::Status;
use super::spelled;
use crate::gate::Channel;
use crate::gate::rules::Reason;
use crate::lead;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such message.
    #[error("there is no such message")]
    NotFound,
    /// There is no such conversation.
    #[error("there is no such conversation")]
    NoConversation,
    /// The lead has no address on the channel.
    #[error("the lead cannot be reached on this channel")]
    NoAddress,
    /// The canned reply is not there, or cannot be filled in for the lead.
    #[error("the canned reply {0}")]
    Template(String),
    /// The client has nothing to send from.
    #[error("the client has no sender for {}", .0.as_str())]
    NoSender(Channel),
    /// The gate refuses.
    #[error("the gate refuses")]
    Blocked {
        /// Every reason.
        reasons: Vec<Reason>,
        /// When it would not, if ever.
        retry_at: Option<DateTime<Utc>>,
        /// When it was asked.
        now: DateTime<Utc>,
    },
    /// It has left, or never will.
    #[error("the message is {}", .0.as_str())]
    NotCancelable(Status),
    /// Integrations could not say whom to send as.
    #[error(transparent)]
    Senders(#[from] Problem),
    /// The lead.
    #[error(transparent)]
    Lead(#[from] lead::Error),
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
            Error::NotFound => Problem::not_found("message"),
            Error::NoConversation => Problem::not_found("conversation"),
            Error::NoAddress => Problem::new(
                ErrorReason::LeadUnreachable,
                "The lead has no address on this channel.",
            ),
            Error::Template(wrong) => Problem::invalid(vec![FieldViolation {
                field: "template".to_owned(),
                message: wrong,
            }]),
            Error::NoSender(channel) => Problem::new(
                ErrorReason::NoSender,
                format!("The client has nothing to send {} from.", channel.as_str()),
            ),
            Error::Blocked {
                reasons,
                retry_at,
                now,
            } => blocked(&reasons, retry_at, now),
            Error::NotCancelable(status) => Problem::new(
                ErrorReason::MessageNotCancelable,
                format!("The message is {}.", status.as_str()),
            )
            .with_data(&proto::StateConflict {
                state: status.as_str().to_owned(),
            }),
            Error::Senders(problem) => problem,
            Error::Lead(error) => error.into(),
            Error::Once(error) => error.into(),
            Error::Database(error) => failure::database(error),
        }
    }
}

fn blocked(reasons: &[Reason], retry_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Problem {
    let words = spelled(reasons);
    let problem = Problem::new(
        ErrorReason::BlockedByConsent,
        format!("The message may not leave: {}.", words.join(", ")),
    )
    .with_data(&proto::SendBlocked { reasons: words });
    match retry_at {
        Some(at) => {
            // Rounded up: a second too early would be refused again.
            let wait = (at - now).num_seconds().saturating_add(1).max(1);
            problem.retry_after(i32::try_from(wait).unwrap_or(i32::MAX))
        }
        None => problem,
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
