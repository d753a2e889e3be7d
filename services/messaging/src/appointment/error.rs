//! What can keep an appointment from being booked or changed.

use mainstay_jobs::{failure, once};
use mainstay_proto::errors::v1::StateConflict;
use mainstay_rpc::{ErrorReason, Problem};

use super::State;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client has no such appointment.
    #[error("there is no such appointment")]
    NotFound,
    /// The client has no such lead.
    #[error("there is no such lead")]
    NoLead,
    /// It has changed since it was read.
    #[error("the appointment has changed")]
    EtagMismatch {
        /// The etag that would be right.
        current: String,
    },
    /// It was canceled, kept or missed.
    #[error("the appointment has ended")]
    Ended(State),
    /// The Idempotency-Key.
    #[error(transparent)]
    Once(#[from] once::Error),
    /// The lead.
    #[error(transparent)]
    Lead(#[from] crate::lead::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("appointment"),
            Error::NoLead => Problem::not_found("lead"),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The appointment's etag is {current} now."),
            ),
            Error::Ended(state) => Problem::new(
                ErrorReason::AppointmentEnded,
                format!("The appointment is {} already.", state.as_str()),
            )
            .with_data(&StateConflict {
                state: state.as_str().to_owned(),
            }),
            Error::Once(error) => error.into(),
            Error::Lead(error) => error.into(),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
