//! Owns what Resend tells of a mail, and where: one event for each thing that happens, in Svix's scheme.
//!
//! Deliberately absent: `email.opened` and `email.clicked`. Nobody reads here.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{ACCOUNT, NAME, text};
use crate::ids;
use crate::store::{Delivery, EventRecord, Tx, World};
use crate::webhooks::{Patience, Signer, Target};

const TIMEOUT: Duration = Duration::from_secs(15);

/// The key behind `whsec_`.
pub(super) fn key(secret: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    (!key.is_empty()).then_some(key)
}

/// A time as Resend's webhooks write it.
fn written(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .format("%Y-%m-%dT%H:%M:%S.000Z")
        .to_string()
}

/// Tells of `what`; of one receiver where it concerns one. `kind` says how it bounced.
pub(super) fn tell(tx: &mut Tx<'_>, email: &mut Value, what: &str, receiver: Option<(&str, &str)>) {
    email["last_event"] = json!(what);
    let event_type = format!("email.{what}");
    let tags = email["tags"].as_array().into_iter().flatten();
    let tags: Map<String, Value> = tags
        .map(|tag| (text(tag, "name").to_owned(), tag["value"].clone()))
        .collect();
    let mut data = json!({
        "email_id": email["id"],
        "created_at": written(email["_created"].as_i64().unwrap_or(tx.now)),
        "from": email["from"],
        "to": receiver.map_or_else(|| email["to"].clone(), |(to, _)| json!([to])),
        "subject": email["subject"],
        "tags": tags,
    });
    if let ("bounced", Some((_, kind))) = (what, receiver) {
        let message = if kind == "Suppressed" {
            "Resend has suppressed sending to this address because it is on the account-level suppression list."
        } else {
            "The recipient's email provider sent a hard bounce message."
        };
        data["bounce"] = json!({ "message": message, "subType": kind, "type": "Permanent" });
    }
    let body = json!({ "type": event_type, "created_at": written(tx.now), "data": data });
    let own = |name: &str| email[name].as_str().map(str::to_owned);
    tx.event(EventRecord {
        id: format!("msg_{}", ids::random(27)),
        event_type,
        created: tx.now,
        recorded: None,
        provider: NAME.to_owned(),
        endpoint: own("_account"),
        url: None,
        operation: own("_operation").unwrap_or_default(),
        traceparent: own("_traceparent"),
        body: body.to_string().into(),
    });
}

/// Where a delivery goes now: to the account's address, if it has one.
pub(crate) fn target(world: &World, delivery: &Delivery, event: &EventRecord) -> Option<Target> {
    let account = world.get(ACCOUNT, &delivery.endpoint)?;
    Some(Target {
        url: account["_url"].as_str()?.to_owned(),
        signer: Signer::Svix {
            id: event.id.clone(),
            key: key(text(account, "_secret"))?,
        },
        timeout: TIMEOUT,
        patience: Patience::BackOff,
    })
}
