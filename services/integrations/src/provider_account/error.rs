//! What can keep an account from being added, changed or used.
//! Deliberately absent: what a provider says about credentials. It is asked when something leaves.

use mainstay_jobs::{failure, once};
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};

use crate::vault::VaultError;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such account.
    #[error("there is no such account")]
    NotFound,
    /// Senders use it.
    #[error("the account has senders")]
    InUse,
    /// It has changed since it was read.
    #[error("the account has changed")]
    EtagMismatch {
        /// The etag that would be right.
        current: String,
    },
    /// They are not what the provider gives: every field at fault.
    #[error("the credentials are not the provider's")]
    Credentials(Vec<FieldViolation>),
    /// About the Idempotency-Key.
    #[error(transparent)]
    Once(#[from] once::Error),
    /// It could not be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Error::Database(error.into())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("provider account"),
            Error::InUse => Problem::new(
                ErrorReason::ProviderAccountInUse,
                "Senders belong to this account.",
            ),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The account's etag is {current} now."),
            ),
            Error::Credentials(faults) => Problem::invalid(faults),
            Error::Once(error) => error.into(),
            Error::Vault(VaultError::Database(error)) | Error::Database(error) => {
                failure::database(error)
            }
            Error::Vault(
                error @ (VaultError::MasterKeyMissing { .. }
                | VaultError::Broken
                | VaultError::NoKey),
            ) => Problem::internal(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
