//! Owns the walk of a request through a simulated provider, from bytes to answer: who asks, which operation is meant,
//! what faults strike, the one transaction, the answer held back.
//!
//! - `Provider` is what a simulator says of itself; `handle` walks.
//! - Stripe's walk is its own (`crate::stripe`), because its idempotency keys wrap everything; it shares the pieces.
//!
//! Deliberately absent: what any provider's errors look like. Each says that itself.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::Response;
use base64::Engine;
use http::{HeaderMap, Method, StatusCode, header};
use mainstay_runtime::telemetry;
use serde_json::Value;
use tracing::Instrument;

use crate::core::Core;
use crate::faults::{Covered, Refusal, Strike};
use crate::idempotency::{self, Claim};
use crate::store::{Origin, Record, Tx, World};
use crate::time;

pub(crate) const LARGEST_BODY: usize = 1024 * 1024;
/// What a refusal for reasons of load tells the client to wait.
pub(crate) const RETRY_AFTER_SECONDS: &str = "1";

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Request {
    pub method: Method,
    /// Below the provider's own root.
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header_text(&self.headers, name)
    }

    /// What stands behind `Bearer`.
    pub(crate) fn bearer(&self) -> Option<String> {
        match credentials(&self.headers)? {
            Credentials::Bearer(key) if !key.is_empty() => Some(key),
            _ => None,
        }
    }
}

/// An answer on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Arc<str>,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Reply {
        Reply {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: crate::shown::text(&crate::shown::Public(body)).into(),
        }
    }

    pub(crate) fn empty(status: u16) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: "".into(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body.to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in &self.headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(*name, value);
            }
        }
        response
    }
}

/// One thing a provider's API does. `name` is what faults and traces call it.
pub(crate) struct Operation {
    pub method: &'static str,
    /// As the provider documents it, `{…}` standing for one segment or its beginning.
    pub path: &'static str,
    pub name: &'static str,
    pub run: Run,
}

/// `Err` is an answer too; nothing that was staged before it happens.
pub(crate) type Run = fn(&mut Tx<'_>, &Call<'_>) -> Result<Reply, Reply>;

/// One request as an operation sees it.
pub(crate) struct Call<'a> {
    /// What stands in the path's `{…}`, in order.
    pub ids: Vec<String>,
    /// Whose credentials were shown.
    pub account: &'a Value,
    pub request: &'a Request,
}

/// An idempotency key, made unique among providers and accounts, with what it was used for.
pub(crate) struct Key {
    pub key: String,
    pub fingerprint: String,
}

/// Why an idempotency key does not lead to an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyConflict {
    InFlight,
    OtherRequest,
}

/// What a simulator says of itself.
pub(crate) trait Provider: 'static {
    /// What faults and traces call it.
    const NAME: &'static str;
    const OPERATIONS: &'static [&'static [Operation]];

    /// The account whose credentials the request shows.
    fn authenticate(world: &World, request: &Request) -> Result<Value, Reply>;

    fn no_such_path(request: &Request) -> Reply;

    /// What the provider answers with this status when it is not the request's fault.
    fn refusal(status: u16) -> Reply;

    /// Idempotency keys are the exception.
    fn key(_: &Operation, _: &Request, _: &Value) -> Result<Option<Key>, Reply> {
        Ok(None)
    }

    fn key_conflict(_: KeyConflict) -> Reply {
        Self::refusal(409)
    }

    /// Headers that every answer has.
    fn sign_off(reply: Reply) -> Reply {
        reply
    }
}

/// Is there an operation that a fault of this pattern could strike?
pub(crate) fn has_operation<P: Provider>(covered: Covered<'_>) -> bool {
    let mut operations = P::OPERATIONS.iter().flat_map(|some| some.iter());
    operations.any(|one| covered(one.name) || covered(&route(one.method, one.path)))
}

/// Works in a task of its own: once it has arrived, a request is carried out even if the caller hangs up, as it
/// would be at the real provider.
pub(crate) async fn handle<P: Provider>(core: Arc<Core>, request: http::Request<Body>) -> Response {
    let work = tokio::spawn(walk::<P>(core, request));
    work.await
        .unwrap_or_else(|_| P::refusal(500).into_response())
}

async fn walk<P: Provider>(core: Arc<Core>, request: http::Request<Body>) -> Response {
    let Ok(_slot) = core.slots.try_acquire() else {
        return P::sign_off(P::refusal(429)).into_response();
    };
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        return P::sign_off(P::refusal(413)).into_response();
    };
    let request = Request {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
    };
    let found = find(P::OPERATIONS, &request);
    let name = found.as_ref().map_or("unknown", |(one, _)| one.name);
    let span = tracing::info_span!(
        "sim",
        otel.name = format!("{}.sim {name}", P::NAME),
        mainstay.role = "sandbox",
        operation = name,
        status = tracing::field::Empty,
    );
    if let Some(parent) = request.header("traceparent") {
        telemetry::set_parent(&span, parent);
    }
    let reply = perform::<P>(&core, &request, found)
        .instrument(span.clone())
        .await;
    let Some(reply) = reply else {
        return broken_connection();
    };
    span.record("status", reply.status);
    P::sign_off(reply).into_response()
}

/// The answer, or none where a fault cuts the connection.
async fn perform<P: Provider>(
    core: &Arc<Core>,
    request: &Request,
    found: Option<(&'static Operation, Vec<String>)>,
) -> Option<Reply> {
    let account = match core.read(|world| P::authenticate(world, request)) {
        Ok(account) => account,
        Err(reply) => return Some(reply),
    };
    let Some((operation, ids)) = found else {
        return Some(P::no_such_path(request));
    };
    let key = match P::key(operation, request, &account) {
        Ok(key) => key,
        Err(reply) => return Some(reply),
    };
    let claim = match &key {
        None => None,
        Some(key) => match idempotency::claim(core, &key.key, &key.fingerprint) {
            Claim::Mine(guard) => Some(guard),
            Claim::InFlight => return Some(P::key_conflict(KeyConflict::InFlight)),
            Claim::OtherRequest => return Some(P::key_conflict(KeyConflict::OtherRequest)),
            Claim::Answered(answer) => {
                let mut reply = Reply::json(answer.status, &Value::Null);
                reply.body = answer.body;
                return Some(reply);
            }
        },
    };
    let strike = strike(
        core,
        P::NAME,
        operation.name,
        operation.method,
        operation.path,
    )
    .await;
    if strike.drop {
        return None;
    }
    time::catch_up(core);
    let origin = Origin {
        operation: operation.name.to_owned(),
        traceparent: traceparent(&request.headers),
        ..Origin::default()
    };
    let call = Call {
        ids,
        account: &account,
        request,
    };
    let committed = core.commit(|world| {
        let refusal = match strike.refusal {
            Some(Refusal::Status(status)) => Some(status),
            Some(Refusal::LockTimeout) => Some(429),
            None => None,
        };
        if let Some(status) = refusal {
            return (Record::default(), P::refusal(status));
        }
        let mut tx = Tx::new(world, world.now(), origin);
        match (operation.run)(&mut tx, &call) {
            Err(reply) => (Record::default(), reply),
            Ok(reply) => {
                let now = tx.now;
                let mut record = tx.into_record();
                record.answer = key.map(|key| idempotency::stored(key, &reply, now));
                (record, reply)
            }
        }
    });
    drop(claim);
    let reply = committed.unwrap_or_else(|error| {
        tracing::error!(%error, "the simulators' journal cannot be written; nothing was done");
        P::refusal(500)
    });
    if let Some(duration) = strike.hold_after_effect {
        core.faults.hold(duration).await;
    }
    Some(reply)
}

/// What faults do to this request; latency has passed when this returns.
pub(crate) async fn strike(
    core: &Core,
    provider: &str,
    name: &str,
    method: &str,
    path: &str,
) -> Strike {
    let strike = core
        .faults
        .strike_request(provider, &[name, &route(method, path)]);
    if let Some(latency) = strike.latency {
        core.faults.hold(latency).await;
    }
    strike
}

/// `POST /v1/customers`, as faults may name an operation.
pub(crate) fn route(method: &str, path: &str) -> String {
    format!("{method} {path}")
}

fn find(
    operations: &'static [&'static [Operation]],
    request: &Request,
) -> Option<(&'static Operation, Vec<String>)> {
    operations
        .iter()
        .flat_map(|some| some.iter())
        .filter(|one| one.method == request.method.as_str())
        .find_map(|one| Some((one, matches(one.path, &request.path)?)))
}

/// What stands in the pattern's `{…}`: one segment each, less what the pattern has behind the brace.
pub(crate) fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut ids = Vec::new();
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        let segment = segments.next()?;
        match wanted
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
        {
            Some((_, behind)) => {
                let id = segment.strip_suffix(behind).filter(|id| !id.is_empty())?;
                ids.push(id.to_owned());
            }
            None if wanted == segment => {}
            None => return None,
        }
    }
    segments.next().is_none().then_some(ids)
}

pub(crate) fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Our own span where telemetry runs, so that the webhooks hang below this call; else what came in.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    telemetry::current_traceparent()
        .or_else(|| header_text(headers, "traceparent").map(str::to_owned))
}

/// What an `Authorization` header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    Bearer(String),
    Basic { user: String, password: String },
}

pub(crate) fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let value = header_text(headers, header::AUTHORIZATION.as_str())?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credentials::Bearer(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(rest.trim())
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':').unwrap_or((&text, ""));
    Some(Credentials::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// A response whose body fails before its first byte: the server closes the connection with nothing sent.
pub(crate) fn broken_connection() -> Response {
    #[derive(Debug)]
    struct Broken;
    impl http_body::Body for Broken {
        type Data = Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
            std::task::Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
        }
    }
    Response::new(Body::new(Broken))
}

/// For the tests of a provider: operations are named once, and no pattern hides another.
#[cfg(test)]
pub(crate) fn check_operations<P: Provider>() {
    let mut names = std::collections::HashSet::new();
    for operation in P::OPERATIONS.iter().flat_map(|some| some.iter()) {
        assert!(names.insert(operation.name), "{} twice", operation.name);
        let path: Vec<String> = operation
            .path
            .split('/')
            .map(|one| match one.strip_prefix('{') {
                Some(rest) => format!("x_1{}", rest.split_once('}').expect("closed").1),
                None => one.to_owned(),
            })
            .collect();
        let request = Request {
            method: Method::from_bytes(operation.method.as_bytes()).expect("a method"),
            path: path.join("/"),
            query: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let (found, _) = find(P::OPERATIONS, &request).expect("found");
        assert_eq!(found.name, operation.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_one_segment_or_its_beginning() {
        let pattern = "/2010-04-01/Accounts/{AccountSid}/Messages/{Sid}.json";
        let ids = |path: &str| matches(pattern, path);
        assert_eq!(
            ids("/2010-04-01/Accounts/AC1/Messages/SM1.json"),
            Some(vec!["AC1".to_owned(), "SM1".to_owned()])
        );
        for other in [
            "/2010-04-01/Accounts/AC1/Messages/SM1",
            "/2010-04-01/Accounts/AC1/Messages/.json",
            "/2010-04-01/Accounts//Messages/SM1.json",
            "/2010-04-01/Accounts/AC1/Messages/SM1.json/Media",
            "/2010-04-01/Accounts/AC1/Messages.json",
        ] {
            assert_eq!(ids(other), None, "{other}");
        }
    }

    #[test]
    fn credentials_are_read_in_both_spellings() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", value.parse().expect("a header"));
            credentials(&headers)
        };
        assert_eq!(read("bearer  k1 "), Some(Credentials::Bearer("k1".into())));
        let (user, password) = ("AC1".to_owned(), "a:b".to_owned());
        assert_eq!(
            read("Basic QUMxOmE6Yg=="),
            Some(Credentials::Basic { user, password })
        );
        assert_eq!(read("Basic !"), None);
        assert_eq!(read("Digest x"), None);
    }
}
