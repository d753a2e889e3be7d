//! Webhooks of those who carry messages: each signs in its own way, and each is stored once under what repetitions share. The
//! signatures here are made by hand from the providers' documents; those of their own libraries are tried against the whole.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mainstay_proto::integrations::v1::{ListVerificationSecretsResponse, Webhook};
use ring::hmac as legacy;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::sync::atomic::Ordering;

use crate::harness::{Answer, Harness, send, start, start_with};
use crate::webhooks::now;

const FORM: &str = "application/x-www-form-urlencoded";
const SVIX: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn know(gateway: &Harness, provider: &str, token: &str, secrets: &[&str], account: &str) {
    let known = ListVerificationSecretsResponse {
        secrets: secrets.iter().map(|secret| (*secret).to_owned()).collect(),
        account: account.to_owned(),
        ..Default::default()
    };
    let key = (provider.to_owned(), token.to_owned());
    let mut endpoints = gateway.backend.endpoints.lock().expect("a lock");
    endpoints.insert(key, known);
}

/// The account has a number whose calls are put through.
fn forward(gateway: &Harness, token: &str, from: &str, to: &str) {
    let key = ("twilio".to_owned(), token.to_owned());
    let mut endpoints = gateway.backend.endpoints.lock().expect("a lock");
    let known = endpoints.get_mut(&key).expect("a known endpoint");
    known.call_forwards.insert(from.to_owned(), to.to_owned());
}

/// What was stored, in order.
fn stored(gateway: &Harness) -> Vec<Webhook> {
    let batches = gateway.backend.batches.lock().expect("a lock");
    batches.iter().flatten().cloned().collect()
}

/// Signs as Twilio does, by hand.
fn twilio(secret: &str, url: &str, pairs: &[(&str, &str)]) -> String {
    let mut pairs = pairs.to_vec();
    pairs.sort_unstable();
    let text: String = pairs
        .iter()
        .fold(url.to_owned(), |text, (name, value)| text + name + value);
    let key = legacy::Key::new(legacy::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    STANDARD.encode(legacy::sign(&key, text.as_bytes()))
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

async fn deliver(gateway: &Harness, path: &str, signature: &str, kind: &str, body: &str) -> Answer {
    send(
        gateway
            .anonymous("POST", path)
            .header("content-type", kind)
            .header("x-twilio-signature", signature)
            .body(body.to_owned()),
    )
    .await
}

const SMS: [(&str, &str); 6] = [
    ("MessageSid", "SM1"),
    ("From", "+15125550100"),
    ("To", "+15125550199"),
    // Untrimmed, not ASCII, and a parameter that nobody has heard of.
    ("Body", "  STOP \u{e9}\u{1f600}\n"),
    ("AddedLastNight", "yes & no = maybe"),
    ("body", "names differ by case"),
];

#[tokio::test]
async fn what_twilio_signed_is_stored_under_its_account_and_answered_in_its_language() {
    let gateway = start().await;
    know(
        &gateway,
        "twilio",
        "tok_1",
        &["new-token", "old-token"],
        "pac_1",
    );
    let base = gateway.url.clone();
    let sms = "/webhooks/twilio/tok_1/sms";
    for secret in ["new-token", "old-token"] {
        let signature = twilio(secret, &format!("{base}{sms}"), &SMS);
        let answer = deliver(&gateway, sms, &signature, FORM, &form(&SMS)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), "text/xml");
        assert!(answer.text.contains("<Response/>"), "{answer:?}");
    }
    let received = stored(&gateway);
    let first = &received[0];
    assert_eq!(
        [
            &first.provider,
            &first.account,
            &first.event_key,
            &first.r#type,
            &first.content_type
        ],
        ["twilio", "pac_1", "SM1", "message.received", FORM]
    );
    assert_eq!(
        first.body,
        form(&SMS).into_bytes(),
        "the bytes that were signed"
    );

    // The account's own path, its query, and what our own callbacks name in it.
    for (path, pairs, key, kind) in [
        (
            "/webhooks/twilio/tok_1/status?attempt=att_01h455vb4pex5vsknk084sn02q",
            vec![("MessageSid", "SM2"), ("MessageStatus", "delivered")],
            "SM2/delivered",
            "message.status",
        ),
        (
            "/webhooks/twilio/tok_1/voice",
            vec![("CallSid", "CA1")],
            "CA1",
            "call.received",
        ),
        (
            "/webhooks/twilio/tok_1/voice/status?x=%20y",
            vec![("CallSid", "CA1"), ("CallStatus", "completed")],
            "CA1/completed",
            "call.status",
        ),
    ] {
        let signature = twilio("new-token", &format!("{base}{path}"), &pairs);
        let answer = deliver(&gateway, path, &signature, FORM, &form(&pairs)).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(
            answer.json == json!({"received": true}),
            path.contains("status"),
            "{answer:?}"
        );
        let last = stored(&gateway).pop().expect("stored");
        assert_eq!((last.event_key.as_str(), last.r#type.as_str()), (key, kind));
        let kept = String::from_utf8(last.body.to_vec()).expect("ASCII");
        let attempt = match path.contains("attempt") {
            true => "&MainstayAttempt=att_01h455vb4pex5vsknk084sn02q",
            false => "",
        };
        assert_eq!(kept, format!("{}{attempt}", form(&pairs)));
    }
}

#[tokio::test]
async fn the_public_address_is_what_twilio_was_given_with_its_port_or_without() {
    let gateway =
        start_with(|settings| settings.base_url = "https://api.acme.test".to_owned()).await;
    know(&gateway, "twilio", "", &["platform-token"], "default");
    for host in ["https://api.acme.test", "https://api.acme.test:443"] {
        let url = format!("{host}/webhooks/twilio/sms");
        let signature = twilio("platform-token", &url, &SMS);
        let path = "/webhooks/twilio/sms";
        let answer = deliver(&gateway, path, &signature, FORM, &form(&SMS)).await;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
    assert_eq!(stored(&gateway)[0].account, "default");
}

#[tokio::test]
async fn json_is_verified_by_the_hash_of_its_body_in_the_address() {
    let gateway = start().await;
    know(&gateway, "twilio", "tok_1", &["new-token"], "pac_1");
    let body = json!({"MessageSid": "SM3", "MessageStatus": "sent"}).to_string();
    let hash = hex::encode(Sha256::digest(&body));
    let path = format!("/webhooks/twilio/tok_1/status?bodySHA256={hash}");
    let signature = twilio("new-token", &format!("{}{path}", gateway.url), &[]);
    let kind = "application/json";
    let answer = deliver(&gateway, &path, &signature, kind, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(stored(&gateway)[0].event_key, "SM3/sent");
    let other = json!({"MessageSid": "SM3", "MessageStatus": "read"}).to_string();
    let answer = deliver(&gateway, &path, &signature, kind, &other).await;
    answer.assert_problem(401, "signature_invalid");
    let bare = "/webhooks/twilio/tok_1/status";
    let signature = twilio("new-token", &format!("{}{bare}", gateway.url), &[]);
    let answer = deliver(&gateway, bare, &signature, kind, &body).await;
    answer.assert_problem(401, "signature_invalid");
}

#[tokio::test]
async fn a_forgery_of_twilios_is_401_and_nothing_is_stored() {
    let gateway = start().await;
    know(&gateway, "twilio", "tok_1", &["new-token"], "pac_1");
    know(&gateway, "twilio", "tok_2", &["another-accounts"], "pac_2");
    let path = "/webhooks/twilio/tok_1/sms";
    let url = format!("{}{path}", gateway.url);
    let good = twilio("new-token", &url, &SMS);
    let mut trimmed = SMS;
    trimmed[3].1 = "STOP";
    for (path, signature, body) in [
        (path, twilio("another-accounts", &url, &SMS), form(&SMS)),
        (path, good.clone(), form(&trimmed)),
        (path, good.clone(), form(&SMS[1..])),
        (path, "nonsense".to_owned(), form(&SMS)),
        (path, String::new(), form(&SMS)),
        ("/webhooks/twilio/tok_2/sms", good.clone(), form(&SMS)),
        ("/webhooks/twilio/tok_1/status", good.clone(), form(&SMS)),
        ("/webhooks/twilio/tok_3/sms", good.clone(), form(&SMS)),
        (
            "/webhooks/twilio/tok_1/sms?attempt=att_1",
            good.clone(),
            form(&SMS),
        ),
    ] {
        let answer = deliver(&gateway, path, &signature, FORM, &body).await;
        answer.assert_problem(401, "signature_invalid");
    }
    let bare = gateway.anonymous("POST", path).body(form(&SMS));
    send(bare).await.assert_problem(401, "signature_invalid");
    // What verified and names no message cannot be filed.
    let nameless = [("From", "+15125550100")];
    let signature = twilio("new-token", &url, &nameless);
    let answer = deliver(&gateway, path, &signature, FORM, &form(&nameless)).await;
    answer.assert_problem(400, "invalid_request");
    assert!(stored(&gateway).is_empty());
}

fn svix(secret: &str, id: &str, at: u64, body: &str) -> String {
    let key = STANDARD
        .decode(secret.trim_start_matches("whsec_"))
        .expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

async fn mail(
    gateway: &Harness,
    path: &str,
    id: &str,
    at: u64,
    signature: &str,
    body: &str,
) -> Answer {
    send(
        gateway
            .anonymous("POST", path)
            .header("svix-id", id)
            .header("svix-timestamp", at)
            .header("svix-signature", signature)
            .body(body.to_owned()),
    )
    .await
}

#[tokio::test]
async fn what_resend_signed_is_stored_under_its_svix_id() {
    let gateway = start().await;
    know(&gateway, "resend", "tok_1", &[SVIX], "pac_1");
    know(
        &gateway,
        "resend",
        "tok_2",
        &["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
        "pac_2",
    );
    let path = "/webhooks/resend/tok_1";
    let body = json!({"type": "email.bounced", "data": {"email_id": "1"}}).to_string();
    let at = now();
    let good = svix(SVIX, "msg_1", at, &body);
    // Among others, as while a secret is replaced.
    let several = format!("v1,AAAA v2,BBBB {good}");
    let answer = mail(&gateway, path, "msg_1", at, &several, &body).await;
    assert_eq!(
        (answer.status, &answer.json),
        (200, &json!({"received": true}))
    );
    let kept = stored(&gateway);
    assert_eq!(
        [&kept[0].account, &kept[0].event_key, &kept[0].r#type],
        ["pac_1", "msg_1", "email.bounced"]
    );
    for (path, id, at, signature, body) in [
        (path, "msg_2", at, good.clone(), body.clone()),
        (path, "msg_1", at + 1, good.clone(), body.clone()),
        (path, "msg_1", at, good.clone(), "{}".to_owned()),
        (path, "msg_1", at, "v1".to_owned(), body.clone()),
        (
            path,
            "msg_1",
            at - 301,
            svix(SVIX, "msg_1", at - 301, &body),
            body.clone(),
        ),
        (
            path,
            "msg_1",
            at + 330,
            svix(SVIX, "msg_1", at + 330, &body),
            body.clone(),
        ),
        (
            "/webhooks/resend/tok_2",
            "msg_1",
            at,
            good.clone(),
            body.clone(),
        ),
        (
            "/webhooks/resend/tok_3",
            "msg_1",
            at,
            good.clone(),
            body.clone(),
        ),
    ] {
        let answer = mail(&gateway, path, id, at, &signature, &body).await;
        answer.assert_problem(401, "signature_invalid");
    }
    let answer = mail(
        &gateway,
        path,
        "msg_4",
        at,
        &svix(SVIX, "msg_4", at, "{"),
        "{",
    )
    .await;
    answer.assert_problem(400, "invalid_request");
    assert_eq!(stored(&gateway).len(), 1);
}

/// A key pair of SendGrid's, and its public half as SendGrid shows it.
fn key_pair() -> (EcdsaKeyPair, String) {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
    let made = made.expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &random);
    let pair = pair.expect("a key");
    let mut der = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").expect("hex");
    der.extend_from_slice(pair.public_key().as_ref());
    (pair, STANDARD.encode(der))
}

async fn events(gateway: &Harness, path: &str, at: u64, pair: &EcdsaKeyPair, body: &str) -> Answer {
    let signed = pair.sign(&SystemRandom::new(), format!("{at}{body}").as_bytes());
    let signature = STANDARD.encode(signed.expect("signed"));
    send(
        gateway
            .anonymous("POST", path)
            .header("x-twilio-email-event-webhook-signature", signature)
            .header("x-twilio-email-event-webhook-timestamp", at)
            .body(body.to_owned()),
    )
    .await
}

#[tokio::test]
async fn each_event_that_sendgrid_sends_is_stored_by_itself_and_all_are_answered_at_once() {
    let gateway = start().await;
    let ((pair, public), (other, _)) = (key_pair(), key_pair());
    know(&gateway, "sendgrid", "tok_1", &[&public], "pac_1");
    let path = "/webhooks/sendgrid/tok_1";
    let all: Vec<_> = (0..150)
        .map(|n| json!({"sg_event_id": format!("ev_{n}"), "event": "delivered", "email": "a@b.test"}))
        .collect();
    let body = json!(all).to_string();
    let answer = events(&gateway, path, now(), &pair, &body).await;
    assert_eq!(
        (answer.status, &answer.json),
        (200, &json!({"received": true}))
    );
    let kept = stored(&gateway);
    assert_eq!(kept.len(), 150);
    let first = kept.iter().find(|webhook| webhook.event_key == "ev_0");
    let first = first.expect("stored");
    assert_eq!(first.r#type, "email.delivered");
    assert_eq!(first.body, all[0].to_string().into_bytes());

    for answer in [
        events(&gateway, path, now(), &other, &body).await,
        events(&gateway, path, now() - 301, &pair, &body).await,
        events(&gateway, "/webhooks/sendgrid/tok_2", now(), &pair, &body).await,
    ] {
        answer.assert_problem(401, "signature_invalid");
    }
    for unreadable in ["{}", "[1]", r#"[{"event": "open"}]"#, "["] {
        let answer = events(&gateway, path, now(), &pair, unreadable).await;
        answer.assert_problem(400, "invalid_request");
    }
    assert_eq!(stored(&gateway).len(), 150);
    // Not one of them is answered for while one is not stored.
    let with_bad = json!([{"sg_event_id": "evt_bad", "event": "open"}, all[1]]).to_string();
    let answer = events(&gateway, path, now(), &pair, &with_bad).await;
    answer.assert_problem(503, "unavailable");
    gateway.backend.store_down.store(true, Ordering::SeqCst);
    let answer = events(&gateway, path, now(), &pair, &body).await;
    answer.assert_problem(503, "unavailable");
}

#[tokio::test]
async fn a_body_of_any_provider_past_the_limit_is_413() {
    let gateway = start_with(|settings| settings.body_max_bytes = 2000).await;
    know(&gateway, "twilio", "tok_1", &["new-token"], "pac_1");
    let long = "x".repeat(2001);
    let path = "/webhooks/twilio/tok_1/sms";
    let answer = deliver(&gateway, path, "AAAA", FORM, &long).await;
    answer.assert_problem(413, "payload_too_large");
}

#[tokio::test]
async fn a_call_is_put_through_where_its_number_says_and_turned_away_where_it_says_nothing() {
    let gateway = start().await;
    know(&gateway, "twilio", "tok_1", &["token"], "pac_1");
    forward(&gateway, "tok_1", "+15125550199", "+15125550142");
    let base = gateway.url.clone();
    let voice = "/webhooks/twilio/tok_1/voice";
    let status = format!("{voice}/status");
    let call = |to: &'static str| {
        vec![
            ("CallSid", "CA1"),
            ("From", "+15125550100"),
            ("To", to),
            ("CallStatus", "ringing"),
        ]
    };
    let through = format!(
        "<Response><Dial timeout=\"20\" action=\"{base}{status}\" method=\"POST\">+15125550142</Dial></Response>"
    );
    let mut dialed = call("+15125550199");
    dialed.push(("DialCallStatus", "no-answer"));
    let away = "<Response><Reject reason=\"busy\"/></Response>";
    for (path, pairs, wanted) in [
        (voice, call("+15125550199"), through.as_str()),
        (voice, call("+15125550198"), away),
        // Twilio goes on with what it is told after putting through; JSON would be an error to the caller.
        (status.as_str(), dialed, "<Response/>"),
    ] {
        let signature = twilio("token", &format!("{base}{path}"), &pairs);
        let answer = deliver(&gateway, path, &signature, FORM, &form(&pairs)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), "text/xml");
        assert!(answer.text.ends_with(wanted), "{answer:?}");
    }
    let ended = vec![("CallSid", "CA1"), ("CallStatus", "no-answer")];
    let signature = twilio("token", &format!("{base}{status}"), &ended);
    let answer = deliver(&gateway, &status, &signature, FORM, &form(&ended)).await;
    assert_eq!(answer.json["received"], true, "{answer:?}");
    let keys: Vec<String> = stored(&gateway)
        .into_iter()
        .map(|one| one.event_key)
        .collect();
    assert_eq!(keys, ["CA1", "CA1", "CA1/dial/no-answer", "CA1/no-answer"]);
    assert_eq!(
        gateway
            .backend
            .secret_asks
            .load(std::sync::atomic::Ordering::SeqCst),
        1,
        "the one look for secrets says where calls go"
    );
}
