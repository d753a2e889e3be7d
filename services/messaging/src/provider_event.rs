//! What providers tell: that somebody wrote or called, and what became of a message. Each event arrives here once stored, as often as
//! it takes, and has its effect once.
//!
//! Reading order: [`word`] (what a body says) → [`status`] (what became of a message) → [`inbound`] (what somebody wrote) →
//! [`ring`] (that somebody called)
//! → [`form`] (that somebody sent a form) → [`reconciliation`] (what nobody told).
//! Deliberately absent: signatures. The gateway verified the bytes before they were stored.

mod form;
mod inbound;
pub(crate) mod reconciliation;
mod ring;
mod rpc;
mod status;
mod word;

use chrono::{DateTime, Utc};
use mainstay_types::{AgencyId, ClientId};

pub use form::Sent;

use crate::carrier::Provider;
use crate::{Messaging, consent, lead};

/// A stored event of a provider.
#[derive(Debug, Clone)]
pub struct ProviderEvent {
    /// Whose account it came through.
    pub agency: AgencyId,
    /// Whose sender was written to, where integrations knows.
    pub client: Option<ClientId>,
    /// The provider; none for our own forms.
    pub provider: Option<Provider>,
    /// For a form: where it came from.
    pub form: Option<Sent>,
    /// What it is called here: `message.received`.
    pub kind: String,
    /// The body as it was stored.
    pub body: Vec<u8>,
    /// When it came in.
    pub received_at: DateTime<Utc>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// What became of it.
    pub outcome: Outcome,
    /// For people.
    pub detail: String,
    /// The client that it was about.
    pub client: Option<ClientId>,
}

/// What can become of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It had its effect now.
    Applied,
    /// It had its effect before.
    Duplicate,
    /// It means nothing here.
    Ignored,
}

impl Handled {
    fn ignored(detail: impl Into<String>) -> Self {
        Handled {
            outcome: Outcome::Ignored,
            detail: detail.into(),
            client: None,
        }
    }
}

/// Why an event had no effect yet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its body is not what its kind says.
    #[error("the body {0}")]
    Unreadable(String),
    /// It is about a message of ours whose id at the provider is not written yet.
    #[error("it is about a message whose try is not settled yet")]
    NotYet,
    /// The lead.
    #[error(transparent)]
    Lead(#[from] lead::Error),
    /// The consent.
    #[error(transparent)]
    Consent(#[from] consent::Error),
    /// Integrations could not say whom to answer as.
    #[error(transparent)]
    Senders(#[from] mainstay_rpc::Problem),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

/// Gives an event its effect.
///
/// # Errors
/// [`Error`]; all but [`Error::Unreadable`] can be over at the next try.
pub async fn handle(messaging: &Messaging, event: &ProviderEvent) -> Result<Handled, Error> {
    if let Some(sent) = &event.form
        && event.kind == "form.submitted"
    {
        return form::take(messaging, event, sent).await;
    }
    let Some(provider) = event.provider else {
        return Ok(Handled::ignored("no provider of messages"));
    };
    match event.kind.as_str() {
        "message.received" => {
            let said = word::received(&event.body).map_err(Error::Unreadable)?;
            inbound::take(messaging, event, provider, &said).await
        }
        "call.received" | "call.status" if provider == Provider::Twilio => {
            let rang = word::rang(&event.body).map_err(Error::Unreadable)?;
            ring::take(messaging, event, provider, &rang).await
        }
        kind => match word::status(provider, kind, &event.body).map_err(Error::Unreadable)? {
            Some(word) => status::hear(messaging, event, provider, &word).await,
            None => Ok(Handled::ignored(format!("{kind} means nothing here"))),
        },
    }
}
