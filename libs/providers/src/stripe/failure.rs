//! What a failure proves. The whole of money safety rests on this table: only what certainly did not happen may be
//! called so.
//!
//! Deliberately absent: what to do about it.
#![expect(
    clippy::result_large_err,
    reason = "made once per failed call to another continent; flat fields read better where they are matched"
)]

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stripe_client_core::StripeClientErr;
use thiserror::Error;

use crate::http_stack::{Answer, NotSent, Unknown};

/// Why a call to Stripe did not give what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StripeFailure {
    /// Stripe refused; sending the same again is refused again.
    #[error("Stripe refused with {status} {kind}{}: {message}", code.as_deref().map(|code| format!(" {code}")).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// `card_error`, `invalid_request_error`, `idempotency_error`, `api_error`.
        kind: String,
        /// `card_declined`, `resource_missing` …
        code: Option<String>,
        /// `insufficient_funds` …
        decline_code: Option<String>,
        /// The parameter at fault.
        param: Option<String>,
        /// For people.
        message: String,
        /// Stripe's name of the request.
        request_id: Option<String>,
    },
    /// It may have happened. Only sending it again with the same key, or reading, tells.
    #[error("the outcome at Stripe is unknown: {cause}")]
    Unknown {
        /// Why.
        cause: String,
        /// Stripe's name of the request, when it answered.
        request_id: Option<String>,
    },
    /// It certainly did not happen. Sending it again later may succeed.
    #[error("Stripe was not asked: {cause}")]
    NotSent {
        /// Why.
        cause: String,
        /// When trying again may help.
        retry_after: Option<Duration>,
    },
}

impl StripeFailure {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, StripeFailure::Refused { .. })
    }

    /// Whether Stripe has no such object.
    pub fn is_missing(&self) -> bool {
        matches!(self, StripeFailure::Refused { status: 404, .. })
    }

    pub(super) fn unsendable(cause: String) -> Self {
        StripeFailure::NotSent {
            cause,
            retry_after: None,
        }
    }
}

impl From<NotSent> for StripeFailure {
    fn from(NotSent { cause, retry_after }: NotSent) -> Self {
        StripeFailure::NotSent { cause, retry_after }
    }
}

impl From<Unknown> for StripeFailure {
    fn from(Unknown { cause }: Unknown) -> Self {
        StripeFailure::Unknown {
            cause,
            request_id: None,
        }
    }
}

impl StripeClientErr for StripeFailure {
    /// The call succeeded and its answer cannot be read: what it says is unknown, not that it failed.
    fn deserialize_err(msg: impl std::fmt::Display) -> Self {
        StripeFailure::Unknown {
            cause: format!("the answer cannot be read: {msg}"),
            request_id: None,
        }
    }
}

#[derive(Deserialize, Default)]
struct Envelope {
    #[serde(default)]
    error: Body,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    param: Option<String>,
    message: Option<String>,
}

/// The body of a success, or what the refusal proves.
pub(super) fn classify(answer: Answer) -> Result<Bytes, StripeFailure> {
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let header = |name: &str| {
        answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let request_id = header("request-id");
    let retry_after = header("retry-after")
        .and_then(|text| text.parse().ok())
        .map(Duration::from_secs);
    let status = answer.status.as_u16();
    let Body {
        kind,
        code,
        decline_code,
        param,
        message,
    } = serde_json::from_slice::<Envelope>(&answer.body)
        .unwrap_or_default()
        .error;
    let message = message.unwrap_or_default();
    let unknown = |cause: String| {
        Err(StripeFailure::Unknown {
            cause,
            request_id: request_id.clone(),
        })
    };

    match (status, code.as_deref()) {
        // Another request with our key is running: an earlier attempt of ours, so the thing may be happening now.
        (409, Some("idempotency_key_in_use")) => {
            unknown("a request with the same key is still running".to_owned())
        }
        // Said at the door, before Stripe looks at the key: proves nothing about the attempt that got no answer.
        (401 | 403, _) if answer.after_unknown => {
            unknown(format!("no answer, then {status} {message}"))
        }
        // Refused at the door, before anything was done; unless an attempt before this one went through it.
        (429, _) | (_, Some("lock_timeout")) if answer.after_unknown => {
            unknown(format!("no answer, then {status} {message}"))
        }
        (429, _) | (_, Some("lock_timeout")) => Err(StripeFailure::NotSent {
            cause: format!("Stripe is busy ({status}): {message}"),
            retry_after,
        }),
        // Stripe documents that the effect of a 5xx is not known. 424: a system behind Stripe failed. 3xx: not Stripe.
        (424 | 500.. | ..400, _) => unknown(format!("Stripe answered {status}: {message}")),
        (400.., _) => Err(StripeFailure::Refused {
            status,
            kind,
            code,
            decline_code,
            param,
            message,
            request_id,
        }),
    }
}

/// The answer as `T`. Unreadable is unknown: the call itself succeeded.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, StripeFailure> {
    serde_json::from_slice(body).map_err(StripeFailure::deserialize_err)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn of(status: u16, body: &str, after_unknown: bool) -> Result<Bytes, StripeFailure> {
        let status = StatusCode::from_u16(status).expect("a status");
        classify(Answer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            after_unknown,
        })
    }

    fn code(code: &str) -> String {
        format!(r#"{{"error":{{"type":"invalid_request_error","code":"{code}","message":"no"}}}}"#)
    }

    #[test]
    fn only_what_certainly_did_not_happen_is_called_so() {
        let refused = |status, body: &str| {
            matches!(of(status, body, false), Err(StripeFailure::Refused { .. }))
        };
        let unknown = |status, body: &str| {
            matches!(of(status, body, false), Err(StripeFailure::Unknown { .. }))
        };
        let not_sent = |status, body: &str| {
            matches!(of(status, body, false), Err(StripeFailure::NotSent { .. }))
        };
        assert!(refused(402, &code("card_declined")));
        assert!(refused(400, &code("parameter_missing")));
        assert!(refused(404, &code("resource_missing")));
        assert!(refused(401, "not json"));
        assert!(refused(409, "{}"));
        assert!(not_sent(429, &code("rate_limit")));
        assert!(not_sent(429, &code("lock_timeout")));
        assert!(unknown(409, &code("idempotency_key_in_use")));
        for status in [301, 424, 500, 502, 503, 504] {
            assert!(unknown(status, "<html>"), "{status}");
        }
        assert!(matches!(
            of(401, "{}", true),
            Err(StripeFailure::Unknown { .. })
        ));
        assert!(matches!(
            of(429, &code("rate_limit"), true),
            Err(StripeFailure::Unknown { .. })
        ));
    }

    #[test]
    fn a_decline_keeps_its_code() {
        let body = r#"{"error":{"type":"card_error","code":"card_declined","decline_code":"insufficient_funds","message":"Your card has insufficient funds.","new_field":{}}}"#;
        let Err(StripeFailure::Refused {
            kind, decline_code, ..
        }) = of(402, body, false)
        else {
            panic!("refused")
        };
        assert_eq!(
            (kind.as_str(), decline_code.as_deref()),
            ("card_error", Some("insufficient_funds"))
        );
    }

    #[test]
    fn a_success_that_cannot_be_read_is_unknown_and_not_failed() {
        let body = of(200, r#"{"id":7}"#, false).expect("success");
        #[derive(Debug, Deserialize)]
        struct Thing {
            #[expect(dead_code, reason = "only read")]
            id: String,
        }
        assert!(matches!(
            read::<Thing>(&body),
            Err(StripeFailure::Unknown { .. })
        ));
    }
}
