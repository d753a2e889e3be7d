//! What can keep an escalation from being raised, taken or ended.

use mainstay_jobs::{failure, once};
use mainstay_proto::errors::v1::{Claimed, ClaimedBy, StateConflict};
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};
use mainstay_types::MemberId;

use super::{Claim, State};
use crate::members;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none, or none that may be seen.
    #[error("there is no such escalation")]
    NotFound,
    /// Somebody else has it.
    #[error("somebody else has it")]
    Claimed(Claim),
    /// Nobody has it.
    #[error("nobody has it")]
    Unclaimed,
    /// It is done with, or nobody took it in time.
    #[error("the escalation has ended")]
    Ended(State),
    /// Nobody who could have it.
    #[error("{0} is no active member who serves the client")]
    NoMember(MemberId),
    /// A key acts for nobody unless it says for whom.
    #[error("for whom?")]
    ForWhom,
    /// Whoever asks may act for themselves alone.
    #[error("only for oneself")]
    OnlyOneself,
    /// The link is too old, or its member has left.
    #[error("the link is too old")]
    LinkExpired,
    /// It is no link of ours.
    #[error("there is no such link")]
    NoLink,
    /// The Idempotency-Key.
    #[error(transparent)]
    Once(#[from] once::Error),
    /// Identity.
    #[error(transparent)]
    Members(#[from] members::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

fn fault(field: &str, message: &str) -> Problem {
    Problem::invalid(vec![FieldViolation {
        field: field.to_owned(),
        message: message.to_owned(),
    }])
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("escalation"),
            Error::NoLink => Problem::not_found("link"),
            Error::Claimed(claim) => Problem::new(
                ErrorReason::AlreadyClaimed,
                format!(
                    "{} has it since {}.",
                    claim.name,
                    claim.at.format("%H:%M UTC")
                ),
            )
            .with_data(&Claimed {
                claimed_by: Some(ClaimedBy {
                    id: claim.member.to_string(),
                    name: claim.name,
                }),
            }),
            Error::Unclaimed => Problem::new(
                ErrorReason::EscalationUnclaimed,
                "Nobody has it, so there is nothing to give back.",
            ),
            Error::Ended(state) => Problem::new(
                ErrorReason::EscalationEnded,
                format!("The escalation is {} already.", state.as_str()),
            )
            .with_data(&StateConflict {
                state: state.as_str().to_owned(),
            }),
            Error::NoMember(_) => fault("member_id", "is no active member who serves this client"),
            Error::ForWhom => fault(
                "member_id",
                "is needed: an API key takes nothing for itself",
            ),
            Error::OnlyOneself => Problem::permission_denied(super::act::ASSIGN),
            Error::LinkExpired => Problem::new(
                ErrorReason::ClaimLinkExpired,
                "The link is too old, or whoever it was sent to has left.",
            ),
            Error::Once(error) => error.into(),
            Error::Members(error) => error.into(),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
