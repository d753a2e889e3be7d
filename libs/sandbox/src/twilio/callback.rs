//! Owns webhooks: the fields that Twilio posts, where they go, how patiently, and what their answers cause.
//!
//! Twilio waits fifteen seconds, and tries once more, at once, if it could not connect. An address may ask for more in
//! its fragment: `#rc=3&rp=all` (`rp`: `ct`, `rt`, `4xx`, `5xx`, `all`, separated by commas).
//!
//! Deliberately absent: fallback addresses, and `GET`.

use std::time::Duration;

use serde_json::Value;

use super::verb::{self, Verb};
use super::{ACCOUNT, API_VERSION, NAME, call, message, number, text, twiml};
use crate::ids;
use crate::store::{Delivery, EventRecord, Tx, World};
use crate::urlencoded;
use crate::webhooks::{Failures, Outcome, Patience, Signer, Target};

const TIMEOUT: Duration = Duration::from_secs(15);
const MOST_RETRIES: u32 = 5;

/// A person's message, at the number's `SmsUrl`: its answer may hold replies.
pub(super) const MESSAGE_RECEIVED: &str = "message.received";
/// A call that comes in, at the number's `VoiceUrl`: its answer ends the ringing.
pub(super) const CALL_RECEIVED: &str = "call.received";
/// How the phone ended that a call was put through to, at `Dial`'s `action`: its answer ends the call.
pub(super) const CALL_DIALED: &str = "call.dialed";

pub(super) type Fields = Vec<(&'static str, String)>;

/// Posts `fields` to `url`, unless there is none.
pub(super) fn post(
    tx: &mut Tx<'_>,
    of: &Value,
    event_type: &str,
    url: Option<&str>,
    fields: &Fields,
) {
    let Some(url) = url.filter(|url| !url.is_empty()) else {
        return;
    };
    let own = |name: &str| of[name].as_str().map(str::to_owned);
    tx.event(EventRecord {
        id: ids::twilio("EV"),
        event_type: event_type.to_owned(),
        created: tx.now,
        recorded: None,
        provider: NAME.to_owned(),
        endpoint: Some(text(of, "account_sid").to_owned()),
        url: Some(url.to_owned()),
        // What an object's later life causes is told as of the request that made it.
        operation: own("_operation").unwrap_or_else(|| tx.origin.operation.clone()),
        traceparent: own("_traceparent").or_else(|| tx.origin.traceparent.clone()),
        body: urlencoded::encode(fields).into(),
    });
}

/// Tells the sender's callback that a message has come to a status.
pub(super) fn message(tx: &mut Tx<'_>, of: &Value, status: &str) {
    let get = |name: &str| text(of, name).to_owned();
    let mut fields: Fields = vec![
        ("SmsSid", get("sid")),
        ("SmsStatus", status.to_owned()),
        ("MessageStatus", status.to_owned()),
        ("To", get("to")),
        ("MessageSid", get("sid")),
        ("AccountSid", get("account_sid")),
        ("From", get("from")),
        ("ApiVersion", API_VERSION.to_owned()),
    ];
    if let Some(service) = of["messaging_service_sid"].as_str() {
        fields.push(("MessagingServiceSid", service.to_owned()));
    }
    if let Some(code) = of["error_code"].as_u64() {
        fields.push(("ErrorCode", code.to_string()));
    }
    let url = of["_callback"].as_str();
    post(tx, of, &format!("message.{status}"), url, &fields);
}

/// Where a delivery goes now, signed with the token that the account has now.
pub(crate) fn target(world: &World, delivery: &Delivery, event: &EventRecord) -> Option<Target> {
    let account = world.get(ACCOUNT, &delivery.endpoint)?;
    let url = event.url.clone()?;
    let patience = patience(&url);
    Some(Target {
        url,
        signer: Signer::Twilio {
            token: text(account, "_token").to_owned(),
        },
        timeout: TIMEOUT,
        patience,
    })
}

fn patience(url: &str) -> Patience {
    let mut retries = 1;
    let mut after = Failures {
        unreachable: true,
        ..Failures::default()
    };
    let wishes = url.split_once('#').map_or("", |(_, wishes)| wishes);
    for (name, value) in wishes.split('&').filter_map(|wish| wish.split_once('=')) {
        match name {
            "rc" => retries = value.parse().unwrap_or(retries).min(MOST_RETRIES),
            "rp" => {
                let has = |kind: &str| value.split(',').any(|one| one == kind || one == "all");
                after = Failures {
                    unreachable: has("ct"),
                    unanswered: has("rt"),
                    refused_4xx: has("4xx"),
                    refused_5xx: has("5xx"),
                };
            }
            _ => {}
        }
    }
    Patience::AtOnce { retries, after }
}

/// What the answer to a webhook causes; for the last time it was tried.
pub(crate) fn answered(tx: &mut Tx<'_>, event: &EventRecord, outcome: &Outcome) {
    let fields = urlencoded::pairs(&event.body).unwrap_or_default();
    let field = |name: &str| {
        let found = fields.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    match event.event_type.as_str() {
        MESSAGE_RECEIVED => {
            let Outcome::Taken {
                content_type,
                body: Some(answer),
            } = outcome
            else {
                return;
            };
            let replies = twiml::replies(content_type, answer);
            let Some(number) = number(tx, field("To")).cloned() else {
                return;
            };
            for reply in &replies {
                message::reply(tx, &number, field("From"), reply);
            }
        }
        CALL_RECEIVED => {
            let verb = match outcome {
                Outcome::Taken {
                    content_type,
                    body: Some(answer),
                } => verb::first(content_type, answer),
                _ => Verb::Other,
            };
            call::taken(tx, field("CallSid"), verb);
        }
        CALL_DIALED => call::put_through(tx, field("CallSid")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (u32, Vec<&'static str>) {
        let Patience::AtOnce { retries, after } = patience(url) else {
            return (0, Vec::new());
        };
        let kinds = [
            ("ct", after.unreachable),
            ("rt", after.unanswered),
            ("4xx", after.refused_4xx),
            ("5xx", after.refused_5xx),
        ];
        let kinds = kinds.into_iter().filter(|(_, on)| *on);
        (retries, kinds.map(|(kind, _)| kind).collect())
    }

    #[test]
    fn the_fragment_of_an_address_asks_for_patience() {
        assert_eq!(read("http://a/b?c=1"), (1, vec!["ct"]));
        assert_eq!(read("http://a/b#rc=3&rp=5xx,rt"), (3, vec!["rt", "5xx"]));
        assert_eq!(
            read("http://a/b#rc=99&rp=all&e=x"),
            (5, vec!["ct", "rt", "4xx", "5xx"])
        );
    }
}
