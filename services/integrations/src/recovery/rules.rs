//! What of that which Twilio has was never told here, and the webhook that would have told it. Pure.
//! Deliberately absent: calls whose callbacks were lost after they had been put through; only the other side's own call knows
//! whether somebody answered.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::twilio::{Call, Message, Number};

pub(super) const PROVIDER: &str = "twilio";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// How far messages are looked at again: they may be listed a little after they were sent, and clocks differ.
pub(super) const MESSAGES_AGAIN: TimeDelta = TimeDelta::hours(1);
/// The same of calls, which are told of when they have ended: the longest that Twilio lets one take
/// (https://www.twilio.com/docs/voice/api/call-resource).
pub(super) const CALLS_AGAIN: TimeDelta = TimeDelta::hours(4);

/// How far Twilio's clock, which knows seconds, may lie behind ours.
const SKEW: TimeDelta = TimeDelta::minutes(1);

/// What is looked at, by the world's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// When the account was connected. What was before was nobody's here.
    pub(super) from: DateTime<Utc>,
    /// Until where it was looked at before.
    pub(super) read_through: DateTime<Utc>,
    /// What is newer may be on its way still.
    pub(super) until: DateTime<Utc>,
}

impl Window {
    /// From when, with what is looked at again.
    pub(super) fn since(&self, again: TimeDelta) -> DateTime<Utc> {
        (self.read_through - again).max(self.from - SKEW)
    }

    fn has(&self, at: DateTime<Utc>, again: TimeDelta) -> bool {
        (self.since(again)..=self.until).contains(&at)
    }
}

/// What of a number's is told here. A number that tells somebody else is somebody else's to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hears {
    pub(super) messages: bool,
    pub(super) calls: bool,
    pub(super) call_status: bool,
}

/// Whether a number's addresses are those of this account.
pub(super) fn hears(number: &Number, endpoint_token: &str) -> Hears {
    let ours = format!("/webhooks/twilio/{endpoint_token}/");
    let names = |url: &Option<String>| {
        let url = url.as_deref().unwrap_or_default();
        !endpoint_token.is_empty() && url.contains(&ours)
    };
    Hears {
        messages: names(&number.sms_url),
        calls: names(&number.voice_url),
        call_status: names(&number.status_callback),
    }
}

/// A webhook as it would have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Webhook {
    pub(super) key: String,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

/// Something that a webhook should have told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missed {
    /// When they did.
    at: DateTime<Utc>,
    /// Who wrote or rang.
    from: String,
    /// What tells of the thing itself, if that is not what is missing: a call that is known came in.
    begun: Option<String>,
    /// What it says where not even that is known.
    unheard: Webhook,
    /// What it says else; none where nobody is to be told.
    heard: Option<Webhook>,
}

impl Missed {
    /// What the inbox is asked for.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let begun = self.begun.as_deref();
        begun
            .into_iter()
            .chain(std::iter::once(self.unheard.key.as_str()))
    }

    /// The webhook that is missing, if one is.
    fn missing(&self, known: &HashSet<String>) -> Option<Webhook> {
        if known.contains(&self.unheard.key) {
            return None;
        }
        match &self.begun {
            Some(begun) if known.contains(begun) => self.heard.clone(),
            _ => Some(self.unheard.clone()),
        }
    }
}

/// What people wrote.
pub(super) fn messages(listed: Vec<Message>, window: &Window) -> Vec<Missed> {
    let newest_first = listed
        .into_iter()
        .filter(|message| message.direction.as_deref() == Some("inbound"))
        .filter_map(|message| {
            let at = message.at().filter(|at| window.has(*at, MESSAGES_AGAIN))?;
            let (from, to) = (
                message.from.unwrap_or_default(),
                message.to.unwrap_or_default(),
            );
            let body = form(&[
                ("MessageSid", &message.sid),
                ("SmsSid", &message.sid),
                ("AccountSid", &message.account_sid),
                ("From", &from),
                ("To", &to),
                ("Body", message.body.as_deref().unwrap_or_default()),
                ("NumMedia", message.num_media.as_deref().unwrap_or("0")),
                ("SmsStatus", "received"),
            ]);
            let unheard = Webhook {
                key: message.sid,
                kind: "message.received",
                body,
            };
            Some(Missed {
                at,
                from,
                begun: None,
                unheard,
                heard: None,
            })
        });
    newest_first.collect()
}

/// Who rang. `told` is whether the number tells how calls end.
pub(super) fn calls(listed: Vec<Call>, window: &Window, told: bool) -> Vec<Missed> {
    let newest_first = listed
        .into_iter()
        .filter(|call| call.direction.as_deref() == Some("inbound"))
        .filter_map(|call| {
            let at = call.at().filter(|at| window.has(*at, CALLS_AGAIN))?;
            let status = call.status.as_deref().filter(|status| has_ended(status))?;
            let key = format!("{}/{status}", call.sid);
            let from = call.from.clone().unwrap_or_default();
            let webhook = |status: &str| Webhook {
                key: key.clone(),
                kind: "call.status",
                body: form(&[
                    ("CallSid", &call.sid),
                    ("AccountSid", &call.account_sid),
                    ("From", &from),
                    ("To", call.to.as_deref().unwrap_or_default()),
                    ("Direction", "inbound"),
                    ("CallStatus", status),
                    ("CallDuration", call.duration.as_deref().unwrap_or("0")),
                ]),
            };
            // Nobody here was asked where to put it through: whoever rang heard that something failed, and was talked with
            // by nobody, which Twilio calls completed.
            let unheard = webhook(if status == "completed" {
                "failed"
            } else {
                status
            });
            Some(Missed {
                at,
                heard: told.then(|| webhook(status)),
                begun: Some(call.sid.clone()),
                unheard,
                from,
            })
        });
    newest_first.collect()
}

fn has_ended(status: &str) -> bool {
    ["completed", "busy", "no-answer", "failed", "canceled"].contains(&status)
}

/// What is missing of that which was listed newest first, by turns: of each person one at a turn, in the order in which they
/// wrote and rang.
pub(super) fn in_turn(told: &[Missed], known: &HashSet<String>) -> Vec<(i32, Vec<Webhook>)> {
    let mut oldest_first: Vec<&Missed> = told.iter().rev().collect();
    // Seconds are all that is told: what shares one stays as it was listed.
    oldest_first.sort_by_key(|one| one.at);
    let mut turns: Vec<(i32, Vec<Webhook>)> = Vec::new();
    let mut next: HashMap<&str, usize> = HashMap::new();
    for one in oldest_first {
        let Some(webhook) = one.missing(known) else {
            continue;
        };
        let turn = next.entry(&one.from).or_default();
        match turns.get_mut(*turn) {
            Some((_, webhooks)) => webhooks.push(webhook),
            None => turns.push((i32::try_from(*turn).unwrap_or(i32::MAX), vec![webhook])),
        }
        *turn += 1;
    }
    turns
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        let at = |time: &str| format!("2026-06-01T{time}Z").parse().expect("a time");
        Window {
            from: at("08:00:00"),
            read_through: at("12:00:00"),
            until: at("12:05:00"),
        }
    }

    fn message(sid: &str, from: &str, time: &str) -> Message {
        Message {
            sid: sid.to_owned(),
            account_sid: "AC1".to_owned(),
            from: Some(from.to_owned()),
            to: Some("+15125550100".to_owned()),
            body: Some(format!("{sid} & more")),
            direction: Some("inbound".to_owned()),
            num_media: None,
            date_sent: Some(format!("Mon, 01 Jun 2026 {time} +0000")),
            date_created: None,
        }
    }

    fn call(sid: &str, status: &str, time: &str) -> Call {
        Call {
            sid: sid.to_owned(),
            account_sid: "AC1".to_owned(),
            from: Some("+15125550123".to_owned()),
            to: Some("+15125550100".to_owned()),
            direction: Some("inbound".to_owned()),
            status: Some(status.to_owned()),
            duration: Some("7".to_owned()),
            start_time: Some(format!("Mon, 01 Jun 2026 {time} +0000")),
            date_created: None,
        }
    }

    fn missing(told: &[Missed], known: &[&str]) -> Vec<(String, String)> {
        let known = known.iter().map(|key| (*key).to_owned()).collect();
        let found = told.iter().filter_map(|one| one.missing(&known));
        let status = |body: &str| {
            form_urlencoded::parse(body.as_bytes())
                .find(|(name, _)| name == "CallStatus")
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        found.map(|one| (one.key, status(&one.body))).collect()
    }

    #[test]
    fn what_is_older_than_the_window_newer_or_our_own_is_not_missing() {
        let mut ours = message("SM_ours", "+15125550100", "12:01:00");
        ours.direction = Some("outbound-api".to_owned());
        let listed = vec![
            message("SM_on_its_way", "+15125550123", "12:05:01"),
            message("SM_newer", "+15125550123", "12:05:00"),
            ours,
            message("SM_older", "+15125550123", "11:00:00"),
            message("SM_read_before", "+15125550123", "10:59:59"),
        ];
        let told = messages(listed, &window());
        let keys: Vec<_> = told.iter().flat_map(Missed::keys).collect();
        assert_eq!(keys, ["SM_newer", "SM_older"]);
        assert_eq!(
            told[1].unheard.body,
            "MessageSid=SM_older&SmsSid=SM_older&AccountSid=AC1&From=%2B15125550123&To=%2B15125550100&\
             Body=SM_older+%26+more&NumMedia=0&SmsStatus=received"
        );
        assert_eq!(missing(&told, &["SM_newer"]).len(), 1);
    }

    #[test]
    fn what_was_before_the_account_was_connected_is_nobodys() {
        let young = Window {
            from: window().read_through,
            ..window()
        };
        let listed = vec![
            message("SM2", "+15125550123", "11:59:00"),
            message("SM1", "+15125550123", "11:58:59"),
        ];
        let told = messages(listed, &young);
        let keys: Vec<_> = told.iter().flat_map(Missed::keys).collect();
        assert_eq!(keys, ["SM2"]);
    }

    #[test]
    fn a_call_of_which_nothing_was_heard_reached_nobody() {
        let told = calls(
            vec![
                call("CA_talks", "in-progress", "12:02:00"),
                call("CA2", "busy", "12:01:00"),
                call("CA1", "completed", "12:00:00"),
            ],
            &window(),
            true,
        );
        let of = |key: &str, status: &str| (key.to_owned(), status.to_owned());
        assert_eq!(
            missing(&told, &[]),
            [of("CA2/busy", "busy"), of("CA1/completed", "failed")]
        );
        // It rang here, and was put through: how it ended is what Twilio says.
        let rang = missing(&told, &["CA1", "CA2", "CA2/busy"]);
        assert_eq!(rang, [of("CA1/completed", "completed")]);
        let silent = vec![call("CA1", "completed", "12:00:00")];
        let untold = calls(silent, &window(), false);
        assert_eq!(missing(&untold, &["CA1"]), []);
        assert_eq!(missing(&untold, &[]).len(), 1);
    }

    #[test]
    fn each_persons_messages_keep_their_order() {
        let listed = vec![
            message("SM4", "+15125550124", "12:04:00"),
            message("SM3", "+15125550123", "12:03:00"),
            message("SM2", "+15125550123", "12:02:00"),
            message("SM1", "+15125550123", "12:02:00"),
        ];
        let told = messages(listed, &window());
        let known = HashSet::from(["SM2".to_owned()]);
        // A call between two messages of theirs.
        let rang = calls(vec![call("CA1", "busy", "12:02:30")], &window(), true);
        let told: Vec<Missed> = told.into_iter().chain(rang).collect();
        let turns: Vec<(i32, Vec<String>)> = in_turn(&told, &known)
            .into_iter()
            .map(|(turn, of_it)| (turn, of_it.into_iter().map(|one| one.key).collect()))
            .collect();
        let turn = |turn, keys: &[&str]| (turn, keys.iter().map(|k| (*k).to_owned()).collect());
        let wanted = [
            turn(0, &["SM1", "SM4"]),
            turn(1, &["CA1/busy"]),
            turn(2, &["SM3"]),
        ];
        assert_eq!(turns, wanted);
    }

    #[test]
    fn a_number_that_tells_somebody_else_is_left_alone() {
        let url = |of: &str| Some(format!("https://app.acme.test/webhooks/twilio/{of}/sms"));
        let number = Number {
            phone_number: "+15125550100".to_owned(),
            sms_url: url("whk_1"),
            voice_url: url("whk_2"),
            status_callback: None,
        };
        let heard = hears(&number, "whk_1");
        assert!(heard.messages && !heard.calls && !heard.call_status);
        assert!(!hears(&number, "").messages);
        assert!(!hears(&number, "whk").messages);
    }
}
