//! Mail over Resend (https://resend.com/docs/api-reference/emails/send-email).
//! The message's id is its Idempotency-Key there, kept for 24 hours: said again it is the same mail, so a try whose outcome
//! is unknown is repeated, past the gate like any other.
//! Deliberately absent: attachments and batches.

use std::time::Instant;

use http::{HeaderName, Method, header};
use mainstay_providers::{Answer, Call, Repeat};
use serde::Deserialize;
use serde_json::json;

use super::{Account, Carriers, Class, Envelope, Found, Refused, Seen, Sent, Sought};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Resend forgets keys after a day; near its end a repeat could be a second mail.
const KEY_LIVES: chrono::TimeDelta = chrono::TimeDelta::hours(23);

pub(super) async fn send(
    carriers: &Carriers,
    envelope: &Envelope,
    account: &Account,
    deadline: Instant,
) -> Sent {
    match super::certain(
        carriers
            .resend
            .call(call(envelope, account, Some(deadline)))
            .await,
    ) {
        Err(sent) => sent,
        Ok(answer) if answer.status.is_success() => accepted(&answer),
        Ok(answer) => refused(&answer),
    }
}

/// Nothing is asked: the same message can be said again, and Resend gives the id of the mail that there is.
pub(super) fn find(sought: &Sought) -> Found {
    if mainstay_runtime::Clock::system(0).now() < sought.first_tried_at + KEY_LIVES {
        Found::Repeatable
    } else {
        Found::Never
    }
}

/// https://resend.com/docs/api-reference/emails/retrieve-email
pub(super) async fn see(carriers: &Carriers, id: &str, account: &Account) -> Seen {
    let mut call = Call {
        repeat: Repeat::Harmless,
        ..super::once(Method::GET, format!("/emails/{id}"), "/emails/{id}", None)
    };
    authorise(&mut call, account);
    super::seen(carriers.resend.call(call).await, |answer| {
        let mail = super::json::<Retrieved>(answer)?;
        Some(Seen::Stands {
            word: mail.last_event,
            code: None,
            text: None,
        })
    })
}

fn authorise(call: &mut Call, account: &Account) {
    let bearer = format!("Bearer {}", account.credential("api_key"));
    super::with_header(call, header::AUTHORIZATION, &bearer, true);
}

fn call(envelope: &Envelope, account: &Account, deadline: Option<Instant>) -> Call {
    let mail = json!({
        "from": account.sender,
        "to": [envelope.address.as_str()],
        "subject": envelope.subject.as_deref().unwrap_or_default(),
        "text": envelope.body,
        "headers": super::mail_headers(envelope),
        // The same in every try: Resend refuses a key that comes with another mail.
        "tags": [{"name": "message", "value": envelope.message.to_string()}],
    });
    let mut call = Call {
        body: mail.to_string().into(),
        repeat: Repeat::Harmless,
        ..super::once(Method::POST, "/emails".to_owned(), "/emails", deadline)
    };
    super::with_header(&mut call, header::CONTENT_TYPE, "application/json", false);
    super::with_header(
        &mut call,
        IDEMPOTENCY_KEY,
        &envelope.message.to_string(),
        false,
    );
    authorise(&mut call, account);
    call
}

fn accepted(answer: &Answer) -> Sent {
    match super::json::<Mail>(answer) {
        Some(mail) => Sent::Accepted {
            provider_id: mail.id,
        },
        None => Sent::Unknown {
            cause: "Resend's answer has no id".to_owned(),
        },
    }
}

/// https://resend.com/docs/api-reference/errors
fn refused(answer: &Answer) -> Sent {
    let said = super::json::<Error>(answer).unwrap_or_default();
    if said.name.as_deref() == Some("concurrent_idempotent_requests") {
        // The request before this one is under way there: no refusal, and no other provider's turn.
        return Sent::Unknown {
            cause: "Resend has the same mail in hand".to_owned(),
        };
    }
    let class = match (answer.status.as_u16(), said.name.as_deref()) {
        (429, Some("daily_quota_exceeded" | "monthly_quota_exceeded")) => Class::Ours,
        (429, _) => Class::Busy,
        (401 | 403, _) => Class::Ours,
        _ => Class::Message,
    };
    Sent::Refused(Refused {
        class,
        text: said
            .message
            .unwrap_or_else(|| format!("Resend answered {}", answer.status)),
        code: said.name,
        retry_after: super::retry_after(answer),
    })
}

#[derive(Deserialize)]
struct Mail {
    id: String,
}

#[derive(Deserialize)]
struct Retrieved {
    last_event: String,
}

#[derive(Default, Deserialize)]
struct Error {
    name: Option<String>,
    message: Option<String>,
}
