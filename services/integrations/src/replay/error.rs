//! Why something is not replayed. Deliberately absent: what becomes of a webhook after it was queued; its row says that.

use mainstay_db::Retryable;
use mainstay_jobs::failure;
use mainstay_proto::errors::v1::ObjectExists;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::WebhookReplayId;

use super::rules::MOST_IN_RANGE;
use crate::webhook::WebhookError;

/// Why it could not be.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is none for this agency.
    #[error("there is no such replay")]
    NotFound,
    /// Another range is being replayed.
    #[error("another replay runs: {0}")]
    Running(WebhookReplayId),
    /// The one that stood in the way has just ended.
    #[error("the replay that ran has just ended")]
    Moved,
    /// The range holds too many.
    #[error("more than {MOST_IN_RANGE} webhooks match")]
    TooLarge,
    /// The webhook's own.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The database.
    #[error("the webhook inbox cannot be reached")]
    Database(#[from] mainstay_db::Error),
}

impl From<sqlx::Error> for ReplayError {
    fn from(error: sqlx::Error) -> Self {
        ReplayError::Database(error.into())
    }
}

impl Retryable for ReplayError {
    fn is_retryable(&self) -> bool {
        match self {
            ReplayError::Moved => true,
            ReplayError::Database(error) => error.is_retryable(),
            ReplayError::Webhook(error) => error.is_retryable(),
            ReplayError::NotFound | ReplayError::Running(_) | ReplayError::TooLarge => false,
        }
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Problem {
        match error {
            ReplayError::NotFound => Problem::not_found("replay"),
            ReplayError::Running(id) => Problem::new(
                ErrorReason::ReplayRunning,
                format!("The replay {id} has not ended."),
            )
            .with_data(&ObjectExists {
                existing_id: Some(id.to_string()),
            }),
            ReplayError::TooLarge => Problem::new(
                ErrorReason::ReplayTooLarge,
                format!("More than {MOST_IN_RANGE} webhooks match."),
            ),
            ReplayError::Moved => Problem::unavailable(error),
            ReplayError::Webhook(error) => error.into(),
            ReplayError::Database(error) => failure::database(error),
        }
    }
}
