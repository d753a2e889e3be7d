//! Webhooks as Stripe would send them: signed with the secret that `dev.json` names.
//! Deliberately absent: events that the simulator made. It sends those itself.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{Answer, Platform, rest};

/// The `Stripe-Signature` of a body, made now.
pub fn signature(secret: &str, body: &[u8]) -> anyhow::Result<String> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?
        .chain_update(format!("{at}."))
        .chain_update(body);
    Ok(format!(
        "t={at},v1={}",
        hex::encode(mac.finalize().into_bytes())
    ))
}

/// An event about an object, as its body.
pub fn event(id: &str, kind: &str, object: Value) -> String {
    json!({"id": id, "object": "event", "type": kind, "data": {"object": object}}).to_string()
}

/// Posts a body to the platform's endpoint, signed with `secret`.
pub async fn deliver(
    http: &reqwest::Client,
    platform: &Platform,
    secret: &str,
    body: &str,
) -> anyhow::Result<Answer> {
    let url = format!("{}/webhooks/stripe", platform.dev_text("/gateway_url")?);
    let response = http
        .post(url)
        .header("content-type", "application/json")
        .header("stripe-signature", signature(secret, body.as_bytes())?)
        .body(body.to_owned())
        .send()
        .await?;
    rest::Answer::of(response).await
}
