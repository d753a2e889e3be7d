//! What can keep a role from being made.

use mainstay_proto::errors::v1::{GrantExceedsOwn, ObjectExists};
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::RoleId;

use crate::{failure, once};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such role.
    #[error("there is no such role")]
    NotFound,
    /// A role has the name.
    #[error("a role with this name exists")]
    NameTaken {
        /// Which.
        existing: Option<RoleId>,
    },
    /// Nobody grants what they lack.
    #[error("the caller lacks what it would grant")]
    ExceedsOwn {
        /// The permissions it lacks.
        lacking: Vec<String>,
    },
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
            Error::NotFound => Problem::not_found("role"),
            Error::NameTaken { existing } => Problem::new(
                ErrorReason::RoleNameTaken,
                "The agency has a role with this name.",
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            Error::ExceedsOwn { lacking } => exceeds_own(lacking),
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

/// The refusal of whoever would grant more than they have; roles, members and keys share it.
pub(crate) fn exceeds_own(lacking: Vec<String>) -> Problem {
    let detail = format!("You lack, for these clients: {}.", lacking.join(", "));
    Problem::new(ErrorReason::GrantExceedsOwn, detail).with_data(&GrantExceedsOwn {
        permissions: lacking,
    })
}
