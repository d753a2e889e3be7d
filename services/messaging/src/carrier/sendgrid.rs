//! Mail over SendGrid (https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send), where Resend does not serve.
//! It has no idempotency key; its events carry the try's id back (`custom_args`).
//! Deliberately absent: asking afterwards. Its activity feed is an extra that accounts rarely have.

use std::time::Instant;

use http::{HeaderName, Method, header};
use mainstay_providers::Answer;
use serde::Deserialize;
use serde_json::json;

use super::{Account, Carriers, Class, Envelope, Refused, Sent};

const MESSAGE_ID: HeaderName = HeaderName::from_static("x-message-id");

pub(super) async fn send(
    carriers: &Carriers,
    envelope: &Envelope,
    account: &Account,
    deadline: Instant,
) -> Sent {
    let mail = json!({
        "personalizations": [{"to": [{"email": envelope.address.as_str()}]}],
        "from": from(&account.sender),
        "subject": envelope.subject.as_deref().unwrap_or_default(),
        "content": [{"type": "text/plain", "value": envelope.body}],
        "headers": super::mail_headers(envelope),
        "custom_args": {"attempt": envelope.attempt.to_string()},
    });
    let mut call = super::once(
        Method::POST,
        "/v3/mail/send".to_owned(),
        "/v3/mail/send",
        Some(deadline),
    );
    call.body = mail.to_string().into();
    super::with_header(&mut call, header::CONTENT_TYPE, "application/json", false);
    let bearer = format!("Bearer {}", account.credential("api_key"));
    super::with_header(&mut call, header::AUTHORIZATION, &bearer, true);
    match super::certain(carriers.sendgrid.call(call).await) {
        Err(sent) => sent,
        Ok(answer) if answer.status.is_success() => {
            let id = answer
                .headers
                .get(MESSAGE_ID)
                .and_then(|id| id.to_str().ok());
            match id {
                Some(id) => Sent::Accepted {
                    provider_id: id.to_owned(),
                },
                None => Sent::Unknown {
                    cause: "SendGrid's answer has no X-Message-Id".to_owned(),
                },
            }
        }
        Ok(answer) => Sent::Refused(refused(&answer)),
    }
}

/// `Acme <hello@acme.test>` in SendGrid's two fields.
fn from(sender: &str) -> serde_json::Value {
    match sender.split_once('<') {
        Some((name, mail)) => {
            json!({"name": name.trim(), "email": mail.trim_end_matches('>').trim()})
        }
        None => json!({"email": sender}),
    }
}

fn refused(answer: &Answer) -> Refused {
    let said = super::json::<Errors>(answer)
        .and_then(|errors| errors.errors.into_iter().next())
        .map(|error| error.message);
    Refused {
        class: match answer.status.as_u16() {
            429 => Class::Busy,
            401 | 403 => Class::Ours,
            _ => Class::Message,
        },
        code: Some(answer.status.as_u16().to_string()),
        text: said.unwrap_or_else(|| format!("SendGrid answered {}", answer.status)),
        retry_after: super::retry_after(answer),
    }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Error {
    message: String,
}
