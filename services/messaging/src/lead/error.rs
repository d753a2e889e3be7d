//! What can keep a lead from being made, changed or merged.
//! Deliberately absent: an automation that asks for a status the lead has passed. That is no error, it changes nothing.

use mainstay_jobs::{failure, once};
use mainstay_proto::errors::v1::{ObjectExists, StateConflict};
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};
use mainstay_types::LeadId;
use tonic::Status as Answer;

use super::Status;
use crate::consent;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client has no such lead.
    #[error("there is no such lead")]
    NotFound,
    /// Fields that cannot be kept together with what stands.
    #[error("fields of the lead cannot be kept")]
    Invalid(Vec<FieldViolation>),
    /// An address is another lead's. The slice rolls back, looks whose it is, and says [`Error::Exists`].
    #[error("an address is another lead's")]
    Taken,
    /// A lead has the address, or the external id.
    #[error("there is such a lead")]
    Exists {
        /// Which.
        existing: LeadId,
    },
    /// It is part of another now.
    #[error("the lead was merged into another")]
    Merged {
        /// Which.
        into: LeadId,
    },
    /// It would go back without a reason.
    #[error("the lead would move back")]
    Backwards {
        /// Where it stands.
        status: Status,
    },
    /// The two cannot become one.
    #[error("the leads cannot be merged: {0}")]
    NotMergeable(&'static str),
    /// It has no address that the channel reaches.
    #[error("the lead has no address for the channel")]
    Unreachable,
    /// It has changed since it was read.
    #[error("the lead has changed")]
    EtagMismatch {
        /// The etag that would be right.
        current: String,
    },
    /// Consent comes with the lead, and the caller may not record any.
    #[error("the caller may not {0}")]
    Denied(&'static str),
    /// Others change the same leads faster than this could be done.
    #[error("the lead could not be changed for others who did")]
    Contended,
    /// Identity could not be asked about the owner.
    #[error("the owner could not be looked up")]
    Directory(#[source] Answer),
    /// The Idempotency-Key.
    #[error(transparent)]
    Once(#[from] once::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<consent::Error> for Error {
    fn from(error: consent::Error) -> Self {
        match error {
            consent::Error::Once(error) => Error::Once(error),
            consent::Error::Database(error) => Error::Database(error),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("lead"),
            Error::Invalid(faults) => Problem::invalid(faults),
            Error::Exists { existing } => Problem::new(
                ErrorReason::LeadExists,
                format!("{existing} has this address or external id."),
            )
            .with_data(&named(existing)),
            Error::Merged { into } => Problem::new(
                ErrorReason::LeadMerged,
                format!("The lead is part of {into} now."),
            )
            .with_data(&named(into)),
            Error::Backwards { status } => Problem::new(
                ErrorReason::LeadStatusBackwards,
                format!("The lead is {} already.", status.as_str()),
            )
            .with_data(&StateConflict {
                state: status.as_str().to_owned(),
            }),
            Error::NotMergeable(why) => Problem::new(ErrorReason::LeadNotMergeable, why),
            Error::Unreachable => Problem::new(
                ErrorReason::LeadUnreachable,
                "The lead has no address that this channel reaches.",
            ),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The lead's etag is {current} now."),
            ),
            Error::Denied(permission) => Problem::permission_denied(permission),
            Error::Taken | Error::Contended => Problem::unavailable(error),
            Error::Directory(status) => Problem::unavailable(status),
            Error::Once(error) => error.into(),
            Error::Database(error) => failure::database(error),
        }
    }
}

fn named(lead: LeadId) -> ObjectExists {
    ObjectExists {
        existing_id: Some(lead.to_string()),
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
