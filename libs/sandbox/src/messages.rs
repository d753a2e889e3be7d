//! Owns the messages that simulated channels have "delivered", for `GET /_/messages?to=`: one object each, so that a
//! restart forgets none.
//!
//! Deliberately absent: what a provider knows of a message. Its own ledger tells that; here is what a person received.

use serde::Serialize;
use serde_json::{Value, json};

use crate::store::{By, Tx, World};

const KIND: &str = "message.delivered";
/// The oldest are forgotten beyond this many.
const KEPT: usize = 100_000;

/// One message as the person at the other end would have seen it.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveredMessage {
    /// Which simulator delivered it: `twilio`, `resend` …
    pub provider: String,
    /// `sms`, `email`, `whatsapp`, `voice`.
    pub channel: String,
    /// Sender's address.
    pub from: String,
    /// Receiver's address.
    pub to: String,
    /// Text.
    pub body: String,
    /// The provider's id of it.
    pub sid: String,
    /// Unix seconds by the simulators' clock.
    pub at: i64,
    /// What it is about, where the channel says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// Records that a person received this.
pub(crate) fn deliver(tx: &mut Tx<'_>, message: &DeliveredMessage) {
    if tx.world().count(KIND) >= KEPT {
        let oldest = tx.world().oldest_first(KIND).next();
        if let Some(id) = oldest.and_then(|oldest| oldest["id"].as_str()) {
            tx.delete(KIND, id);
        }
    }
    let mut object = json!(message);
    object["id"] = json!(format!("{}:{}", message.sid, message.to));
    tx.put(KIND, object);
}

/// What was delivered, newest last; to one receiver, or to all.
pub(crate) fn delivered(world: &World, to: Option<&str>) -> Vec<Value> {
    let by = to.and_then(|to| By::field("to", to));
    let mut found: Vec<Value> = world
        .newest_first(KIND, by.as_ref(), None)
        .map(|(_, object)| {
            let mut shown = object.clone();
            if let Some(fields) = shown.as_object_mut() {
                fields.shift_remove("id");
            }
            shown
        })
        .collect();
    found.reverse();
    found
}
