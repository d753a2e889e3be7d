//! Texts over Twilio (https://www.twilio.com/docs/messaging/api/message-resource).
//! Creating a message has no idempotency key there: it is sent once, and what is not known afterwards is looked for in the
//! list. Every try's own id stands in the address of its callback, so a callback alone proves that it was taken.
//! Deliberately absent: WhatsApp and calls over Twilio.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, StatusCode, header};
use mainstay_providers::twilio::authorization;
use mainstay_providers::{Answer, Call, Repeat};
use serde::Deserialize;

use super::{Account, Carriers, Class, Envelope, Found, Refused, Seen, Sent, Sought};
use crate::message::rules::Status;

/// The longest that Twilio queues a message by itself.
const MOST_VALIDITY: i64 = 36_000;
/// Without it Twilio tells a status once more only if no connection came about, and then never again. It is neither sent nor
/// signed (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides).
const SAID_AGAIN: &str = "#rc=3&rp=all";
/// How far Twilio's clock may lie from ours.
const SKEW: TimeDelta = TimeDelta::minutes(2);

pub(super) async fn send(
    carriers: &Carriers,
    envelope: &Envelope,
    account: &Account,
    now: DateTime<Utc>,
    deadline: Instant,
) -> Sent {
    let callback = format!(
        "{}?attempt={}{SAID_AGAIN}",
        carriers.callback(account, "twilio/{token}/status"),
        envelope.attempt
    );
    // What waits at Twilio longer than it is of use arrives after the appointment it reminds of.
    let validity = (envelope.expires_at - now)
        .num_seconds()
        .clamp(1, MOST_VALIDITY);
    let form = form(&[
        ("To", envelope.address.as_str()),
        ("From", &account.sender),
        ("Body", &envelope.body),
        ("StatusCallback", &callback),
        ("ValidityPeriod", &validity.to_string()),
    ]);
    let mut call = super::once(
        Method::POST,
        messages(account),
        "/2010-04-01/Accounts/{sid}/Messages.json",
        Some(deadline),
    );
    call.body = form.into();
    super::with_header(
        &mut call,
        header::CONTENT_TYPE,
        "application/x-www-form-urlencoded",
        false,
    );
    authorise(&mut call, account);
    match super::certain(carriers.twilio.call(call).await) {
        Err(sent) => sent,
        Ok(answer) if answer.status.is_success() => match super::json::<Message>(&answer) {
            Some(message) => Sent::Accepted {
                provider_id: message.sid,
            },
            None => Sent::Unknown {
                cause: "Twilio's answer has no sid".to_owned(),
            },
        },
        Ok(answer) => Sent::Refused(refused(&answer)),
    }
}

pub(super) async fn find(carriers: &Carriers, sought: &Sought, account: &Account) -> Found {
    // By day: Twilio's filter knows days only, in UTC.
    let day = (sought.since - SKEW).format("%Y-%m-%d");
    let query = form(&[
        ("To", sought.address.as_str()),
        ("From", &account.sender),
        ("DateSent>", &day.to_string()),
        ("PageSize", "1000"),
    ]);
    let mut call = Call {
        repeat: Repeat::Harmless,
        ..super::once(
            Method::GET,
            format!("{}?{query}", messages(account)),
            "/2010-04-01/Accounts/{sid}/Messages.json",
            None,
        )
    };
    authorise(&mut call, account);
    let answer = match super::certain(carriers.twilio.call(call).await) {
        Ok(answer) if answer.status.is_success() => answer,
        Ok(answer) => {
            return Found::NotNow {
                cause: refused(&answer).text,
            };
        }
        Err(Sent::Unknown { cause }) => return Found::NotNow { cause },
        Err(other) => {
            return Found::NotNow {
                cause: format!("{other:?}"),
            };
        }
    };
    let Some(list) = super::json::<Listed>(&answer) else {
        return Found::NotNow {
            cause: "Twilio's list cannot be read".to_owned(),
        };
    };
    let ours = list.messages.iter().find(|message| {
        message.body.as_deref() == Some(sought.body.as_str())
            && !sought.known.contains(&message.sid)
            && message
                .created_at()
                .is_none_or(|at| at >= sought.since - SKEW)
    });
    match ours {
        Some(message) => Found::Accepted {
            provider_id: message.sid.clone(),
            status: message.status.as_deref().and_then(status),
        },
        // A full page may hold it further on; then it stays open rather than being sent twice.
        None if list.next_page_uri.is_some() => Found::NotNow {
            cause: "Twilio lists more than a page of messages to this number today".to_owned(),
        },
        None => Found::Absent,
    }
}

/// https://www.twilio.com/docs/messaging/api/message-resource#fetch-a-message-resource
pub(super) async fn see(carriers: &Carriers, sid: &str, account: &Account) -> Seen {
    let path = format!(
        "/2010-04-01/Accounts/{}/Messages/{sid}.json",
        account.credential("account_sid")
    );
    let route = "/2010-04-01/Accounts/{sid}/Messages/{sid}.json";
    let mut call = Call {
        repeat: Repeat::Harmless,
        ..super::once(Method::GET, path, route, None)
    };
    authorise(&mut call, account);
    super::seen(carriers.twilio.call(call).await, |answer| {
        let message = super::json::<Message>(answer)?;
        Some(Seen::Stands {
            word: message.status?,
            code: message.error_code.map(|code| code.to_string()),
            text: message.error_message,
        })
    })
}

/// Twilio's word for how a message stands.
pub(crate) fn status(word: &str) -> Option<Status> {
    match word {
        "queued" | "accepted" | "scheduled" | "sending" | "sent" => Some(Status::Sent),
        "delivered" => Some(Status::Delivered),
        "read" => Some(Status::Read),
        "undelivered" => Some(Status::Undelivered),
        "failed" => Some(Status::Failed),
        _ => None,
    }
}

/// https://www.twilio.com/docs/api/errors
pub(super) fn class_of(code: &str) -> Class {
    match code {
        "20429" | "14107" => Class::Busy,
        "21611" | "30001" | "30003" | "30008" | "30017" => Class::Passing,
        "21211" | "21217" | "21614" | "30005" | "30006" => Class::DeadAddress,
        "21610" => Class::OptedOut,
        "20003" | "20404" | "21212" | "21603" | "21606" | "21659" | "30002" | "30004" | "30007"
        | "30032" | "30034" => Class::Ours,
        _ => Class::Message,
    }
}

fn refused(answer: &Answer) -> Refused {
    let said = super::json::<Error>(answer);
    let code = said
        .as_ref()
        .and_then(|error| error.code)
        .map(|code| code.to_string());
    let class = match (answer.status, code.as_deref()) {
        (StatusCode::TOO_MANY_REQUESTS, _) => Class::Busy,
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => Class::Ours,
        (_, Some(code)) => class_of(code),
        (_, None) => Class::Message,
    };
    Refused {
        class,
        text: said.map_or_else(
            || format!("Twilio answered {}", answer.status),
            |error| error.message,
        ),
        code,
        retry_after: super::retry_after(answer),
    }
}

fn messages(account: &Account) -> String {
    format!(
        "/2010-04-01/Accounts/{}/Messages.json",
        account.credential("account_sid")
    )
}

fn authorise(call: &mut Call, account: &Account) {
    let value = authorization(
        account.credential("account_sid"),
        account.credential("auth_token"),
    );
    call.headers.insert(header::AUTHORIZATION, value);
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

#[derive(Deserialize)]
struct Message {
    sid: String,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    date_created: Option<String>,
    #[serde(default)]
    error_code: Option<i64>,
    #[serde(default)]
    error_message: Option<String>,
}

impl Message {
    fn created_at(&self) -> Option<DateTime<Utc>> {
        let at = DateTime::parse_from_rfc2822(self.date_created.as_deref()?).ok()?;
        Some(at.to_utc())
    }
}

#[derive(Deserialize)]
struct Listed {
    messages: Vec<Message>,
    #[serde(default)]
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    code: Option<i64>,
    #[serde(default)]
    message: String,
}
