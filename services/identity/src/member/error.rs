//! What can keep a member from being added or re-scoped.

use mainstay_proto::errors::v1::ObjectExists;
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};
use mainstay_types::MemberId;

use crate::role::exceeds_own;
use crate::{api_key, failure, once};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such member.
    #[error("there is no such member")]
    NotFound,
    /// The person is a member already.
    #[error("this person is already a member")]
    EmailTaken {
        /// As which.
        existing: Option<MemberId>,
    },
    /// The agency has no role of this name.
    #[error("there is no such role")]
    NoSuchRole,
    /// The agency has no such client.
    #[error("there is no such client")]
    NoSuchClient,
    /// An owner for some clients.
    #[error("an owner owns the whole agency")]
    OwnsAll,
    /// Nobody grants what they lack.
    #[error("the caller lacks what it would grant")]
    ExceedsOwn {
        /// The permissions it lacks.
        lacking: Vec<String>,
    },
    /// The agency would have no owner.
    #[error("the agency would have no owner")]
    LastOwner,
    /// A key of the member's could not be ended.
    #[error(transparent)]
    Key(#[from] api_key::Error),
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
            Error::NotFound => Problem::not_found("member"),
            Error::EmailTaken { existing } => Problem::new(
                ErrorReason::MemberEmailTaken,
                "A member of the agency has this email address.",
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            Error::NoSuchRole => fault(
                "role",
                "is neither a built-in role nor one of the agency's: GET /v1/roles lists them",
            ),
            Error::NoSuchClient => Problem::not_found("client"),
            Error::OwnsAll => fault("client_ids", "an owner owns the whole agency: leave it out"),
            Error::ExceedsOwn { lacking } => exceeds_own(lacking),
            Error::LastOwner => Problem::new(
                ErrorReason::LastOwner,
                "The agency would be left without an owner.",
            ),
            Error::Key(error) => error.into(),
            Error::Once(error) => error.into(),
            Error::Database(error) => failure::database(error),
        }
    }
}

fn fault(field: &str, message: &str) -> Problem {
    Problem::invalid(vec![FieldViolation {
        field: field.to_owned(),
        message: message.to_owned(),
    }])
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
