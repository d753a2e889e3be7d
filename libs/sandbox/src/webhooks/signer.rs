//! Owns how each provider proves that a webhook is its own: one signature each, over the exact bytes that are sent.
//!
//! Deliberately absent: secrets. Whoever plans an attempt hands them in, as they are at that moment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use ring::hmac as ring_hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use sha2::Sha256;

use crate::urlencoded;

/// What an attempt is signed with.
#[derive(Clone, Debug)]
pub(crate) enum Signer {
    /// `Stripe-Signature`: HMAC-SHA256 of `t.body` under the endpoint's secret.
    Stripe { secret: String },
    /// `X-Twilio-Signature`: HMAC-SHA1 of the address and the sorted fields under the account's token.
    Twilio { token: String },
    /// `svix-signature`: HMAC-SHA256 of `id.timestamp.body` under the endpoint's key.
    Svix { id: String, key: Vec<u8> },
    /// `X-Twilio-Email-Event-Webhook-Signature`: ECDSA on P-256 over timestamp and body; the key is PKCS#8.
    SendGrid { key: Vec<u8> },
}

/// A request's headers: names and values.
pub(crate) type Headers = Vec<(&'static str, String)>;

impl Signer {
    /// Everything that the provider puts into the head of the request, the signature among it.
    pub(crate) fn headers(&self, url: &str, body: &str, now: i64) -> Headers {
        match self {
            Signer::Stripe { secret } => vec![
                ("content-type", "application/json; charset=utf-8".into()),
                (
                    "user-agent",
                    "Stripe/1.0 (+https://stripe.com/docs/webhooks)".into(),
                ),
                ("stripe-signature", stripe(secret, now, body)),
            ],
            Signer::Twilio { token } => vec![
                (
                    "content-type",
                    "application/x-www-form-urlencoded; charset=utf-8".into(),
                ),
                ("user-agent", "TwilioProxy/1.1".into()),
                ("x-twilio-signature", twilio(token, url, body)),
            ],
            Signer::Svix { id, key } => vec![
                ("content-type", "application/json".into()),
                ("user-agent", "Svix-Webhooks/1.0 (sender)".into()),
                ("svix-id", id.clone()),
                ("svix-timestamp", now.to_string()),
                ("svix-signature", svix(key, id, now, body)),
            ],
            Signer::SendGrid { key } => vec![
                ("content-type", "application/json; charset=utf-8".into()),
                ("user-agent", "SendGrid Event API".into()),
                ("x-twilio-email-event-webhook-timestamp", now.to_string()),
                (
                    "x-twilio-email-event-webhook-signature",
                    sendgrid(key, now, body),
                ),
            ],
        }
    }
}

fn hmac_sha256(key: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().to_vec()
}

fn stripe(secret: &str, timestamp: i64, body: &str) -> String {
    let mac = hmac_sha256(secret.as_bytes(), &[&timestamp.to_string(), ".", body]);
    format!("t={timestamp},v1={}", hex::encode(mac))
}

/// The address as the receiver sees it (a fragment never leaves the sender), then every field with its value, by name.
fn twilio(token: &str, url: &str, body: &str) -> String {
    let mut fields = urlencoded::pairs(body).unwrap_or_default();
    fields.sort();
    let mut signed = url.split('#').next().unwrap_or_default().to_owned();
    for (name, value) in &fields {
        signed.push_str(name);
        signed.push_str(value);
    }
    let key = ring_hmac::Key::new(ring_hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    STANDARD.encode(ring_hmac::sign(&key, signed.as_bytes()))
}

fn svix(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mac = hmac_sha256(key, &[id, ".", &timestamp.to_string(), ".", body]);
    format!("v1,{}", STANDARD.encode(mac))
}

/// Nothing where the key is none; the receiver refuses that.
fn sendgrid(key: &[u8], timestamp: i64, body: &str) -> String {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let signed = format!("{timestamp}{body}");
    EcdsaKeyPair::from_pkcs8(algorithm, key, &random)
        .ok()
        .and_then(|pair| pair.sign(&random, signed.as_bytes()).ok())
        .map(|signature| STANDARD.encode(signature))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_is_over_timestamp_and_body() {
        // From Python: hmac.new(b"whsec_test", b"1700000000.{}", sha256).hexdigest(), as the official library checks it.
        let expected = "35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91";
        assert_eq!(
            stripe("whsec_test", 1_700_000_000, "{}"),
            format!("t=1700000000,v1={expected}")
        );
    }

    #[test]
    fn twilios_is_over_the_address_and_the_sorted_fields() {
        // The example of Twilio's documentation, "Explore the algorithm yourself".
        let body = "Digits=1234&To=%2B18005551212&From=%2B14158675310&Caller=%2B14158675310&CallSid=CA1234567890ABCDE";
        let url = "https://example.com/myapp.php?foo=1&bar=2";
        assert_eq!(twilio("12345", url, body), "L/OH5YylLD5NRKLltdqwSvS0BnU=");
        assert_eq!(
            twilio("12345", &format!("{url}#rc=2&rp=all"), body),
            "L/OH5YylLD5NRKLltdqwSvS0BnU="
        );
    }
}
