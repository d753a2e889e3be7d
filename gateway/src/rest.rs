//! One REST request: route, count, identify, read, call, answer. The order is that of refusal: what is
//! cheap and says nothing about the caller comes first, who you are comes before what you sent.
//! Deliberately absent: authorisation; the service that owns the object does it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use mainstay_proto::{
    errors::v1::{ErrorReason, FieldViolation},
    options::v1::{AccessKind, RateClass},
};
use mainstay_transcode::{
    Found, MethodInfo, NotRouted, RequestParts, Schema, decode_request, encode_response, schema,
};
use mainstay_types::ServiceName;
use prost::Message as _;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::{
    app::{Caller, Gateway},
    credential::Identity,
    refusal::Refusal,
    trace::{RequestId, Route, Traceparent, header_text},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Set by a service that answers with its second success status (202 while a saga runs).
const ACCEPTED: &str = "x-mainstay-accepted";
/// What the deadline of a call is shorter than that of the request: time to answer in.
const ANSWER_MARGIN: Duration = Duration::from_millis(250);

/// Answers whatever is no page and no webhook.
pub async fn handle(
    State(gateway): State<Arc<Gateway>>,
    Extension(Caller(address)): Extension<Caller>,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    // HEAD is GET without its body, which hyper leaves out.
    let verb = match *request.method() {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    };
    let found = match Schema::mainstay().route(verb.as_str(), &path) {
        Ok(found) => found,
        Err(NotRouted::NoSuchPath) => return Refusal::no_such_path().into_response(),
        Err(NotRouted::OtherVerbs(verbs)) if verb == Method::OPTIONS => return options(&verbs),
        Err(NotRouted::OtherVerbs(verbs)) => return Refusal::other_verbs(&verbs).into_response(),
    };
    let mut response = answer(&gateway, &found, address, request)
        .await
        .unwrap_or_else(|refusal| refusal.into_response());
    response
        .extensions_mut()
        .insert(Route(found.binding.template.clone()));
    response
}

async fn answer(
    gateway: &Gateway,
    found: &Found<'_>,
    address: IpAddr,
    request: Request,
) -> Result<Response, Refusal> {
    let method = found.method;
    let _place = gateway.request_place()?;
    let (head, body) = request.into_parts();
    let mut metadata = metadata(&head.extensions);
    if !method.is_read()
        && let Some(key) = idempotency_key(&head.headers)?
    {
        metadata.insert("idempotency-key", key);
    }
    let known = identify(gateway, method, address, &head.headers, &metadata).await?;
    if let Some(identity) = &known {
        gateway
            .rates
            .principal(method.rate_class(), &identity.principal)?;
        metadata.insert("authorization", identity.bearer.clone());
    }
    let body = read_body(gateway, found, &head.headers, body).await?;
    let message = decode_request(
        found,
        RequestParts {
            query: head.uri.query().unwrap_or_default(),
            body: &body,
            // One that is no text is no etag either, and is not passed over.
            if_match: head
                .headers
                .get(header::IF_MATCH)
                .map(|given| given.to_str().unwrap_or_default()),
        },
    )
    .map_err(Refusal::invalid)?;
    let service: ServiceName = method.context.parse().map_err(|_| {
        tracing::error!(method = method.path, "no service owns this method");
        Refusal::internal()
    })?;
    let mut call = tonic::Request::new(Bytes::from(message.encode_to_vec()));
    *call.metadata_mut() = metadata;
    call.set_timeout(
        gateway
            .settings
            .request_timeout
            .saturating_sub(ANSWER_MARGIN),
    );
    let answer = gateway
        .channels
        .channel(service)
        .call_raw(method, call)
        .await
        .map_err(|status| match Refusal::of_status(service, &status) {
            // The credential held a moment ago: what was made of it ended before the service came to look, because it had
            // too much to do. That is not the caller's to mend.
            refusal if known.is_some() && refusal.reason == ErrorReason::Unauthenticated => {
                Refusal::unavailable("The service came to the request too late.", 1)
            }
            refusal => refusal,
        })?;
    write(method, answer)
}

async fn identify(
    gateway: &Gateway,
    method: &MethodInfo,
    address: IpAddr,
    headers: &HeaderMap,
    metadata: &MetadataMap,
) -> Result<Option<Arc<Identity>>, Refusal> {
    match method.access_kind() {
        AccessKind::None | AccessKind::Link => {
            if method.rate_class() == RateClass::Auth {
                gateway.rates.anonymous(address)?;
            }
            Ok(None)
        }
        AccessKind::Actor => {
            let answer = gateway
                .credentials
                .identify(headers, metadata.clone())
                .await;
            // Guessing is counted by address; a guesser has no credential to count by.
            if let Err(refusal) = &answer
                && refusal.reason == ErrorReason::Unauthenticated
                && headers.contains_key(header::AUTHORIZATION)
            {
                gateway.rates.anonymous(address)?;
            }
            answer.map(Some)
        }
        // The schema gives these no route.
        AccessKind::Service | AccessKind::Unspecified => Err(Refusal::no_such_path()),
    }
}

fn metadata(extensions: &http::Extensions) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    if let Some(RequestId(id)) = extensions.get()
        && let Ok(id) = MetadataValue::try_from(id.as_bytes())
    {
        metadata.insert("x-request-id", id);
    }
    if let Some(Traceparent(text)) = extensions.get()
        && let Ok(text) = MetadataValue::try_from(text.as_str())
    {
        metadata.insert("traceparent", text);
    }
    metadata
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<MetadataValue<Ascii>>, Refusal> {
    let wrong = |message: &str| {
        Refusal::invalid(vec![FieldViolation {
            field: "Idempotency-Key".to_owned(),
            message: message.to_owned(),
        }])
    };
    let mut sent = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(key) = sent.next() else {
        return Ok(None);
    };
    if sent.next().is_some() {
        return Err(wrong("is given more than once"));
    }
    let bytes = key.as_bytes();
    if !(1..=255).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(wrong("must have 1 to 255 visible ASCII characters"));
    }
    MetadataValue::try_from(bytes)
        .map(Some)
        .map_err(|_| wrong("must have 1 to 255 visible ASCII characters"))
}

async fn read_body(
    gateway: &Gateway,
    found: &Found<'_>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Refusal> {
    let bytes = read_bounded(body, gateway.settings.body_max_bytes).await?;
    // A body where none belongs is the codec's to refuse, whatever it is made of.
    if found.binding.body == schema::Body::All && !bytes.is_empty() && !is_json(headers) {
        return Err(Refusal::new(
            ErrorReason::UnsupportedMediaType,
            "The body must be application/json in UTF-8.",
        ));
    }
    Ok(bytes)
}

/// The whole body, or 413 as soon as it is known to be longer.
pub async fn read_bounded(body: Body, most: usize) -> Result<Bytes, Refusal> {
    use http_body_util::{BodyExt as _, LengthLimitError, Limited};
    match Limited::new(body, most).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::new(
            ErrorReason::PayloadTooLarge,
            format!("The body may have at most {most} bytes."),
        )),
        Err(_) => Err(Refusal::invalid(vec![FieldViolation {
            field: String::new(),
            message: "the body ended early".to_owned(),
        }])),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(sent) = header_text(headers, &header::CONTENT_TYPE) else {
        return false;
    };
    let mut parts = sent.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let utf8 = parts.all(|parameter| {
        let parameter = parameter.to_ascii_lowercase();
        !parameter.starts_with("charset=")
            || matches!(
                parameter.trim_start_matches("charset=").trim_matches('"'),
                "utf-8" | "utf8"
            )
    });
    (media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")))
        && utf8
}

fn write(method: &MethodInfo, answer: tonic::Response<Bytes>) -> Result<Response, Refusal> {
    let accepted = method
        .accepted_status()
        .filter(|_| answer.metadata().contains_key(ACCEPTED));
    let status = accepted.unwrap_or(method.success_status());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let json = encode_response(method, &answer.into_inner()).map_err(|error| {
        tracing::error!(%error, method = method.path, "a service's answer cannot be read");
        Refusal::internal()
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let etag = json.get("etag").and_then(serde_json::Value::as_str);
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&format!("\"{etag}\"")).ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        *response.body_mut() = Body::from(json.to_string());
    }
    Ok(response)
}

fn options(verbs: &[mainstay_transcode::Verb]) -> Response {
    let allow = Refusal::other_verbs(verbs).allow.join(", ");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
