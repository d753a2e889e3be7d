//! Owns SendGrid's Event Webhook: batches of events as a JSON array, signed with the account's ECDSA key.
//!
//! Deliberately absent: `open` and `click`. Nobody reads here.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{ACCOUNT, NAME, text};
use crate::ids;
use crate::store::{Delivery, EventRecord, Tx, World};
use crate::webhooks::{Patience, Signer, Target};

const TIMEOUT: Duration = Duration::from_secs(10);
/// What stands before a P-256 point in a `SubjectPublicKeyInfo`.
const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// A webhook's keys in base64: PKCS#8, and what the receiver is given.
pub(super) struct KeyPair {
    pub private: String,
    pub public: String,
}

impl KeyPair {
    pub(super) fn generate() -> KeyPair {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let private = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .expect("the operating system has randomness");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref(), &random)
            .expect("a key that was just made");
        let mut public = hex::decode(SPKI).unwrap_or_default();
        public.extend(pair.public_key().as_ref());
        KeyPair {
            private: STANDARD.encode(private),
            public: STANDARD.encode(public),
        }
    }

    pub(super) fn of(account: &Value) -> Option<KeyPair> {
        Some(KeyPair {
            private: account["_key"].as_str()?.to_owned(),
            public: account["public_key"].as_str()?.to_owned(),
        })
    }
}

/// One event about a mail at a receiver, with the mail's custom arguments among its fields.
pub(super) fn event(tx: &Tx<'_>, mail: &Value, receiver: &Value, what: &str) -> Value {
    let id = text(mail, "id");
    let mut event = json!({
        "email": receiver["email"],
        "timestamp": tx.now,
        "smtp-id": format!("<{id}@geopod-ismtpd-sim>"),
        "event": what,
        "sg_event_id": ids::random(22),
        // Begins with what the sender was given as X-Message-Id.
        "sg_message_id": format!("{id}.recvd-sim-0-0.0"),
    });
    if mail["categories"].is_array() {
        event["category"] = mail["categories"].clone();
    }
    let more = match what {
        "delivered" => json!({ "response": "250 OK", "tls": 1, "ip": "127.0.0.1" }),
        "bounce" => json!({
            "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 The email account does not exist",
            "bounce_classification": "Invalid Address", "tls": 1, "ip": "127.0.0.1",
        }),
        "deferred" => {
            json!({ "response": "400 try again later", "attempt": "1", "domain": "resend.dev" })
        }
        "dropped" => json!({ "reason": "Bounced Address", "status": "5.0.0" }),
        _ => json!({}),
    };
    for fields in [&more, &receiver["custom_args"]] {
        for (name, value) in fields.as_object().into_iter().flatten() {
            event[name] = value.clone();
        }
    }
    event
}

/// Tells a batch in one request. Faults know it by the type of its events, or as `mixed`.
pub(super) fn tell(tx: &mut Tx<'_>, mail: &mut Value, batch: Vec<Value>) {
    let Some(last) = batch.last().map(|event| event["event"].clone()) else {
        return;
    };
    let alike = batch.iter().all(|event| event["event"] == last);
    let event_type = last.as_str().filter(|_| alike).unwrap_or("mixed");
    let own = |name: &str| mail[name].as_str().map(str::to_owned);
    tx.event(EventRecord {
        id: format!("sgb_{}", ids::random(22)),
        event_type: event_type.to_owned(),
        created: tx.now,
        recorded: None,
        provider: NAME.to_owned(),
        endpoint: own("_account"),
        url: None,
        operation: own("_operation").unwrap_or_default(),
        traceparent: own("_traceparent"),
        body: Value::Array(batch).to_string().into(),
    });
    mail["last_event"] = last;
}

/// Where a delivery goes now: to the account's address, if it has one.
pub(crate) fn target(world: &World, delivery: &Delivery) -> Option<Target> {
    let account = world.get(ACCOUNT, &delivery.endpoint)?;
    Some(Target {
        url: account["_url"].as_str()?.to_owned(),
        signer: Signer::SendGrid {
            key: STANDARD.decode(text(account, "_key")).ok()?,
        },
        timeout: TIMEOUT,
        patience: Patience::BackOff,
    })
}
