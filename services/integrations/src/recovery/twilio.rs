//! What Twilio has of an account: its numbers, and who wrote to them and rang them, newest first
//! (https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources).
//! Deliberately absent: anything that changes something there.

use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, StatusCode, header};
use mainstay_providers::twilio::authorization;
use mainstay_providers::{
    Call as Request, HttpStack, Outcome, ProviderSettings, Repeat, StackError,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::provider_account::Calling;

/// What a page holds; Twilio gives up to a thousand.
const PAGE: &str = "500";

/// Reads Twilio's lists.
#[derive(Clone)]
pub(super) struct Twilio(HttpStack);

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("Twilio answered {0}")]
    Refused(StatusCode),
    #[error("Twilio did not answer: {0}")]
    Silent(String),
    #[error("Twilio's list cannot be read")]
    Unreadable(#[source] serde_json::Error),
    #[error("Twilio's list leads back to its own page")]
    Endless,
}

/// A number of the account, and whom it tells.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Number {
    pub(super) phone_number: String,
    pub(super) sms_url: Option<String>,
    pub(super) voice_url: Option<String>,
    pub(super) status_callback: Option<String>,
}

/// A message.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Message {
    pub(super) sid: String,
    pub(super) account_sid: String,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) body: Option<String>,
    pub(super) direction: Option<String>,
    pub(super) num_media: Option<String>,
    pub(super) date_sent: Option<String>,
    pub(super) date_created: Option<String>,
}

impl Message {
    /// When it was sent.
    pub(super) fn at(&self) -> Option<DateTime<Utc>> {
        moment(self.date_sent.as_deref().or(self.date_created.as_deref()))
    }
}

/// A call.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Call {
    pub(super) sid: String,
    pub(super) account_sid: String,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) direction: Option<String>,
    pub(super) status: Option<String>,
    pub(super) duration: Option<String>,
    pub(super) start_time: Option<String>,
    pub(super) date_created: Option<String>,
}

impl Call {
    /// When it rang.
    pub(super) fn at(&self) -> Option<DateTime<Utc>> {
        moment(self.start_time.as_deref().or(self.date_created.as_deref()))
    }
}

fn moment(text: Option<&str>) -> Option<DateTime<Utc>> {
    let at = DateTime::parse_from_rfc2822(text?).ok()?;
    Some(at.to_utc())
}

/// One page of any list. What cannot be read is no reason to stop at it for ever.
#[derive(Deserialize)]
struct Page {
    #[serde(rename = "messages", alias = "calls", alias = "incoming_phone_numbers")]
    items: Vec<Value>,
    next_page_uri: Option<String>,
}

impl Twilio {
    pub(super) fn new(base: &str) -> Result<Self, StackError> {
        let settings = ProviderSettings::new("twilio", "integrations", base);
        Ok(Self(HttpStack::new(settings)?))
    }

    pub(super) fn stack(&self) -> &HttpStack {
        &self.0
    }

    /// All of the account's numbers.
    pub(super) async fn numbers(&self, account: &Calling) -> Result<Vec<Number>, Unread> {
        let query = [("PageSize", PAGE)];
        let all = |_: &Number| true;
        self.list(account, "IncomingPhoneNumbers", &query, all)
            .await
    }

    /// What was sent to a number since then, and perhaps some before.
    pub(super) async fn messages(
        &self,
        account: &Calling,
        number: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<Message>, Unread> {
        // By day: Twilio's filter knows days only, in UTC.
        let day = since.format("%Y-%m-%d").to_string();
        let query = [("To", number), ("DateSent>", &day), ("PageSize", PAGE)];
        let recent = |message: &Message| message.at().is_none_or(|at| at >= since);
        self.list(account, "Messages", &query, recent).await
    }

    /// Who rang a number since then, and perhaps some before.
    pub(super) async fn calls(
        &self,
        account: &Calling,
        number: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<Call>, Unread> {
        let day = since.format("%Y-%m-%d").to_string();
        let query = [("To", number), ("StartTime>", &day), ("PageSize", PAGE)];
        let recent = |call: &Call| call.at().is_none_or(|at| at >= since);
        self.list(account, "Calls", &query, recent).await
    }

    /// A list, page by page, until one ends with what nobody wants.
    async fn list<T: DeserializeOwned>(
        &self,
        account: &Calling,
        resource: &str,
        query: &[(&str, &str)],
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Unread> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let mut path = format!(
            "/2010-04-01/Accounts/{}/{resource}.json?{query}",
            account.account_sid
        );
        let mut found = Vec::new();
        loop {
            let page = self.page(account, resource, path.clone()).await?;
            for item in &page.items {
                match T::deserialize(item) {
                    Ok(item) => found.push(item),
                    Err(error) => tracing::warn!(
                        resource,
                        sid = item["sid"].as_str(),
                        error = &error as &dyn std::error::Error,
                        "Twilio lists something that cannot be read"
                    ),
                }
            }
            let ends = found.last().is_some_and(|last| !wanted(last));
            match page.next_page_uri.filter(|next| !next.is_empty()) {
                Some(next) if next == path => return Err(Unread::Endless),
                Some(next) if !ends => path = next,
                _ => return Ok(found),
            }
        }
    }

    async fn page(&self, account: &Calling, resource: &str, path: String) -> Result<Page, Unread> {
        let authorization = authorization(&account.account_sid, account.auth_token());
        let call = Request {
            method: Method::GET,
            path,
            route: format!("/2010-04-01/Accounts/{{sid}}/{resource}.json"),
            headers: HeaderMap::from_iter([(header::AUTHORIZATION, authorization)]),
            body: bytes::Bytes::new(),
            repeat: Repeat::Harmless,
            deadline: None,
        };
        match self.0.call(call).await {
            Outcome::Answer(answer) if answer.status.is_success() => {
                serde_json::from_slice(&answer.body).map_err(Unread::Unreadable)
            }
            Outcome::Answer(answer) => Err(Unread::Refused(answer.status)),
            Outcome::NotSent(why) => Err(Unread::Silent(why.cause)),
            Outcome::Unknown(why) => Err(Unread::Silent(why.cause)),
        }
    }
}
