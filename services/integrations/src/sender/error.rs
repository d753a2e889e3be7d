//! What can keep a sender from being added or changed.

use chrono::{DateTime, SecondsFormat, Utc};
use mainstay_jobs::{failure, once};
use mainstay_proto::errors::v1::{ObjectExists, SenderParked};
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::SenderId;

use super::Channel;
use crate::provider_account::Provider;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agency has no such sender.
    #[error("there is no such sender")]
    NotFound,
    /// The agency has no such client.
    #[error("there is no such client")]
    NoSuchClient,
    /// Identity could not be asked about a client.
    #[error("the client could not be looked up")]
    Directory(#[source] tonic::Status),
    /// The agency has no such account.
    #[error("there is no such account")]
    NoSuchAccount,
    /// The account does not carry the channel.
    #[error("the account does not carry the channel")]
    WrongProvider {
        /// The account's provider.
        provider: Provider,
        /// The channel.
        channel: Channel,
    },
    /// Calls to it cannot be put through to that number.
    #[error("calls cannot be put through so")]
    CannotForward(&'static str),
    /// Another active sender of the agency has the address.
    #[error("another sender has the address")]
    AddressTaken {
        /// Which.
        existing: Option<SenderId>,
    },
    /// Its client has left, and it has not been quiet for long enough.
    #[error("the sender is parked")]
    Parked {
        /// Since when.
        at: DateTime<Utc>,
        /// When it is free.
        until: DateTime<Utc>,
    },
    /// It has changed since it was read.
    #[error("the sender has changed")]
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

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("sender"),
            Error::NoSuchClient => {
                Problem::invalid(Vec::new()).violation("client_id", "there is no such client")
            }
            Error::Directory(status) => Problem::unavailable(status),
            Error::NoSuchAccount => Problem::invalid(Vec::new())
                .violation("account_id", "there is no such provider account"),
            Error::WrongProvider { provider, channel } => Problem::invalid(Vec::new()).violation(
                "account_id",
                format!(
                    "is an account of {}, which does not carry {}",
                    provider.as_str(),
                    channel.as_str()
                ),
            ),
            Error::CannotForward(why) => {
                Problem::invalid(Vec::new()).violation("forward_calls_to", why)
            }
            Error::AddressTaken { existing } => Problem::new(
                ErrorReason::SenderAddressTaken,
                "Another active sender of the agency has this address.",
            )
            .with_data(&ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            Error::Parked { at, until } => Problem::new(
                ErrorReason::SenderParked,
                "The client of this sender has left; it is parked until it has been quiet for a while.",
            )
            .with_data(&SenderParked {
                parked_at: at.to_rfc3339_opts(SecondsFormat::Secs, true),
                until: until.to_rfc3339_opts(SecondsFormat::Secs, true),
            }),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                format!("The sender's etag is {current} now."),
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
