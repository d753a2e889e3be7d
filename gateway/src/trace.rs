//! The outermost layer: a span for each request, `x-request-id`, `traceparent` and browsers' guards on every answer, one log
//! line for each failure of ours, and the writing of refusals (they name the trace, so it happens here).
//! Deliberately absent: bodies, queries and credentials; they never reach a span or a log.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use mainstay_runtime::telemetry;
use mainstay_transcode::Schema;
use tracing::{Instrument as _, Span, field};
use uuid::Uuid;

use crate::{
    app::Gateway,
    health,
    refusal::{self, Occurrence},
    webhooks,
};

/// `x-request-id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The request's id, for the metadata of calls.
#[derive(Debug, Clone)]
pub struct RequestId(pub HeaderValue);

/// The trace context, for calls and stored webhooks.
#[derive(Debug, Clone)]
pub struct Traceparent(pub String);

/// The route's template, set by whoever routes, for the span.
#[derive(Debug, Clone)]
pub struct Route(pub String);

/// Wraps every request.
pub async fn layer(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let sent = header_text(request.headers(), &TRACEPARENT).map(str::to_owned);
    let span = tracing::info_span!(
        "http",
        "otel.name" = span_name(&method, &path),
        "otel.kind" = "server",
        "otel.status_code" = field::Empty,
        "mainstay.role" = "gateway",
        "http.request.method" = %method,
        "http.route" = field::Empty,
        "http.response.status_code" = field::Empty,
        "mainstay.request_id" = id.to_str().unwrap_or_default(),
        "mainstay.code" = field::Empty,
    );
    if let Some(parent) = &sent {
        telemetry::set_parent(&span, parent);
    }
    let traceparent = span
        .in_scope(telemetry::current_traceparent)
        .unwrap_or_else(|| untraced(sent.as_deref()));
    request.extensions_mut().insert(RequestId(id.clone()));
    request
        .extensions_mut()
        .insert(Traceparent(traceparent.clone()));

    let response = next.run(request).instrument(span.clone()).await;

    let took = started.elapsed();
    let status = response.status();
    if !health::is_question(&path) {
        gateway.calls.count(status.is_server_error(), took);
    }
    describe(&span, &response);
    if status.is_server_error() {
        let reason = response
            .extensions()
            .get::<refusal::Refusal>()
            .map(|refusal| refusal.reason);
        span.in_scope(|| {
            tracing::warn!(
                status = status.as_u16(),
                reason = reason.map(|reason| reason.as_str_name()),
                took_ms = took.as_millis(),
                "a request failed"
            );
        });
    }
    let mut response = refusal::render(
        response,
        &Occurrence {
            base_url: &gateway.settings.base_url,
            instance: &path,
            traceparent: &traceparent,
        },
    );
    let headers = response.headers_mut();
    guard(headers, gateway.settings.base_url.starts_with("https://"));
    headers.insert(REQUEST_ID, id);
    if let Ok(value) = HeaderValue::from_str(&traceparent) {
        headers.insert(TRACEPARENT, value);
    }
    response
}

/// What every answer tells browsers, unless a page says otherwise.
fn guard(headers: &mut HeaderMap, encrypted: bool) {
    const EACH: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in EACH {
        let entry = headers.entry(name);
        entry.or_insert(HeaderValue::from_static(value));
    }
    if encrypted {
        headers
            .entry(header::STRICT_TRANSPORT_SECURITY)
            .or_insert(HeaderValue::from_static(
                "max-age=31536000; includeSubDomains",
            ));
    }
}

/// A span is named when it starts, which is before anything routes. Never by the path itself: that is the caller's
/// text, without bound.
fn span_name(method: &http::Method, path: &str) -> String {
    if let Some(provider) = webhooks::provider_of(path) {
        return format!("{method} /webhooks/{provider}");
    }
    match Schema::mainstay().route(method.as_str(), path) {
        Ok(found) => format!("{method} {}", found.binding.template),
        Err(_) => method.to_string(),
    }
}

fn describe(span: &Span, response: &Response) {
    let (status, said) = (response.status(), response.extensions());
    let route = said.get::<Route>().map(|Route(route)| route.as_str());
    let refused = said.get::<refusal::Refusal>();
    // All at once: each record looks the span up.
    tracing::record_all!(
        span,
        "http.route" = route,
        "http.response.status_code" = i64::from(status.as_u16()),
        "mainstay.code" = refused.map(|refusal| refusal.reason.as_str_name()),
        "otel.status_code" = status.is_server_error().then_some("ERROR"),
    );
}

// A sent id is kept when it is short and visible; anything else gets one of ours.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sent = headers.get(&REQUEST_ID).filter(|id| {
        (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    match sent {
        Some(id) => id.clone(),
        None => {
            let id = mainstay_types::RequestId::generate().to_string();
            HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("req"))
        }
    }
}

// Without telemetry (or for a trace that is not sampled) the promise to continue a trace still holds.
fn untraced(sent: Option<&str>) -> String {
    let span = Uuid::new_v4().as_u64_pair().0 | 1;
    let trace = sent
        .and_then(telemetry::trace_id_of)
        .unwrap_or_else(|| Uuid::new_v4().simple().to_string());
    format!("00-{trace}-{span:016x}-00")
}

/// A header as text, when it is there once and is text.
pub fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
