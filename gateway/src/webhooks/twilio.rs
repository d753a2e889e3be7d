//! Twilio's webhooks: `X-Twilio-Signature` over the public address, as Twilio was given it, and every parameter of the form; of
//! JSON, over the address alone, which then has the body's hash (https://www.twilio.com/docs/usage/webhooks/webhooks-security).
//! Deliberately absent: what a message says, and which parameters there are. Twilio adds some without notice.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, header, request::Parts};
use ring::hmac;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::receive::{
    Event, Scheme, Taken, Token, answered, receive, received, refused, token, unreadable,
};
use super::secrets::Known;
use crate::{
    app::Gateway,
    pages::escaped,
    refusal::Refusal,
    trace::{Traceparent, header_text},
};

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
const BODY_HASH: &str = "bodySHA256";
const FORM: &str = "application/x-www-form-urlencoded";
/// What the address of our own callbacks names, and the parameter that the inbox keeps it as: the address is signed as the form
/// is, but is not kept.
const ATTEMPT: &str = "attempt";
const KEPT_ATTEMPT: &str = "MainstayAttempt";
const MOST_ATTEMPT_CHARS: usize = 100;
/// What became of the phone that a call was put through to; in the request of `<Dial>`'s `action` alone.
const DIALED: &str = "DialCallStatus";
/// How long that phone rings.
const RING_SECONDS: u32 = 20;

/// What Twilio calls about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callback {
    /// Somebody wrote.
    Sms,
    /// What became of a message.
    Status,
    /// Somebody rings.
    Voice,
    /// What became of a call.
    VoiceStatus,
}

impl Callback {
    const ALL: [Callback; 4] = [
        Callback::Sms,
        Callback::Status,
        Callback::Voice,
        Callback::VoiceStatus,
    ];

    const fn path(self) -> &'static str {
        match self {
            Callback::Sms => "sms",
            Callback::Status => "status",
            Callback::Voice => "voice",
            Callback::VoiceStatus => "voice/status",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Callback::Sms => "message.received",
            Callback::Status => "message.status",
            Callback::Voice => "call.received",
            Callback::VoiceStatus => "call.status",
        }
    }

    /// What repetitions share: the message or call, and of what became of it, what it was.
    fn key(self, parameter: impl Fn(&str) -> Option<String>) -> Option<String> {
        let message = || parameter("MessageSid").or_else(|| parameter("SmsSid"));
        let became = |status: &str, sid: String| Some(format!("{sid}/{}", parameter(status)?));
        match self {
            Callback::Sms => message(),
            Callback::Status => became("MessageStatus", message()?),
            Callback::Voice => parameter("CallSid"),
            // The caller's side and the phone that the call was put through to end apart, and in the same words.
            Callback::VoiceStatus => {
                let sid = parameter("CallSid")?;
                match parameter(DIALED) {
                    Some(dialed) => Some(format!("{sid}/dial/{dialed}")),
                    None => became("CallStatus", sid),
                }
            }
        }
    }

    /// Who writes or rings is answered with instructions, as is whoever comes back from being put through: none but for a
    /// call, since what happens next is decided later.
    fn answer(self, base_url: &str, endpoint: &str, taken: &Taken<Signature>) -> Response {
        let parameters = || taken.scheme.parameters(&taken.body);
        let says = |name: &str| parameters().and_then(|parameters| parameters.get(name));
        match self {
            Callback::Sms => twiml("<Response/>"),
            Callback::Voice => {
                let called = says("To").unwrap_or_default();
                twiml(&ringing(
                    taken.known.call_forwards.get(&called).map(String::as_str),
                    &status_url(base_url, endpoint),
                ))
            }
            Callback::VoiceStatus if says(DIALED).is_some() => twiml("<Response/>"),
            Callback::Status | Callback::VoiceStatus => received(),
        }
    }
}

/// Where Twilio tells what became of a call that was put through.
fn status_url(base_url: &str, endpoint: &str) -> String {
    match endpoint {
        "" => format!("{base_url}/webhooks/twilio/voice/status"),
        token => format!("{base_url}/webhooks/twilio/{token}/voice/status"),
    }
}

/// What happens to a call that rings: it is put through, or turned away (https://www.twilio.com/docs/voice/twiml/dial).
fn ringing(to: Option<&str>, then: &str) -> String {
    match to {
        Some(to) => format!(
            "<Response><Dial timeout=\"{RING_SECONDS}\" action=\"{}\" method=\"POST\">{}</Dial></Response>",
            escaped(then),
            escaped(to)
        ),
        None => "<Response><Reject reason=\"busy\"/></Response>".to_owned(),
    }
}

fn twiml(document: &str) -> Response {
    let document = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{document}");
    ([(header::CONTENT_TYPE, "text/xml")], document).into_response()
}

/// `POST /webhooks/twilio/…` for the platform's own account, `POST /webhooks/twilio/{account_token}/…` for those of agencies.
pub fn routes() -> Router<Arc<Gateway>> {
    let mut router = Router::new();
    for callback in Callback::ALL {
        let path = callback.path();
        let platform = move |State(gateway): State<Arc<Gateway>>,
                             Extension(traceparent): Extension<Traceparent>,
                             request: Request| async move {
            let endpoint = Ok(String::new());
            take(&gateway, callback, endpoint, traceparent, request).await
        };
        let account = move |State(gateway): State<Arc<Gateway>>,
                            given: Token,
                            Extension(traceparent): Extension<Traceparent>,
                            request: Request| async move {
            take(&gateway, callback, token(given), traceparent, request).await
        };
        router = router
            .route(&format!("/webhooks/twilio/{path}"), post(platform))
            .route(
                &format!("/webhooks/twilio/{{account_token}}/{path}"),
                post(account),
            );
    }
    router
}

async fn take(
    gateway: &Gateway,
    callback: Callback,
    endpoint: Result<String, Refusal>,
    traceparent: Traceparent,
    request: Request,
) -> Response {
    let path = callback.path();
    let route = match &endpoint {
        Ok(token) if token.is_empty() => format!("/webhooks/twilio/{path}"),
        _ => format!("/webhooks/twilio/{{account_token}}/{path}"),
    };
    let base_url = gateway.settings.base_url.as_str();
    let read = |head: &Parts| Signature::read(callback, base_url, head);
    let answer = match endpoint {
        Ok(endpoint) => receive(gateway, &endpoint, traceparent, request, read)
            .await
            .map(|taken| callback.answer(base_url, &endpoint, &taken)),
        Err(refusal) => Err(refusal),
    };
    answered(gateway, Signature::PROVIDER, &route, answer)
}

/// A parsed `X-Twilio-Signature`, and what it is about.
#[derive(Debug)]
struct Signature {
    callback: Callback,
    given: Vec<u8>,
    /// The public address, as Twilio may have signed it.
    urls: [String; 2],
    /// That of a body which is no form.
    body_hash: Option<String>,
    attempt: Option<String>,
    content_type: String,
    is_form: bool,
}

impl Signature {
    fn read(callback: Callback, base_url: &str, head: &Parts) -> Result<Self, Refusal> {
        let given = header_text(&head.headers, &SIGNATURE)
            .ok_or_else(|| refused("The request has no X-Twilio-Signature header."))?;
        let given = STANDARD
            .decode(given)
            .map_err(|_| refused("X-Twilio-Signature is not base64."))?;
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{base_url}{path}");
        let query = |wanted: &str| {
            form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
        };
        let content_type = header_text(&head.headers, &header::CONTENT_TYPE)
            .filter(|kind| kind.len() <= 255)
            .unwrap_or(FORM)
            .to_owned();
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let is_form = media.eq_ignore_ascii_case(FORM);
        let body_hash = query(BODY_HASH).filter(|_| !is_form);
        if !is_form && body_hash.is_none() {
            return Err(refused(
                "What is no form must have the body's hash in its address, as `bodySHA256`.",
            ));
        }
        Ok(Self {
            callback,
            given,
            urls: [otherwise(&url), url],
            body_hash,
            attempt: query(ATTEMPT).filter(|attempt| is_attempt(attempt)),
            content_type,
            is_form,
        })
    }

    fn parameters(&self, body: &[u8]) -> Option<Parameters> {
        if self.is_form {
            let pairs = form_urlencoded::parse(body).into_owned();
            return Some(Parameters::Form(pairs.collect()));
        }
        serde_json::from_slice(body).ok().map(Parameters::Json)
    }
}

enum Parameters {
    Form(Vec<(String, String)>),
    Json(Map<String, Value>),
}

impl Parameters {
    fn get(&self, wanted: &str) -> Option<String> {
        let found = match self {
            Parameters::Form(pairs) => pairs
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_str()),
            Parameters::Json(object) => object.get(wanted).and_then(Value::as_str),
        };
        found.filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

impl Scheme for Signature {
    const PROVIDER: &'static str = "twilio";

    fn verifies(&self, known: &Known, body: &[u8]) -> bool {
        let mut signed = String::new();
        if let Some(hash) = &self.body_hash {
            let computed = hex::encode(Sha256::digest(body));
            if !bool::from(computed.as_bytes().ct_eq(hash.as_bytes())) {
                return false;
            }
        } else {
            // By name and by value, each pair once; names differ by case, values are as they were sent.
            let mut pairs: Vec<_> = form_urlencoded::parse(body).collect();
            pairs.sort_unstable();
            pairs.dedup();
            for (name, value) in pairs {
                signed.push_str(&name);
                signed.push_str(&value);
            }
        }
        known.secrets.iter().any(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
            self.urls.iter().any(|url| {
                // `verify` compares in constant time.
                hmac::verify(&key, format!("{url}{signed}").as_bytes(), &self.given).is_ok()
            })
        })
    }

    fn events(&self, body: Bytes) -> Result<Vec<Event>, Refusal> {
        let parameters = self.parameters(&body);
        let key = parameters.and_then(|parameters| self.callback.key(|name| parameters.get(name)));
        let key = key.ok_or_else(|| {
            unreadable("the body does not name the message or call, or not what became of it")
        })?;
        let body = match &self.attempt {
            Some(attempt) if self.is_form => with_attempt(&body, attempt),
            _ => body,
        };
        Ok(vec![Event {
            key,
            kind: self.callback.kind().to_owned(),
            content_type: self.content_type.clone(),
            body,
        }])
    }
}

/// Ours look like ids; anything else is not kept.
fn is_attempt(text: &str) -> bool {
    (1..=MOST_ATTEMPT_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn with_attempt(body: &[u8], attempt: &str) -> Bytes {
    let mut kept = BytesMut::from(body);
    if !kept.is_empty() {
        kept.put_u8(b'&');
    }
    kept.put_slice(format!("{KEPT_ATTEMPT}={attempt}").as_bytes());
    kept.freeze()
}

/// The address with the port that it means written out, or without the one that it names: Twilio signs some addresses so and
/// some so, and its own libraries try both.
fn otherwise(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    // A colon within brackets is the address's own.
    let port = host
        .rfind(':')
        .filter(|at| host.rfind(']').is_none_or(|bracket| bracket < *at));
    match (port, scheme) {
        (Some(at), _) => format!("{scheme}://{}{path}", &host[..at]),
        (None, "https") => format!("{scheme}://{host}:443{path}"),
        (None, _) => format!("{scheme}://{host}:80{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_tried_with_its_port_and_without() {
        for (url, other) in [
            (
                "https://api.acme.test/x?y=1",
                "https://api.acme.test:443/x?y=1",
            ),
            ("https://api.acme.test:8443/x", "https://api.acme.test/x"),
            ("http://127.0.0.1:8080/x", "http://127.0.0.1/x"),
            ("http://[::1]/x", "http://[::1]:80/x"),
            ("http://[::1]:80/x", "http://[::1]/x"),
        ] {
            assert_eq!(otherwise(url), other);
        }
    }

    #[test]
    fn what_became_of_a_message_is_another_event_each_time() {
        let parameters = |name: &str| match name {
            "MessageSid" => Some("SM1".to_owned()),
            "MessageStatus" => Some("delivered".to_owned()),
            "CallSid" => Some("CA1".to_owned()),
            _ => None,
        };
        let keys = Callback::ALL.map(|callback| callback.key(parameters));
        let wanted = [Some("SM1"), Some("SM1/delivered"), Some("CA1"), None];
        assert_eq!(keys.each_ref().map(Option::as_deref), wanted);
    }

    #[test]
    fn what_a_dialed_phone_did_is_another_event_than_how_the_caller_left() {
        let parameters = |dialed: Option<&'static str>| {
            move |name: &str| match name {
                "CallSid" => Some("CA1".to_owned()),
                "CallStatus" => Some("completed".to_owned()),
                DIALED => dialed.map(str::to_owned),
                _ => None,
            }
        };
        let key = |dialed| Callback::VoiceStatus.key(parameters(dialed));
        assert_eq!(key(None).as_deref(), Some("CA1/completed"));
        assert_eq!(
            key(Some("completed")).as_deref(),
            Some("CA1/dial/completed")
        );
        assert_eq!(
            key(Some("no-answer")).as_deref(),
            Some("CA1/dial/no-answer")
        );
    }

    #[test]
    fn a_call_is_put_through_or_turned_away() {
        assert_eq!(
            ringing(Some("+15125550100"), "https://a.test/x?a=1&b=2"),
            "<Response><Dial timeout=\"20\" action=\"https://a.test/x?a=1&amp;b=2\" method=\"POST\">+15125550100</Dial></Response>"
        );
        assert_eq!(
            ringing(None, "https://a.test"),
            "<Response><Reject reason=\"busy\"/></Response>"
        );
        assert_eq!(
            status_url("https://a.test", "tok"),
            "https://a.test/webhooks/twilio/tok/voice/status"
        );
    }

    #[test]
    fn only_what_looks_like_an_attempt_is_kept() {
        assert!(is_attempt("att_01h455vb4pex5vsknk084sn02q"));
        for wrong in ["", "a&b=c", "a b", &"a".repeat(101)] {
            assert!(!is_attempt(wrong), "{wrong}");
        }
        assert_eq!(
            &with_attempt(b"A=1", "att_1")[..],
            b"A=1&MainstayAttempt=att_1"
        );
        assert_eq!(&with_attempt(b"", "att_1")[..], b"MainstayAttempt=att_1");
    }
}
