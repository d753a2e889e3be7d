//! Owns what Twilio does by itself with STOP, START and HELP, as it does for every long code: the list of those who are
//! not written to (error 21610), and its own replies.
//!
//! ```text
//! may be written to ── STOP, once confirmed ──▶ unsubscribed ── START, UNSTOP, YES, once confirmed ──▶ may be written to
//! ```
//!
//! The list belongs to the number, or to the messaging service if the number is in one.
//!
//! Deliberately absent: words inside a sentence. "stop please" stops nothing here, as at Twilio.

use serde_json::{Value, json};

use super::{NAME, OPT_OUT, text};
use crate::ids;
use crate::messages::{self, DeliveredMessage};
use crate::store::Tx;

const STOP: [&str; 8] = [
    "STOP",
    "STOPALL",
    "UNSUBSCRIBE",
    "CANCEL",
    "END",
    "QUIT",
    "REVOKE",
    "OPTOUT",
];
const START: [&str; 2] = ["START", "UNSTOP"];
/// Means START only from somebody who had stopped; to others it is a word.
const YES: &str = "YES";
const HELP: [&str; 2] = ["HELP", "INFO"];

const STOPPED: &str = "You have successfully been unsubscribed. You will not receive any more messages from this number. \
                       Reply START to resubscribe.";
const STARTED: &str = "You have successfully been re-subscribed to messages from this number. Reply HELP for help. Reply \
                       STOP to unsubscribe. Msg&Data Rates May Apply.";
const HELPED: &str = "Reply STOP to unsubscribe. Msg&Data Rates May Apply.";

/// Who may not be written to by whom.
fn id(number: &Value, person: &str) -> String {
    let owner = number["_service"].as_str();
    format!("{}|{person}", owner.unwrap_or(text(number, "phone_number")))
}

pub(super) fn has_stopped(tx: &Tx<'_>, number: &Value, person: &str) -> bool {
    tx.get(OPT_OUT, &id(number, person)).is_some()
}

/// Does what the words ask for, and says what they were: `STOP`, `START` or `HELP`.
pub(super) fn heed(
    tx: &mut Tx<'_>,
    number: &Value,
    person: &str,
    words: &str,
) -> Option<&'static str> {
    let words = words.trim().to_ascii_uppercase();
    let words = words.as_str();
    let stopped = has_stopped(tx, number, person);
    if STOP.contains(&words) {
        if !stopped {
            tx.put(OPT_OUT, json!({ "id": id(number, person) }));
            confirm(tx, number, person, STOPPED);
        }
        return Some("STOP");
    }
    if START.contains(&words) || (words == YES && stopped) {
        if stopped {
            tx.delete(OPT_OUT, &id(number, person));
            confirm(tx, number, person, STARTED);
        }
        return Some("START");
    }
    if HELP.contains(&words) {
        if !stopped {
            confirm(tx, number, person, HELPED);
        }
        return Some("HELP");
    }
    None
}

/// Twilio's own words reach the person, and are no message in the account's list.
fn confirm(tx: &mut Tx<'_>, number: &Value, person: &str, words: &str) {
    let message = DeliveredMessage {
        provider: NAME.to_owned(),
        channel: "sms".to_owned(),
        from: text(number, "phone_number").to_owned(),
        to: person.to_owned(),
        body: words.to_owned(),
        sid: ids::twilio("SM"),
        at: tx.now,
        subject: None,
    };
    messages::deliver(tx, &message);
}
