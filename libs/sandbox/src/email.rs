//! Owns what the simulators of mail share: addresses, the receivers that fail on purpose, and the ledger of all mail.
//!
//! | receiver, with `+anything` behind its name | Resend tells | SendGrid tells |
//! |---|---|---|
//! | `delivered@resend.dev`, and everybody else | `email.delivered` | `delivered` |
//! | `bounced@resend.dev` | `email.bounced` | `bounce` |
//! | `complained@resend.dev` | `email.delivered`, `email.complained` | `delivered`, `spamreport` |
//! | `delayed@resend.dev` | `email.delivery_delayed`, a minute later `email.delivered` | `deferred`, a minute later `delivered` |
//! | `suppressed@resend.dev` | `email.bounced`, type `Suppressed` | `dropped` |
//! | `unsubscribed@resend.dev` | `email.delivered` | `delivered`, `unsubscribe` |
//!
//! Deliberately absent: lists of suppressed addresses. A receiver fails each time, or never.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::core::Core;
use crate::messages::{self, DeliveredMessage};
use crate::store::{Tx, World};
use crate::{resend, sendgrid, time};

/// After this long a delayed mail is delivered, by the simulators' clock.
pub(crate) const DELAY_SECONDS: i64 = 60;

/// What becomes of a mail to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Bounced,
    Complained,
    Delayed,
    Suppressed,
    Unsubscribed,
}

pub(crate) fn fate(address: &str) -> Fate {
    let Some((name, "resend.dev")) = address.rsplit_once('@') else {
        return Fate::Delivered;
    };
    match name.split('+').next().unwrap_or_default() {
        "bounced" => Fate::Bounced,
        "complained" => Fate::Complained,
        "delayed" => Fate::Delayed,
        "suppressed" => Fate::Suppressed,
        "unsubscribed" => Fate::Unsubscribed,
        _ => Fate::Delivered,
    }
}

/// The address in `Name <name@host>`, or in the plain address; none where there is none.
pub(crate) fn address(text: &str) -> Option<&str> {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(named) => named.rsplit_once('<')?.1,
        None => text,
    };
    let (name, host) = address.split_once('@')?;
    let plain = |part: &str| !part.is_empty() && !part.contains(['@', ' ', '<', '>', ',']);
    (plain(name) && plain(host) && host.contains('.')).then_some(address)
}

/// Records that a person has a mail: its text, or else its HTML.
pub(crate) fn deliver(tx: &mut Tx<'_>, provider: &str, mail: &Value, to: &str) {
    let text = |name: &str| mail[name].as_str().filter(|text| !text.is_empty());
    let message = DeliveredMessage {
        provider: provider.to_owned(),
        channel: "email".to_owned(),
        from: text("from").unwrap_or_default().to_owned(),
        to: to.to_owned(),
        body: text("text").or(text("html")).unwrap_or_default().to_owned(),
        sid: text("id").unwrap_or_default().to_owned(),
        at: tx.now,
        subject: text("subject").map(str::to_owned),
    };
    messages::deliver(tx, &message);
}

/// `GET /_/email/ledger`: every mail that was accepted. `created` counts those of the same provider with the same sender,
/// receivers, subject and text: two of them are a duplicate.
pub(crate) fn control() -> Router<Arc<Core>> {
    Router::new().route("/ledger", get(ledger))
}

async fn ledger(State(core): State<Arc<Core>>) -> Response {
    time::catch_up(&core);
    Json(core.read(|world| json!({ "emails": emails(world), "now": world.now() }))).into_response()
}

fn emails(world: &World) -> Vec<Value> {
    let of = |provider: &'static str, kind: &str| {
        world
            .oldest_first(kind)
            .map(move |mail| (provider, mail))
            .collect::<Vec<_>>()
    };
    let mut all = of(resend::NAME, resend::EMAIL);
    all.extend(of(sendgrid::NAME, sendgrid::MAIL));
    let same = |provider: &str, mail: &Value| -> Vec<String> {
        let fields = ["from", "to", "subject", "text", "html"];
        let fields = fields.map(|name| mail[name].to_string());
        [&[provider.to_owned()][..], &fields].concat()
    };
    let mut often: HashMap<Vec<String>, u64> = HashMap::new();
    for (provider, mail) in &all {
        *often.entry(same(provider, mail)).or_default() += 1;
    }
    all.into_iter()
        .map(|(provider, mail)| {
            json!({
                "provider": provider,
                "id": mail["id"],
                "account": mail["_account"],
                "from": mail["from"],
                "to": mail["to"],
                "subject": mail["subject"],
                "text": mail["text"],
                "html": mail["html"],
                "headers": mail["headers"],
                "status": mail["last_event"],
                "at": mail["_created"],
                "created": often[&same(provider, mail)],
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_both_spellings() {
        for (text, found) in [
            ("a@b.test", Some("a@b.test")),
            ("Acme, Inc. <a@b.test>", Some("a@b.test")),
            (" a@b.test ", Some("a@b.test")),
            ("a@b", None),
            ("a b@c.test", None),
            ("a@b.test, c@d.test", None),
            ("", None),
        ] {
            assert_eq!(address(text), found, "{text}");
        }
    }

    #[test]
    fn a_label_does_not_change_what_becomes_of_a_mail() {
        assert_eq!(fate("bounced+lead_1@resend.dev"), Fate::Bounced);
        assert_eq!(fate("bounced@example.test"), Fate::Delivered);
        assert_eq!(fate("someone@resend.dev"), Fate::Delivered);
    }
}
