//! The one door out: whatever leaves the platform as a message leaves through [`Carriers::send`], which takes a permit and
//! uses it up. The adapters behind it are private to this module.
//!
//! Reading order: this → [`twilio`] → [`resend`], [`sendgrid`].
//! Deliberately absent: trying again. An adapter says what is certain; what follows from that is decided by [`crate::sending`].

mod resend;
mod sendgrid;
mod twilio;

pub(crate) use twilio::status as twilio_status;

use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, Method, header};
use mainstay_providers::{Answer, Call, HttpStack, Outcome, ProviderSettings, Repeat, StackError};
use mainstay_types::{AttemptId, MessageId};
use secrecy::{ExposeSecret as _, SecretString};

use crate::address::Address;
use crate::gate::permit::{Permit, PermitKey, Subject, content_hash};
use crate::gate::{Channel, Purpose};
use crate::message::rules::Status;

/// A provider that carries messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Texts and calls.
    Twilio,
    /// Mail.
    Resend,
    /// Mail.
    Sendgrid,
}

impl Provider {
    /// All.
    pub const ALL: [Provider; 3] = [Provider::Twilio, Provider::Resend, Provider::Sendgrid];

    /// As integrations and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Provider::Twilio => "twilio",
            Provider::Resend => "resend",
            Provider::Sendgrid => "sendgrid",
        }
    }

    /// The provider that is spelled so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.as_str() == name)
    }

    /// Whether it can be asked what became of a message.
    pub const fn can_be_asked(self) -> bool {
        match self {
            Provider::Twilio | Provider::Resend => true,
            // Its activity feed is sold apart.
            Provider::Sendgrid => false,
        }
    }
}

/// Whose name a message goes out in, and what opens the provider's door.
#[derive(Clone)]
pub struct Account {
    /// Integrations' id of it.
    pub id: String,
    /// The provider.
    pub provider: Provider,
    /// The number or mail address it sends from.
    pub sender: String,
    /// How many a second.
    pub rate: f64,
    /// What its webhook addresses hold.
    pub endpoint_token: String,
    /// By name, as the provider calls them.
    pub credentials: std::collections::BTreeMap<String, SecretString>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Account({} at {:?} as {})",
            self.id, self.provider, self.sender
        )
    }
}

impl Account {
    /// A credential; empty when integrations has none of that name, which the provider refuses as it refuses a wrong one.
    fn credential(&self, name: &str) -> &str {
        self.credentials
            .get(name)
            .map(|secret| secret.expose_secret())
            .unwrap_or_default()
    }
}

/// A message as it leaves.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The message.
    pub message: MessageId,
    /// Which of its tries.
    pub attempt: AttemptId,
    /// That try's number.
    pub number: i32,
    /// How.
    pub channel: Channel,
    /// What for.
    pub purpose: Purpose,
    /// To whom.
    pub address: Address,
    /// A mail's subject.
    pub subject: Option<String>,
    /// The text.
    pub body: String,
    /// Where its reader unsubscribes, of mail that has a link.
    pub unsubscribe: Option<String>,
    /// After this it is better not delivered.
    pub expires_at: DateTime<Utc>,
}

impl Envelope {
    /// What its permit has to be for.
    pub fn permit_subject(&self) -> Subject<'_> {
        Subject {
            message: self.message,
            attempt: self.number,
            channel: self.channel,
            purpose: self.purpose,
            address: self.address.as_str(),
            content_hash: content_hash(self.subject.as_deref(), &self.body),
        }
    }
}

/// What is certain after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The provider has it, under this id.
    Accepted {
        /// The provider's id.
        provider_id: String,
    },
    /// The provider certainly does not have it.
    Refused(Refused),
    /// It may have it.
    Unknown {
        /// Why, for operators.
        cause: String,
    },
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What it means for what comes next.
    pub class: Class,
    /// The provider's code.
    pub code: Option<String>,
    /// In words, for people.
    pub text: String,
    /// When the provider says that trying again may help.
    pub retry_after: Option<TimeDelta>,
}

/// What a refusal, or a failure told later, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Too much at once, or not reached: again until it is too late.
    Busy,
    /// Something that passes: again, a few times.
    Passing,
    /// The address reaches nobody: never again.
    DeadAddress,
    /// The person has stopped us at the provider.
    OptedOut,
    /// Something of ours is wrong: an account, a number, a registration. A person has to look.
    Ours,
    /// This message will not go; nothing follows from it.
    Message,
}

/// What asking afterwards found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The provider has it.
    Accepted {
        /// Under this id.
        provider_id: String,
        /// How it stands there.
        status: Option<Status>,
    },
    /// The provider does not have it, and would show it if it had.
    Absent,
    /// It could not be learned now.
    NotNow {
        /// Why, for operators.
        cause: String,
    },
    /// The same message can be said again and is the same there: past the gate once more.
    Repeatable,
    /// This provider cannot be asked.
    Never,
}

/// What a provider says of a message that it has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// How it stands there.
    Stands {
        /// In the provider's word.
        word: String,
        /// Why it failed, if it did.
        code: Option<String>,
        /// The same for people.
        text: Option<String>,
    },
    /// It could not be learned now.
    NotNow {
        /// Why, for operators.
        cause: String,
    },
    /// The provider does not have it any more, or cannot be asked.
    Never,
}

/// What to look for at the provider.
#[derive(Debug, Clone)]
pub struct Sought {
    /// To whom it went.
    pub address: Address,
    /// Its text.
    pub body: String,
    /// When the try began, by the world's clock, which providers go by.
    pub since: DateTime<Utc>,
    /// When the first try of the message began, by the same.
    pub first_tried_at: DateTime<Utc>,
    /// The provider's ids that are known to be other messages.
    pub known: Vec<String>,
}

/// Where the providers answer.
#[derive(Debug, Clone)]
pub struct Bases {
    /// Twilio.
    pub twilio: String,
    /// Resend.
    pub resend: String,
    /// SendGrid.
    pub sendgrid: String,
    /// The gateway, as the outside sees it.
    pub public: String,
}

/// The providers, and the key that permits are checked with.
#[derive(Debug, Clone)]
pub struct Carriers {
    key: PermitKey,
    public: String,
    twilio: HttpStack,
    resend: HttpStack,
    sendgrid: HttpStack,
}

impl Carriers {
    /// At these addresses.
    ///
    /// # Errors
    /// When the HTTP clients cannot be made.
    pub fn new(key: PermitKey, bases: &Bases, patience: Duration) -> Result<Self, StackError> {
        let stack = |provider: Provider, base: &str| {
            HttpStack::new(ProviderSettings {
                attempt: patience,
                total: patience * 2,
                ..ProviderSettings::new(provider.as_str(), "messaging", base)
            })
        };
        Ok(Carriers {
            key,
            public: bases.public.trim_end_matches('/').to_owned(),
            twilio: stack(Provider::Twilio, &bases.twilio)?,
            resend: stack(Provider::Resend, &bases.resend)?,
            sendgrid: stack(Provider::Sendgrid, &bases.sendgrid)?,
        })
    }

    /// Their connections, for health.
    pub fn stacks(&self) -> [&HttpStack; 3] {
        [&self.twilio, &self.resend, &self.sendgrid]
    }

    /// Hands a message over. The permit is used up whatever comes of it; without a good one nothing leaves.
    pub async fn send(
        &self,
        permit: Permit,
        envelope: &Envelope,
        account: &Account,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Sent {
        if let Err(void) = self.key.redeem(permit, &envelope.permit_subject(), now) {
            // Too slow, or a mistake of the program: either way nothing has left, and the gate is asked again.
            return Sent::Refused(Refused {
                class: Class::Busy,
                code: None,
                text: void.to_string(),
                retry_after: None,
            });
        }
        match account.provider {
            Provider::Twilio => twilio::send(self, envelope, account, now, deadline).await,
            Provider::Resend => resend::send(self, envelope, account, deadline).await,
            Provider::Sendgrid => sendgrid::send(self, envelope, account, deadline).await,
        }
    }

    /// Asks whether a try was taken after all. It sends nothing new.
    pub async fn find(&self, sought: &Sought, account: &Account) -> Found {
        match account.provider {
            Provider::Twilio => twilio::find(self, sought, account).await,
            Provider::Resend => resend::find(sought),
            // Its activity feed is sold apart, and its events name the try.
            Provider::Sendgrid => Found::Never,
        }
    }

    /// Asks how a message stands that was taken under this id.
    pub async fn see(&self, provider_id: &str, account: &Account) -> Seen {
        match account.provider {
            Provider::Twilio => twilio::see(self, provider_id, account).await,
            Provider::Resend => resend::see(self, provider_id, account).await,
            Provider::Sendgrid => Seen::Never,
        }
    }

    /// Where a provider tells what became of a message.
    fn callback(&self, account: &Account, path: &str) -> String {
        format!("{}/webhooks/{path}", self.public).replace("{token}", &account.endpoint_token)
    }
}

/// What a provider says a failure code of its own means; Twilio's tells them in callbacks as well.
pub fn class_of(provider: Provider, code: &str) -> Class {
    match provider {
        Provider::Twilio => twilio::class_of(code),
        Provider::Resend | Provider::Sendgrid => Class::Message,
    }
}

/// What looking at a message found: its provider's answer, read by `read`.
fn seen(outcome: Outcome, read: impl FnOnce(&Answer) -> Option<Seen>) -> Seen {
    let not_now = |cause: String| Seen::NotNow { cause };
    match certain(outcome) {
        Ok(answer) if answer.status == http::StatusCode::NOT_FOUND => Seen::Never,
        Ok(answer) if answer.status.is_success() => {
            read(&answer).unwrap_or_else(|| not_now("the answer cannot be read".to_owned()))
        }
        Ok(answer) => not_now(format!("the provider answered {}", answer.status)),
        Err(Sent::Unknown { cause }) => not_now(cause),
        Err(Sent::Refused(refused)) => not_now(refused.text),
        Err(Sent::Accepted { .. }) => not_now("nothing was asked".to_owned()),
    }
}

/// A call without a body's repeat: sending twice is what this module must not do by itself.
fn once(method: Method, path: String, route: &str, deadline: Option<Instant>) -> Call {
    Call {
        method,
        path,
        route: route.to_owned(),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
        repeat: Repeat::Never,
        deadline,
    }
}

fn with_header(call: &mut Call, name: header::HeaderName, value: &str, secret: bool) {
    // A credential with a line break in it is refused by the provider; here it only must not end the process.
    let mut value = HeaderValue::try_from(value.trim())
        .unwrap_or_else(|_| HeaderValue::from_static("unusable"));
    value.set_sensitive(secret);
    call.headers.insert(name, value);
}

/// A mail's own headers: how programs unsubscribe for their reader (RFC 8058, 3.1).
fn mail_headers(envelope: &Envelope) -> serde_json::Map<String, serde_json::Value> {
    let link = envelope.unsubscribe.iter();
    link.flat_map(|link| {
        [
            ("List-Unsubscribe", format!("<{link}>")),
            (
                "List-Unsubscribe-Post",
                "List-Unsubscribe=One-Click".to_owned(),
            ),
        ]
    })
    .map(|(name, value)| (name.to_owned(), value.into()))
    .collect()
}

/// What everything but an answer means, and which answers leave doubt.
fn certain(outcome: Outcome) -> Result<Answer, Sent> {
    match outcome {
        // What a failing server did before it failed, nobody knows.
        Outcome::Answer(answer) if answer.status.is_server_error() => Err(Sent::Unknown {
            cause: format!("the provider answered {}", answer.status),
        }),
        // A refusal speaks for its own request only; the one before it may have been taken.
        Outcome::Answer(answer) if answer.after_unknown && !answer.status.is_success() => {
            Err(Sent::Unknown {
                cause: format!(
                    "the provider answered {} after a request of which nothing is known",
                    answer.status
                ),
            })
        }
        Outcome::Answer(answer) => Ok(answer),
        Outcome::NotSent(not_sent) => Err(Sent::Refused(Refused {
            class: Class::Busy,
            code: None,
            retry_after: not_sent
                .retry_after
                .and_then(|wait| TimeDelta::from_std(wait).ok()),
            text: not_sent.cause,
        })),
        Outcome::Unknown(unknown) => Err(Sent::Unknown {
            cause: unknown.cause,
        }),
    }
}

fn retry_after(answer: &Answer) -> Option<TimeDelta> {
    let seconds = answer
        .headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    TimeDelta::try_seconds(seconds)
}

/// Reads a provider's answer; what it does not say is not there.
fn json<T: serde::de::DeserializeOwned>(answer: &Answer) -> Option<T> {
    serde_json::from_slice(&answer.body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_after_a_silent_request_is_a_doubt() {
        let answered = |status: u16, after_unknown| {
            let answer = Answer {
                status: http::StatusCode::from_u16(status).expect("a status"),
                headers: HeaderMap::new(),
                body: bytes::Bytes::new(),
                after_unknown,
            };
            certain(Outcome::Answer(answer))
        };
        for status in [401, 409, 422, 429] {
            assert!(answered(status, false).is_ok());
            let doubt = answered(status, true);
            assert!(matches!(doubt, Err(Sent::Unknown { .. })), "{status}");
        }
        assert!(answered(200, true).is_ok());
        assert!(matches!(answered(503, false), Err(Sent::Unknown { .. })));
    }
}
