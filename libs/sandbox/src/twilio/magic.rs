//! Owns the numbers that fail on purpose: Twilio's own, as its test credentials have them, and the simulator's.
//!
//! Twilio's, refused when the message or call is created:
//!
//! | number | as receiver of a message | as its sender | as receiver of a call | as its sender |
//! |---|---|---|---|---|
//! | +15005550001 | 21211 invalid | 21212 invalid | 21217 invalid | 21212 invalid |
//! | +15005550002 | 21612 no route | | 21214 no route | |
//! | +15005550003 | 21408 no permission | | 21215 no permission | |
//! | +15005550004 | 21610 unsubscribed | | 21216 blocked | |
//! | +15005550006 | | may always send | | may always call |
//! | +15005550007 | | 21606 not owned | | |
//! | +15005550008 | | 21611 queue full | | |
//! | +15005550009 | 21614 not a mobile | | | |
//!
//! The simulator's: what is sent to +15005553XYZ is accepted and ends with error 30XYZ, for the codes in `LATER`;
//! what is sent to +15005553000 stays `sent`, because its carrier tells nothing. A call to +15005553100 is busy, to
//! +15005553101 not answered, to +15005553102 fails, to +15005553103 is answered by a machine.
//!
//! Deliberately absent: chance. Which number fails is the caller's choice.

use super::errors::error;
use crate::door::Reply;

/// Always a sender, whoever asks.
pub(super) const ANYONES: &str = "+15005550006";

/// Twilio's magic senders begin like this; which of them may send, `refuse_message` says.
pub(super) const SENDERS: &str = "+1500555000";

const PREFIX: &str = "+15005553";

/// Codes that a message may end with: the code, its text, whether it failed before it left.
const LATER: [(u32, &str, bool); 11] = [
    (30001, "Queue overflow", true),
    (30002, "Account suspended", true),
    (30003, "Unreachable destination handset", false),
    (30004, "Message blocked", false),
    (30005, "Unknown destination handset", false),
    (30006, "Landline or unreachable carrier", false),
    (30007, "Message filtered", false),
    (30008, "Unknown error", false),
    (
        30034,
        "US A2P 10DLC - Message from an Unregistered Number",
        false,
    ),
    (30036, "Validity Period Expired", true),
    (30410, "Provider Timeout Error", true),
];

/// What becomes of a message that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    /// The carrier took it and says no more.
    Silence,
    Undelivered(u32, &'static str),
    /// It never left Twilio.
    Failed(u32, &'static str),
}

pub(super) fn fate(to: &str) -> Fate {
    let Some(digits) = to.strip_prefix(PREFIX).filter(|digits| digits.len() == 3) else {
        return Fate::Delivered;
    };
    if digits == "000" {
        return Fate::Silence;
    }
    let code = 30_000 + digits.parse::<u32>().unwrap_or_default();
    let known = LATER.iter().find(|(known, ..)| *known == code);
    match known {
        Some((code, text, true)) => Fate::Failed(*code, text),
        Some((code, text, false)) => Fate::Undelivered(*code, text),
        None => Fate::Delivered,
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    Person,
    Machine,
    Unanswered(&'static str),
}

pub(super) fn ring(to: &str) -> Ring {
    match to.strip_prefix(PREFIX) {
        Some("100") => Ring::Unanswered("busy"),
        Some("101") => Ring::Unanswered("no-answer"),
        Some("102") => Ring::Unanswered("failed"),
        Some("103") => Ring::Machine,
        _ => Ring::Person,
    }
}

pub(super) fn refuse_message(from: &str, to: &str) -> Result<(), Reply> {
    let (code, message) = match (from, to) {
        ("+15005550001", _) => (21212, invalid_from(from)),
        ("+15005550008", _) => (
            21611,
            format!("This 'From' number {from} has exceeded the maximum number of queued messages"),
        ),
        (_, "+15005550001") => (21211, invalid_to(to)),
        (_, "+15005550002") => (
            21612,
            format!(
                "The 'To' phone number: {to}, is not currently reachable using the 'From' phone number: {from} via SMS."
            ),
        ),
        (_, "+15005550003") => (
            21408,
            format!(
                "Permission to send an SMS has not been enabled for the region indicated by the 'To' number: {to}"
            ),
        ),
        (_, "+15005550004") => (21610, UNSUBSCRIBED.to_owned()),
        (_, "+15005550009") => (
            21614,
            format!("'To' number {to} is not a valid mobile number"),
        ),
        (ANYONES, _) => return Ok(()),
        (other, _) if other.starts_with(SENDERS) => (21606, not_owned(from)),
        _ => return Ok(()),
    };
    Err(error(400, code, message))
}

pub(super) fn refuse_call(from: &str, to: &str) -> Result<(), Reply> {
    let (code, message) = match (from, to) {
        ("+15005550001", _) => (21212, format!("The 'From' number {from} is invalid.")),
        (_, "+15005550001") => (
            21217,
            format!("Phone number {to} does not appear to be valid."),
        ),
        (_, "+15005550002") => (21214, format!("'To' phone number {to} cannot be reached")),
        (_, "+15005550003") => (
            21215,
            format!(
                "Account not authorized to call {to}. Perhaps you need to enable some international permissions"
            ),
        ),
        (_, "+15005550004") => (
            21216,
            format!("Account not allowed to call phone number {to}"),
        ),
        _ => return Ok(()),
    };
    Err(error(400, code, message))
}

pub(super) const UNSUBSCRIBED: &str = "Attempt to send to unsubscribed recipient";

pub(super) fn invalid_to(to: &str) -> String {
    format!("The 'To' number {to} is not a valid phone number.")
}

pub(super) fn invalid_from(from: &str) -> String {
    format!(
        "The 'From' number {from} is not a valid phone number, shortcode, or alphanumeric sender ID."
    )
}

pub(super) fn not_owned(from: &str) -> String {
    format!(
        "The 'From' phone number provided ({from}) is not a valid message-capable Twilio phone number for this destination/account"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_digits_of_a_number_say_the_code() {
        for (to, fate_of_it) in [
            ("+15125550123", Fate::Delivered),
            ("+15005553000", Fate::Silence),
            ("+15005553001", Fate::Failed(30001, "Queue overflow")),
            ("+15005553007", Fate::Undelivered(30007, "Message filtered")),
            ("+15005553999", Fate::Delivered),
            ("+150055530070", Fate::Delivered),
        ] {
            assert_eq!(fate(to), fate_of_it, "{to}");
        }
        assert_eq!(ring("+15005553101"), Ring::Unanswered("no-answer"));
        assert_eq!(ring("+15125550123"), Ring::Person);
    }
}
