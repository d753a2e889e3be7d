//! What an entry makes of how an address stands. Pure.
//! Deliberately absent: a way by which recorded consent ends an opt-out. Only the person's own wish does.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Kind, Said, Standing};
use crate::address::Address;
use crate::gate::rules::Consent;

/// How it stands after this; none when nothing changes, and then nothing is recorded either. Consent is always recorded,
/// even where a stronger one stands: it is proof.
pub fn apply(before: Standing, kind: Kind, now: DateTime<Utc>) -> Option<Standing> {
    let revision = before.revision + 1;
    match kind {
        Kind::OptOut if before.opted_out_at.is_some() => None,
        Kind::OptOut => Some(Standing {
            opted_out_at: Some(now),
            revision,
            ..before
        }),
        Kind::OptIn if before.opted_out_at.is_none() => None,
        Kind::OptIn => Some(Standing {
            opted_out_at: None,
            revision,
            ..before
        }),
        Kind::Consent(given) => Some(Standing {
            consent: Some(stronger(before.consent, given, now)),
            revision,
            ..before
        }),
    }
}

/// The one that stands of two. One that has lapsed gives way to one that has not; of equals the later one stays longer.
fn stronger(standing: Option<Consent>, given: Consent, now: DateTime<Utc>) -> Consent {
    let rank = |consent: &Consent| (consent.holds(now), consent.basis, consent.given_at);
    match standing {
        Some(standing) if rank(&standing) > rank(&given) => standing,
        _ => given,
    }
}

/// When it happened.
pub fn occurred_at(kind: Kind, now: DateTime<Utc>) -> DateTime<Utc> {
    match kind {
        Kind::Consent(consent) => consent.given_at,
        Kind::OptOut | Kind::OptIn => now,
    }
}

/// The audit action and the event.
pub fn names(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Consent(_) => ("messaging.consent.record", "messaging.consent.recorded"),
        Kind::OptOut => ("messaging.consent.opt_out", "messaging.consent.opted_out"),
        Kind::OptIn => ("messaging.consent.opt_in", "messaging.consent.opted_in"),
    }
}

/// How it stands, as audit and events have it.
pub fn told(standing: &Standing, address: &Address, said: Option<&Said>) -> Value {
    json!({
        "channel": standing.channel.as_str(),
        "address": address,
        "opted_out_at": standing.opted_out_at,
        "basis": standing.consent.map(|consent| consent.basis.as_str()),
        "given_at": standing.consent.map(|consent| consent.given_at),
        "source": said.map(|said| said.source.as_str()),
        "text": said.and_then(|said| said.text.as_deref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Basis, Channel};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn given(basis: Basis, text: &str) -> Consent {
        Consent {
            basis,
            given_at: at(text),
        }
    }

    fn blank() -> Standing {
        Standing {
            channel: Channel::Sms,
            opted_out_at: None,
            consent: None,
            revision: 0,
        }
    }

    #[test]
    fn the_first_opt_out_stays_and_the_second_is_nothing() {
        let now = at("2026-06-01T00:00:00Z");
        let out = apply(blank(), Kind::OptOut, now).expect("changed");
        assert_eq!((out.opted_out_at, out.revision), (Some(now), 1));
        assert_eq!(apply(out, Kind::OptOut, at("2026-06-02T00:00:00Z")), None);
        let back = apply(out, Kind::OptIn, now).expect("changed");
        assert_eq!((back.opted_out_at, back.revision), (None, 2));
        assert_eq!(apply(back, Kind::OptIn, now), None);
    }

    #[test]
    fn consent_does_not_end_an_opt_out() {
        let now = at("2026-06-01T00:00:00Z");
        let out = apply(blank(), Kind::OptOut, now).expect("changed");
        let consent = given(Basis::ExpressWritten, "2026-06-01T00:00:00Z");
        let after = apply(out, Kind::Consent(consent), now).expect("recorded");
        assert_eq!(after.opted_out_at, Some(now));
        assert_eq!(after.consent, Some(consent));
    }

    #[test]
    fn the_strongest_that_has_not_lapsed_stands() {
        let now = at("2026-06-01T00:00:00Z");
        let old_inquiry = given(Basis::Inquiry, "2026-01-01T00:00:00Z");
        let new_inquiry = given(Basis::Inquiry, "2026-05-01T00:00:00Z");
        let purchase = given(Basis::ExistingRelationship, "2026-02-01T00:00:00Z");
        let old_purchase = given(Basis::ExistingRelationship, "2024-02-01T00:00:00Z");
        let written = given(Basis::ExpressWritten, "2020-01-01T00:00:00Z");
        for (standing, new, stands) in [
            (old_inquiry, new_inquiry, new_inquiry),
            (new_inquiry, old_inquiry, new_inquiry),
            (purchase, new_inquiry, purchase),
            (old_purchase, new_inquiry, new_inquiry),
            (new_inquiry, old_purchase, new_inquiry),
            (written, purchase, written),
            (purchase, written, written),
        ] {
            assert_eq!(
                stronger(Some(standing), new, now),
                stands,
                "{standing:?} and {new:?}"
            );
        }
    }
}
