//! What a caller of the webhook inbox can act on, and how it is told.
//! Deliberately absent: what the owner of a webhook's meaning answers. That is data of the inbox, not an error of it.

use mainstay_db::Retryable;
use mainstay_jobs::failure;
use mainstay_rpc::Problem;

/// Why the inbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is none for this agency.
    #[error("there is no such webhook event")]
    NotFound,
    /// The row is of a state this binary does not know: a newer release wrote it.
    #[error("a webhook event cannot be read")]
    Unreadable(#[from] super::UnknownState),
    /// The statement did not answer for every webhook: a bug.
    #[error("a webhook was not stored")]
    NotStored,
    /// The database.
    #[error("the webhook inbox cannot be reached")]
    Database(#[from] mainstay_db::Error),
}

impl From<sqlx::Error> for WebhookError {
    fn from(error: sqlx::Error) -> Self {
        WebhookError::Database(error.into())
    }
}

impl Retryable for WebhookError {
    fn is_retryable(&self) -> bool {
        matches!(self, WebhookError::Database(error) if error.is_retryable())
    }
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Problem {
        match error {
            WebhookError::NotFound => Problem::not_found("webhook event"),
            WebhookError::Database(error) => failure::database(error),
            WebhookError::NotStored | WebhookError::Unreadable(_) => Problem::internal(error),
        }
    }
}
