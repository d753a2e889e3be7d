//! What providers' bodies say, as values. Pure, and lenient: what is not needed is not looked at.
//! Deliberately absent: a decision about it.

use std::collections::BTreeMap;

use mainstay_types::{AttemptId, MessageId};
use serde::Deserialize;

use crate::call::rules::{Standing, told};
use crate::carrier::{Provider, twilio_status};
use crate::message::rules::Status;

/// The parameter in which integrations keeps what our callback's address said.
const ATTEMPT: &str = "MainstayAttempt";

/// Something that somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    /// The provider's id of it.
    pub(super) provider_id: String,
    /// Theirs.
    pub(super) from: String,
    /// Ours.
    pub(super) to: String,
    /// The text.
    pub(super) body: String,
    /// Whether the provider has answered a word like `STOP` itself.
    pub(super) answered_by_provider: bool,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Our try, where the provider says it back.
    pub(super) attempt: Option<AttemptId>,
    /// Whether it says back that the message is ours.
    pub(super) ours: bool,
    /// The provider's id of the message.
    pub(super) provider_id: String,
    /// How it stands now; none when it only proves that it was taken.
    pub(super) status: Option<Status>,
    /// Why it failed.
    pub(super) code: Option<String>,
    /// In words.
    pub(super) text: String,
    /// What it says about the address.
    pub(super) about: About,
}

/// What a word says beyond its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Nothing.
    Message,
    /// The provider's code says it.
    Code,
    /// The address reaches nobody.
    DeadAddress,
    /// The person wants no more.
    OptOut,
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    form_urlencoded::parse(body).into_owned().collect()
}

/// Reads a text that came in over Twilio.
pub(super) fn received(body: &[u8]) -> Result<Received, String> {
    let mut form = form(body);
    let mut take = |name: &str| {
        form.remove(name)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("has no `{name}`"))
    };
    Ok(Received {
        provider_id: take("MessageSid")?,
        from: take("From")?,
        to: take("To")?,
        // A picture alone has no text.
        body: take("Body").unwrap_or_default(),
        answered_by_provider: take("OptOutType").is_ok(),
    })
}

/// What is told of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rang {
    /// The provider's id of it.
    pub(super) provider_id: String,
    /// Theirs, where it is told.
    pub(super) from: Option<String>,
    /// Ours, where it is told.
    pub(super) to: Option<String>,
    /// Whether they called us; of ours nothing is kept here.
    pub(super) inbound: bool,
    /// How it stands; none when it says nothing of that.
    pub(super) word: Option<Standing>,
}

/// Reads a callback of Twilio's about a call: that it came in, how the caller's side stands, or what became of the phone that
/// it was put through to.
pub(super) fn rang(body: &[u8]) -> Result<Rang, String> {
    let form = form(body);
    let text = |name: &str| form.get(name).filter(|text| !text.is_empty()).cloned();
    let dial = text("DialCallStatus");
    let seconds = match &dial {
        Some(_) => text("DialCallDuration"),
        None => text("CallDuration"),
    };
    let seconds = seconds
        .and_then(|seconds| seconds.parse().ok())
        .filter(|seconds: &i32| *seconds >= 0);
    Ok(Rang {
        provider_id: text("CallSid").ok_or("has no `CallSid`")?,
        from: text("From"),
        to: text("To"),
        inbound: text("Direction").is_none_or(|direction| direction == "inbound"),
        word: told(text("CallStatus").as_deref(), dial.as_deref(), seconds),
    })
}

/// Reads what became of a message; none for an event that says nothing about one.
pub(super) fn status(provider: Provider, kind: &str, body: &[u8]) -> Result<Option<Word>, String> {
    match (provider, kind) {
        (Provider::Twilio, "message.status") => twilio(body).map(Some),
        (Provider::Resend, kind) => resend(kind, body),
        (Provider::Sendgrid, kind) => sendgrid(kind, body),
        (Provider::Twilio, _) => Ok(None),
    }
}

/// What a provider that was asked says of a message; none for a word that says nothing about one.
pub(super) fn seen(
    provider: Provider,
    provider_id: &str,
    word: &str,
    code: Option<String>,
    text: Option<String>,
) -> Option<Word> {
    let (status, about) = match provider {
        Provider::Twilio => (twilio_status(word), About::Code),
        // Which kind of bounce it was, only the event says: the address stays as it is.
        Provider::Resend => match resend_event(&format!("email.{word}"))? {
            (status, About::DeadAddress) => (status, About::Message),
            // Who complains of a mail has it.
            (None, about) => (Some(Status::Delivered), about),
            known => known,
        },
        Provider::Sendgrid => return None,
    };
    Some(Word {
        attempt: None,
        ours: true,
        provider_id: provider_id.to_owned(),
        status,
        code,
        text: text.unwrap_or_else(|| word.to_owned()),
        about,
    })
}

fn twilio(body: &[u8]) -> Result<Word, String> {
    let form = form(body);
    let text = |name: &str| form.get(name).filter(|text| !text.is_empty()).cloned();
    let said = text("MessageStatus").ok_or("has no `MessageStatus`")?;
    Ok(Word {
        attempt: text(ATTEMPT).and_then(|id| AttemptId::parse(&id).ok()),
        ours: false,
        provider_id: text("MessageSid").ok_or("has no `MessageSid`")?,
        status: twilio_status(&said),
        code: text("ErrorCode").filter(|code| code != "0"),
        text: text("ErrorMessage").unwrap_or(said),
        about: About::Code,
    })
}

#[derive(Deserialize)]
struct ResendEvent {
    data: ResendMail,
}

#[derive(Deserialize)]
struct ResendMail {
    email_id: String,
    #[serde(default)]
    bounce: Option<ResendBounce>,
    #[serde(default)]
    tags: serde_json::Value,
}

#[derive(Deserialize)]
struct ResendBounce {
    #[serde(default)]
    message: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// https://resend.com/docs/dashboard/webhooks/event-types
fn resend_event(kind: &str) -> Option<(Option<Status>, About)> {
    Some(match kind {
        "email.sent" => (Some(Status::Sent), About::Message),
        "email.delivered" => (Some(Status::Delivered), About::Message),
        "email.opened" | "email.clicked" => (Some(Status::Read), About::Message),
        "email.bounced" => (Some(Status::Undelivered), About::DeadAddress),
        "email.failed" => (Some(Status::Failed), About::Message),
        "email.complained" => (None, About::OptOut),
        _ => return None,
    })
}

fn resend(kind: &str, body: &[u8]) -> Result<Option<Word>, String> {
    let Some((status, about)) = resend_event(kind) else {
        return Ok(None);
    };
    let event: ResendEvent = serde_json::from_slice(body)
        .map_err(|error| format!("is no event of Resend's: {error}"))?;
    let bounce = event.data.bounce;
    // A full mailbox empties; an address that does not exist stays so.
    let passes = bounce
        .as_ref()
        .and_then(|bounce| bounce.kind.as_deref())
        .is_some_and(|kind| kind.eq_ignore_ascii_case("transient"));
    Ok(Some(Word {
        attempt: None,
        ours: MessageId::parse(event.data.tags["message"].as_str().unwrap_or_default()).is_ok(),
        provider_id: event.data.email_id,
        status,
        code: None,
        text: bounce
            .and_then(|bounce| bounce.message)
            .unwrap_or_else(|| kind.to_owned()),
        about: match about {
            About::DeadAddress if passes => About::Message,
            about => about,
        },
    }))
}

#[derive(Deserialize)]
struct SendgridEvent {
    #[serde(default)]
    sg_message_id: Option<String>,
    #[serde(default)]
    attempt: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
fn sendgrid(kind: &str, body: &[u8]) -> Result<Option<Word>, String> {
    let (status, about) = match kind {
        "email.processed" => (Some(Status::Sent), About::Message),
        "email.delivered" => (Some(Status::Delivered), About::Message),
        "email.open" => (Some(Status::Read), About::Message),
        "email.bounce" => (Some(Status::Undelivered), About::DeadAddress),
        "email.dropped" => (Some(Status::Failed), About::Message),
        "email.spamreport" | "email.unsubscribe" | "email.group_unsubscribe" => {
            (None, About::OptOut)
        }
        _ => return Ok(None),
    };
    let event: SendgridEvent = serde_json::from_slice(body)
        .map_err(|error| format!("is no event of SendGrid's: {error}"))?;
    // `14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0`: what stands before the first point was answered at sending.
    let id = event.sg_message_id.unwrap_or_default();
    let id = id.split('.').next().unwrap_or_default().to_owned();
    Ok(Some(Word {
        attempt: event
            .attempt
            .and_then(|attempt| AttemptId::parse(&attempt).ok()),
        ours: false,
        provider_id: id,
        status,
        code: event.status,
        text: event.reason.unwrap_or_else(|| kind.to_owned()),
        about: match (about, event.kind.as_deref()) {
            // The mail was turned away, not the address.
            (About::DeadAddress, Some("blocked")) => About::Message,
            (about, _) => about,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_and_its_status_are_read_as_twilio_sends_them() {
        let body =
            b"MessageSid=SM1&From=%2B15125550123&To=%2B15125550100&Body=Hi+there&NewParameter=x";
        let said = received(body).expect("a text");
        assert_eq!(
            (said.from.as_str(), said.body.as_str()),
            ("+15125550123", "Hi there")
        );
        assert!(!said.answered_by_provider);
        let stop =
            b"MessageSid=SM1&From=%2B15125550123&To=%2B15125550100&Body=STOP&OptOutType=STOP";
        assert!(received(stop).expect("a text").answered_by_provider);
        assert_eq!(received(b"From=x"), Err("has no `MessageSid`".to_owned()));

        let attempt = AttemptId::generate();
        let body = format!(
            "MessageSid=SM1&MessageStatus=undelivered&ErrorCode=30005&MainstayAttempt={attempt}"
        );
        let word = status(Provider::Twilio, "message.status", body.as_bytes())
            .expect("readable")
            .expect("a word");
        assert_eq!(word.attempt, Some(attempt));
        assert_eq!(
            (word.status, word.code.as_deref()),
            (Some(Status::Undelivered), Some("30005"))
        );
    }

    #[test]
    fn mail_of_ours_is_known_by_its_tag() {
        let told = |tags: &str| {
            let body =
                format!(r#"{{"type":"email.sent","data":{{"email_id":"re_1","tags":{tags}}}}}"#);
            let word = status(Provider::Resend, "email.sent", body.as_bytes());
            word.expect("readable").expect("a word").ours
        };
        assert!(told(&format!(
            r#"{{"message":"{}"}}"#,
            MessageId::generate()
        )));
        for others in [r#"{"message":"x"}"#, r#"{"category":"news"}"#, "[]", "null"] {
            assert!(!told(others), "{others}");
        }
    }

    #[test]
    fn a_call_is_read_from_either_of_its_sides() {
        let body = b"CallSid=CA1&From=%2B15125550123&To=%2B15125550100&Direction=inbound&CallStatus=in-progress\
                     &DialCallStatus=no-answer&DialCallSid=CA2&CallDuration=30";
        let rang = rang(body).expect("a call");
        let word = rang.word.expect("a word");
        assert_eq!(
            (word.status.as_str(), word.settled, word.seconds),
            ("missed", true, None),
            "the other side's word and time, not the caller's"
        );
        assert!(rang.inbound);
        let ours = super::rang(b"CallSid=CA1&Direction=outbound-api").expect("a call");
        assert!(!ours.inbound && ours.word.is_none());
        assert!(super::rang(b"CallStatus=completed").is_err());
    }

    #[test]
    fn mail_that_bounced_for_good_says_that_its_address_is_dead() {
        let bounced = |kind: &str| {
            let body = format!(
                r#"{{"type":"email.bounced","data":{{"email_id":"re_1","bounce":{{"type":"{kind}","message":"no"}}}}}}"#
            );
            let word = status(Provider::Resend, "email.bounced", body.as_bytes());
            word.expect("readable").expect("a word").about
        };
        assert_eq!(bounced("Permanent"), About::DeadAddress);
        assert_eq!(bounced("Transient"), About::Message);
        let sendgrid = br#"{"event":"bounce","type":"blocked","sg_message_id":"abc.filter0001","attempt":"att_x"}"#;
        let word = status(Provider::Sendgrid, "email.bounce", sendgrid);
        let word = word.expect("readable").expect("a word");
        assert_eq!(
            (word.provider_id.as_str(), word.about),
            ("abc", About::Message)
        );
        assert_eq!(word.attempt, None, "what is no id of a try is none");
    }

    proptest! {
        #[test]
        fn no_body_makes_a_reader_panic(body: Vec<u8>, kind in "[a-z.]{0,20}") {
            let _ = received(&body);
            let _ = rang(&body);
            for provider in Provider::ALL {
                let _ = status(provider, &kind, &body);
                let _ = status(provider, "email.bounced", &body);
                let _ = status(provider, "message.status", &body);
            }
        }
    }
}
