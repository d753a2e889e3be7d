//! Owns messages: their making, their way to the person, and the list by which a lost answer is looked for.
//!
//! ```text
//! API: queued (accepted, through a messaging service) ─▶ sending ─▶ sent ─▶ delivered | undelivered
//!        └▶ failed: it never left
//! TwiML: queued ─▶ …the same.   A person's: received.
//! ```
//!
//! The answer says `queued`; what follows happens at once behind it, in one step, with a callback for each status but the
//! first and `sending`.
//!
//! Deliberately absent: an idempotency key. Twilio has none, and that is what its callers must live with.

use serde_json::{Value, json};

use super::dates::Dates;
use super::errors::{error, invalid};
use super::magic::{self, Fate};
use super::params::Params;
use super::{
    API_VERSION, MESSAGE, NAME, NUMBER, callback, find, invalid_url, is_e164, is_url, opt_out,
    page, rfc2822, sid, text, twiml, uri,
};
use crate::door::{Call, Operation, Reply};
use crate::ids;
use crate::messages::{self, DeliveredMessage};
use crate::store::{By, Tx};

const LONGEST_BODY: usize = 1_600;
const MOST_MEDIA: usize = 10;
const LONGEST_VALIDITY_SECONDS: u32 = 36_000;

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "POST",
        path: "/2010-04-01/Accounts/{AccountSid}/Messages.json",
        name: "messages.create",
        run: create,
    },
    Operation {
        method: "GET",
        path: "/2010-04-01/Accounts/{AccountSid}/Messages.json",
        name: "messages.list",
        run: list,
    },
    Operation {
        method: "GET",
        path: "/2010-04-01/Accounts/{AccountSid}/Messages/{Sid}.json",
        name: "messages.fetch",
        run: |tx, call| Ok(Reply::json(200, find(tx, call, MESSAGE)?)),
    },
];

/// What a message is made of.
pub(super) struct Draft<'a> {
    pub account: &'a str,
    pub direction: &'a str,
    pub status: &'a str,
    pub from: &'a str,
    pub to: &'a str,
    pub body: &'a str,
    pub media: usize,
    pub service: Option<&'a str>,
    pub callback: Option<&'a str>,
}

pub(super) fn make(tx: &Tx<'_>, draft: &Draft<'_>) -> Value {
    let id = ids::twilio(if draft.media > 0 { "MM" } else { "SM" });
    let resource = format!("Messages/{id}");
    let media = uri(draft.account, &format!("{resource}/Media"));
    json!({
        "account_sid": draft.account,
        "api_version": API_VERSION,
        "body": draft.body,
        "date_created": rfc2822(tx.now),
        "date_sent": null,
        "date_updated": rfc2822(tx.now),
        "direction": draft.direction,
        "error_code": null,
        "error_message": null,
        "from": draft.from,
        "messaging_service_sid": draft.service,
        "num_media": draft.media.to_string(),
        "num_segments": segments(draft.body).to_string(),
        "price": null,
        "price_unit": "USD",
        "sid": id,
        "status": draft.status,
        "subresource_uris": { "media": media },
        "to": draft.to,
        "uri": uri(draft.account, &resource),
        "_created": tx.now,
        "_sent": null,
        "_callback": draft.callback,
        "_operation": tx.origin.operation,
        "_traceparent": tx.origin.traceparent,
    })
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let params = Params::body(call.request)?;
    let to = params
        .get("To")
        .ok_or_else(|| error(400, 21604, "A 'To' phone number is required."))?;
    let (body, media) = (
        params.get("Body").unwrap_or_default(),
        params.all("MediaUrl"),
    );
    check_content(body, &media)?;
    let validity = params.get("ValidityPeriod").map(str::parse::<u32>);
    if validity.is_some_and(|v| !v.is_ok_and(|v| (1..=LONGEST_VALIDITY_SECONDS).contains(&v))) {
        return Err(invalid(format!(
            "ValidityPeriod must be from 1 to {LONGEST_VALIDITY_SECONDS} seconds"
        )));
    }
    let callback = params.get("StatusCallback");
    if let Some(url) = callback.filter(|url| !is_url(url)) {
        return Err(invalid_url("StatusCallback", url));
    }
    let service = params.get("MessagingServiceSid");
    let sender = sender(tx, call, params.get("From"), service, to)?;
    let from = text(&sender, "phone_number");
    if from == to {
        return Err(error(
            400,
            21266,
            format!("'To' and 'From' number cannot be the same: {to}"),
        ));
    }
    magic::refuse_message(from, to)?;
    if !is_e164(to) {
        return Err(error(400, 21211, magic::invalid_to(to)));
    }
    if opt_out::has_stopped(tx, &sender, to) {
        return Err(error(400, 21610, magic::UNSUBSCRIBED));
    }
    let draft = Draft {
        account: sid(call.account),
        direction: "outbound-api",
        status: if service.is_some() {
            "accepted"
        } else {
            "queued"
        },
        from,
        to,
        body,
        media: media.len(),
        service,
        callback,
    };
    let mut message = make(tx, &draft);
    message["_due_at"] = json!(tx.now);
    tx.put(MESSAGE, message.clone());
    tracing::Span::current().record("id", sid(&message));
    if service.is_some() {
        // The service has not chosen yet.
        message["from"] = Value::Null;
    }
    Ok(Reply::json(201, &message))
}

fn check_content(body: &str, media: &[&str]) -> Result<(), Reply> {
    if body.is_empty() && media.is_empty() {
        return Err(error(400, 21602, "Message body is required."));
    }
    if body.chars().count() > LONGEST_BODY {
        return Err(error(
            400,
            21617,
            "The concatenated message body exceeds the 1600 character limit",
        ));
    }
    if media.len() > MOST_MEDIA {
        return Err(error(
            400,
            21623,
            "Number of media files exceeds allowed limit",
        ));
    }
    if media.iter().any(|url| !is_url(url)) {
        return Err(error(400, 21620, "Invalid media URL(s)"));
    }
    Ok(())
}

/// The number that sends: the one that was named, or one of the service's, rather the one that spoke last with `to`.
fn sender(
    tx: &Tx<'_>,
    call: &Call<'_>,
    from: Option<&str>,
    service: Option<&str>,
    to: &str,
) -> Result<Value, Reply> {
    let account = &call.account["sid"];
    let own = |number: &Value| number["account_sid"] == *account;
    let Some(service) = service else {
        let from = from.ok_or_else(|| error(400, 21603, "A 'From' phone number is required."))?;
        let by = By::field("phone_number", from);
        let found = tx.select(NUMBER, by.as_ref(), own).into_iter().next();
        let anyones = from.starts_with(magic::SENDERS);
        return match found {
            Some(number) => Ok(number.clone()),
            None if anyones => Ok(json!({ "phone_number": from, "account_sid": account })),
            None if !is_e164(from) => Err(error(400, 21212, magic::invalid_from(from))),
            None => Err(error(400, 21606, magic::not_owned(from))),
        };
    };
    let pool = tx.newest_first(NUMBER, |number| {
        own(number) && number["_service"] == service
    });
    if pool.is_empty() {
        let message = format!("The Messaging Service Sid {service} is invalid.");
        return Err(error(400, 21705, message));
    }
    if let Some(from) = from {
        let named = pool.iter().find(|number| number["phone_number"] == from);
        let message = "The 'From' number is not in the Messaging Service's Sender Pool";
        return named
            .map(|number| (*number).clone())
            .ok_or_else(|| error(400, 21712, message));
    }
    let by = By::field("to", to);
    let last = tx.world().newest_first(MESSAGE, by.as_ref(), None);
    let spoke = last
        .map(|(_, message)| message)
        .find_map(|message| pool.iter().find(|n| n["phone_number"] == message["from"]));
    // The oldest number of the service where nobody has spoken yet.
    let chosen = spoke.or(pool.last()).copied();
    Ok(chosen.cloned().unwrap_or_default())
}

/// What happens behind the answer, all the way.
pub(super) fn due(tx: &mut Tx<'_>, mut message: Value) {
    if message["status"] == "accepted" {
        callback::message(tx, &message, "queued");
    }
    let to = text(&message, "to").to_owned();
    message["date_updated"] = json!(rfc2822(tx.now));
    let fail = |message: &mut Value, status: &str, code: u32, why: &str| {
        message["status"] = json!(status);
        message["error_code"] = json!(code);
        message["error_message"] = json!(why);
    };
    let fate = magic::fate(&to);
    if let Fate::Failed(code, why) = fate {
        fail(&mut message, "failed", code, why);
        callback::message(tx, &message, "failed");
        tx.put(MESSAGE, message);
        return;
    }
    message["status"] = json!("sent");
    message["date_sent"] = json!(rfc2822(tx.now));
    message["_sent"] = json!(tx.now);
    callback::message(tx, &message, "sent");
    match fate {
        Fate::Undelivered(code, why) => {
            fail(&mut message, "undelivered", code, why);
            callback::message(tx, &message, "undelivered");
        }
        Fate::Silence | Fate::Failed(..) => {}
        Fate::Delivered => {
            message["status"] = json!("delivered");
            callback::message(tx, &message, "delivered");
            let delivered = DeliveredMessage {
                provider: NAME.to_owned(),
                channel: "sms".to_owned(),
                from: text(&message, "from").to_owned(),
                to,
                body: text(&message, "body").to_owned(),
                sid: sid(&message).to_owned(),
                at: tx.now,
                subject: None,
            };
            messages::deliver(tx, &delivered);
        }
    }
    tx.put(MESSAGE, message);
}

/// Sends what a webhook's TwiML said, from the number that was written to, unless the person does not want it.
pub(super) fn reply(tx: &mut Tx<'_>, number: &Value, person: &str, reply: &twiml::Reply) {
    let to = reply.to.as_deref().unwrap_or(person);
    let from = text(number, "phone_number");
    let sendable = is_e164(to)
        && !opt_out::has_stopped(tx, number, to)
        && magic::refuse_message(from, to).is_ok()
        && reply.body.chars().count() <= LONGEST_BODY;
    if !sendable {
        return;
    }
    let callback = reply.status_callback.as_deref();
    let draft = Draft {
        account: text(number, "account_sid"),
        direction: "outbound-reply",
        status: "queued",
        from,
        to,
        body: &reply.body,
        media: reply.media.len(),
        service: number["_service"].as_str(),
        callback: callback.filter(|url| is_url(url)),
    };
    let mut message = make(tx, &draft);
    message["_due_at"] = json!(tx.now);
    tx.put(MESSAGE, message);
}

fn list(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let params = Params::query(call.request)?;
    let (to, from) = (params.get("To"), params.get("From"));
    let on = Dates::read(&params, "DateSent")?;
    let by = to.and_then(|to| By::field("to", to));
    page::list(tx, call, (MESSAGE, "messages"), by.as_ref(), |message| {
        to.is_none_or(|to| message["to"] == to)
            && from.is_none_or(|from| message["from"] == from)
            && on.have(message["_sent"].as_i64())
    })
}

/// How many text messages a body is: 160 letters of GSM 03.38 or 70 others in one, 153 or 67 in each of several.
pub(super) fn segments(body: &str) -> usize {
    const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüàÆæßÉ";
    const TWICE: &str = "\u{c}^{}\\[~]|€";
    let gsm = body.chars().try_fold(0, |units, c| {
        if GSM.contains(c) {
            Some(units + 1)
        } else {
            TWICE.contains(c).then_some(units + 2)
        }
    });
    let (units, alone, each) = match gsm {
        Some(units) => (units, 160, 153),
        None => (body.encode_utf16().count(), 70, 67),
    };
    if units <= alone {
        1
    } else {
        units.div_ceil(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_many_messages_as_its_letters_need() {
        for (body, expected) in [
            (String::new(), 1),
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("€".repeat(80), 1),
            ("€".repeat(81), 2),
            ("☺".repeat(70), 1),
            ("☺".repeat(71), 2),
            ("😀".repeat(68), 3),
        ] {
            assert_eq!(segments(&body), expected, "{body}");
        }
    }
}
