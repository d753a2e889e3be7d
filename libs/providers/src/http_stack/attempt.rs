//! One attempt on the wire, and the line between "certainly not sent" and "unknown".
//!
//! Deliberately absent: trying again.

use std::error::Error;
use std::fmt::Write;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{Answer, Call, NotSent, Outcome, ProviderSettings, Unknown};

pub(super) async fn once(
    client: &reqwest::Client,
    settings: &ProviderSettings,
    call: &Call,
    deadline: Instant,
) -> Outcome {
    if Instant::now() >= deadline {
        // Its time went by while it waited for its turn: better certainly unsent than cut off on the wire.
        let cause = "its time was over before it could be sent".to_owned();
        return Outcome::NotSent(NotSent {
            cause,
            retry_after: None,
        });
    }
    let url = format!("{}{}", settings.base, call.path);
    let request = client
        .request(call.method.clone(), url)
        .headers(call.headers.clone())
        .body(call.body.clone());
    let request = match request.build() {
        Ok(request) => request,
        Err(error) => {
            return Outcome::NotSent(NotSent {
                cause: chain(&error),
                retry_after: None,
            });
        }
    };
    let limit = deadline.min(Instant::now() + settings.attempt);
    let attempt = async {
        let response = client.execute(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(response, settings.answer_bytes).await?;
        Ok((status, headers, body))
    };
    match tokio::time::timeout_at(limit.into(), attempt).await {
        Ok(Ok((status, headers, Some(body)))) => Outcome::Answer(Answer {
            status,
            headers,
            body,
            after_unknown: false,
        }),
        Ok(Ok((status, _, None))) => unknown(format!(
            "answered {status} with more than {} bytes",
            settings.answer_bytes
        )),
        // No connection: no byte left. Everything else may have left.
        Ok(Err(error)) if reqwest::Error::is_connect(&error) => Outcome::NotSent(NotSent {
            cause: chain(&error),
            retry_after: None,
        }),
        Ok(Err(error)) => unknown(chain(&error)),
        Err(_) => unknown("no answer in time".to_owned()),
    }
}

/// The whole body; none when it is larger than allowed.
async fn read(
    mut response: reqwest::Response,
    most: usize,
) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

fn unknown(cause: String) -> Outcome {
    Outcome::Unknown(Unknown { cause })
}

/// The causes of an error without its URL, which may hold a key or a number.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::from("the connection failed");
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}
