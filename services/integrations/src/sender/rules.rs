//! What follows from what about a sender, decided on values alone: addresses, which provider carries what, usual rates.
//! Deliberately absent: whether a number is in service. Its provider knows.

use chrono::{DateTime, Utc};
use mainstay_types::format::{is_email, is_phone};

use super::parked::QUIET;
use super::{Channel, Edit, Error, Sender};
use crate::provider_account::Provider;

const MOST_NAME_CHARS: usize = 60;

/// An address: as people read it, and as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    shown: String,
    key: String,
}

impl Address {
    /// Reads a number, or a mail address with or without a name before it.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(channel: Channel, text: &str) -> Result<Self, &'static str> {
        match channel {
            Channel::Sms | Channel::Voice if is_phone(text) => Ok(Address {
                shown: text.to_owned(),
                key: text.to_owned(),
            }),
            Channel::Sms | Channel::Voice => {
                Err("must be a telephone number in E.164 form, such as +15125550100")
            }
            Channel::Email => Self::mail(text)
                .ok_or("must be a mail address, or `Name <mail address>` without quotes"),
        }
    }

    // The name goes into a header of mail: nothing that could end it, or begin another.
    fn mail(text: &str) -> Option<Self> {
        let Some((name, rest)) = text.split_once('<') else {
            return is_email(text).then(|| Address {
                shown: text.to_owned(),
                key: text.to_ascii_lowercase(),
            });
        };
        let (name, mail) = (name.trim(), rest.strip_suffix('>')?);
        let name_right = (1..=MOST_NAME_CHARS).contains(&name.chars().count())
            && !name
                .chars()
                .any(|c| c.is_control() || "<>\"\\@,;:()[]".contains(c));
        (name_right && is_email(mail)).then(|| Address {
            shown: format!("{name} <{mail}>"),
            key: mail.to_ascii_lowercase(),
        })
    }

    /// As people read it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// As it is compared.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Whether a provider carries a channel.
pub fn carries(provider: Provider, channel: Channel) -> bool {
    match provider {
        Provider::Twilio => matches!(channel, Channel::Sms | Channel::Voice),
        Provider::Resend | Provider::Sendgrid => channel == Channel::Email,
        Provider::Openai => false,
    }
}

/// Whether calls to a sender can be put through to a number.
pub fn forwards(channel: Channel, own: &str, to: Option<&str>) -> Result<(), Error> {
    match (channel, to) {
        (_, None) => Ok(()),
        (Channel::Email, Some(_)) => Err(Error::CannotForward(
            "is for numbers, and this is a mail address",
        )),
        // It would call itself until somebody hangs up.
        (_, Some(to)) if to == own => Err(Error::CannotForward(
            "must be another number than the sender's own",
        )),
        (Channel::Sms | Channel::Voice, Some(_)) => Ok(()),
    }
}

/// The rate when none is said: what carriers let one number send, what mail providers let one key.
pub fn usual_rate(channel: Channel) -> f64 {
    match channel {
        Channel::Sms | Channel::Voice => 1.0,
        Channel::Email => 10.0,
    }
}

/// As the database and REST spell it.
pub const fn state(active: bool) -> &'static str {
    if active { "active" } else { "disabled" }
}

/// What a caller sends back to say which version it has read.
pub fn etag(revision: i64) -> String {
    format!("v{revision}")
}

/// Whether the caller has read the sender as it stands. Whoever sends no etag takes what there is.
pub fn current(sender: &Sender, sent: Option<&str>) -> Result<(), Error> {
    let current = etag(sender.revision);
    // If-Match arrives quoted, the body's etag does not.
    match sent {
        Some(sent) if sent.trim_matches('"') != current => Err(Error::EtagMismatch { current }),
        _ => Ok(()),
    }
}

/// The sender with these changes; none when it is so already.
pub fn edited(before: &Sender, edit: &Edit, now: DateTime<Utc>) -> Option<Sender> {
    let after = Sender {
        client: edit.client.unwrap_or(before.client),
        rate_per_second: edit.rate_per_second.unwrap_or(before.rate_per_second),
        active: edit.active.unwrap_or(before.active),
        forward_calls_to: edit
            .forward_calls_to
            .clone()
            .unwrap_or_else(|| before.forward_calls_to.clone()),
        ..before.clone()
    };
    (after != *before).then(|| Sender {
        revision: before.revision + 1,
        updated_at: now,
        ..after
    })
}

/// The sender of a client that leaves; none when it is parked already.
pub fn parked(before: &Sender, now: DateTime<Utc>) -> Option<Sender> {
    before.parked_at.is_none().then(|| Sender {
        active: false,
        parked_at: Some(now),
        heard_at: None,
        ..changed(before, now)
    })
}

/// When a parked sender is free, if nobody writes to it until then.
pub fn parked_until(sender: &Sender) -> Option<DateTime<Utc>> {
    let at = sender.parked_at?;
    Some(sender.heard_at.map_or(at, |heard| heard.max(at)) + QUIET)
}

/// The sender once it is free: the agency's, disabled, for whomever it is given to next.
pub fn released(before: &Sender, now: DateTime<Utc>) -> Sender {
    Sender {
        client: None,
        forward_calls_to: None,
        parked_at: None,
        heard_at: None,
        ..changed(before, now)
    }
}

fn changed(before: &Sender, now: DateTime<Utc>) -> Sender {
    Sender {
        revision: before.revision + 1,
        updated_at: now,
        ..before.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_types::{ClientId, ProviderAccountId, SenderId};

    #[test]
    fn a_parked_sender_is_free_when_it_has_been_quiet_long_enough() {
        let at =
            |day: i64| DateTime::from_timestamp(1_800_000_000 + day * 86_400, 0).expect("a time");
        let sender = Sender {
            id: SenderId::generate(),
            account: ProviderAccountId::generate(),
            provider: Provider::Twilio,
            channel: Channel::Sms,
            address: "+15125550199".into(),
            client: Some(ClientId::generate()),
            rate_per_second: 1.0,
            active: true,
            forward_calls_to: Some("+15125550142".into()),
            parked_at: None,
            heard_at: None,
            revision: 3,
            created_at: at(-10),
            updated_at: at(-1),
        };
        assert_eq!(parked_until(&sender), None);
        let resting = parked(&sender, at(0)).expect("it is parked");
        assert!(!resting.active && resting.revision == 4);
        assert_eq!(parked(&resting, at(1)), None, "twice is once");
        assert_eq!(parked_until(&resting), Some(at(30)));
        let heard = Sender {
            heard_at: Some(at(12)),
            ..resting
        };
        assert_eq!(parked_until(&heard), Some(at(42)));
        let free = released(&heard, at(42));
        assert_eq!(
            (free.client, free.active, free.forward_calls_to),
            (None, false, None)
        );
        assert_eq!((free.parked_at, free.heard_at), (None, None));
    }

    #[test]
    fn addresses_are_kept_as_people_read_them_and_compared_without_their_case() {
        for (channel, text, wanted) in [
            (
                Channel::Sms,
                "+15125550199",
                Some(("+15125550199", "+15125550199")),
            ),
            (Channel::Sms, "5125550199", None),
            (Channel::Voice, "a@acme.test", None),
            (
                Channel::Email,
                "Hello@Acme.test",
                Some(("Hello@Acme.test", "hello@acme.test")),
            ),
            (
                Channel::Email,
                "Acme Roofing <Hello@acme.test>",
                Some(("Acme Roofing <Hello@acme.test>", "hello@acme.test")),
            ),
            (
                Channel::Email,
                "  Acme  <a@acme.test>",
                Some(("Acme <a@acme.test>", "a@acme.test")),
            ),
            (Channel::Email, "Acme\r\nBcc: x@y.test <a@acme.test>", None),
            (Channel::Email, "\"Acme\" <a@acme.test>", None),
            (Channel::Email, "<a@acme.test>", None),
            (Channel::Email, "Acme <a@acme.test> x", None),
            (Channel::Email, "+15125550199", None),
        ] {
            let read = Address::parse(channel, text).ok();
            let read = read.as_ref().map(|read| (read.shown(), read.key()));
            assert_eq!(read, wanted, "{text:?}");
        }
    }

    #[test]
    fn calls_are_put_through_from_a_number_to_another_one() {
        let own = "+15125550199";
        for (channel, to, wanted) in [
            (Channel::Sms, None, true),
            (Channel::Sms, Some("+15125550100"), true),
            (Channel::Voice, Some("+15125550100"), true),
            (Channel::Voice, Some(own), false),
            (Channel::Email, Some("+15125550100"), false),
            (Channel::Email, None, true),
        ] {
            assert_eq!(
                forwards(channel, own, to).is_ok(),
                wanted,
                "{channel:?} {to:?}"
            );
        }
    }

    #[test]
    fn a_provider_carries_what_it_carries() {
        assert!(carries(Provider::Twilio, Channel::Voice));
        assert!(!carries(Provider::Twilio, Channel::Email));
        assert!(carries(Provider::Sendgrid, Channel::Email));
        assert!(!carries(Provider::Openai, Channel::Sms));
    }
}
