//! How the gateway says no: one type for every refusal, its own and the services', and the one place
//! that writes it as an RFC 9457 problem document.
//! Deliberately absent: statuses and titles; the protos' error reasons have them.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use mainstay_proto::errors::v1::{ErrorReason, FieldViolation};
use mainstay_rpc::Problem;
use mainstay_runtime::telemetry;
use mainstay_transcode::{Schema, Verb, encode::encode_violations, encode_message};
use mainstay_types::ServiceName;
use serde_json::{Map, Value, json};
use std::error::Error as _;
use tonic::Status;

/// A refusal, before it is written. As a response it travels in the extensions until [`render`] writes it.
#[derive(Debug, Clone, Default)]
pub struct Refusal {
    /// Why.
    pub reason: ErrorReason,
    /// This occurrence, in words for the caller.
    pub detail: Option<String>,
    /// Fields at fault.
    pub errors: Vec<FieldViolation>,
    /// When trying again may help.
    pub retry_after_seconds: Option<i32>,
    /// The typed detail that the reason names.
    pub data: Option<Box<TypedDetail>>,
    /// For 405: what is allowed.
    pub allow: Vec<&'static str>,
}

/// The typed detail that a reason names, as it came.
#[derive(Debug, Clone)]
pub struct TypedDetail {
    /// The message's full name.
    pub name: String,
    /// The message, encoded.
    pub bytes: Vec<u8>,
}

impl Refusal {
    /// A refusal for a reason.
    pub fn new(reason: ErrorReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: Some(detail.into()),
            ..Self::default()
        }
    }

    /// Fields at fault.
    pub fn invalid(errors: Vec<FieldViolation>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.field.is_empty() => one.message.clone(),
            [one] => format!("{} {}", one.field, one.message),
            many => format!("{} fields are at fault.", many.len()),
        };
        Self {
            errors,
            ..Self::new(ErrorReason::InvalidRequest, detail)
        }
    }

    /// Try again later.
    pub fn unavailable(detail: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self {
            retry_after_seconds: Some(retry_after_seconds),
            ..Self::new(ErrorReason::Unavailable, detail)
        }
    }

    /// What a failed call to a service means for the caller.
    pub fn of_status(service: ServiceName, status: &Status) -> Self {
        let problem = Problem::from_status(status);
        // Logged here only when the service could not: it never saw the call, or its words were not ours.
        if let Some(source) = problem.source() {
            tracing::warn!(%service, error = %source, "a call to a service failed");
        }
        Self::from(problem)
    }

    /// A bug of ours: it carries nothing but the trace id.
    pub fn internal() -> Self {
        Self {
            reason: ErrorReason::Internal,
            ..Self::default()
        }
    }

    /// No such path.
    pub fn no_such_path() -> Self {
        Self::new(
            ErrorReason::NotFound,
            "There is no such path; /openapi.json lists those there are.",
        )
    }

    /// The path has other verbs.
    pub fn other_verbs(verbs: &[Verb]) -> Self {
        let mut allow = Vec::new();
        for verb in verbs {
            allow.push(verb.as_str());
            if *verb == Verb::Get {
                allow.push("HEAD");
            }
        }
        Self {
            detail: Some(format!("The path has {}.", allow.join(", "))),
            allow,
            ..Self::new(ErrorReason::MethodNotAllowed, "")
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        if matches!(
            problem.reason(),
            ErrorReason::Internal | ErrorReason::Unspecified
        ) {
            return Self::internal();
        }
        Self {
            reason: problem.reason(),
            detail: Some(problem.detail().to_owned()).filter(|detail| !detail.is_empty()),
            errors: problem.errors().to_vec(),
            retry_after_seconds: problem.retry_after_seconds(),
            data: problem.data().map(|any| {
                let name = any.type_url.rsplit('/').next().unwrap_or_default();
                Box::new(TypedDetail {
                    name: name.to_owned(),
                    bytes: any.value.clone(),
                })
            }),
            allow: Vec::new(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(Schema::mainstay(), self.reason);
        response.extensions_mut().insert(self);
        response
    }
}

fn status(schema: &Schema, reason: ErrorReason) -> StatusCode {
    schema
        .reason(reason)
        .and_then(|info| StatusCode::from_u16(info.status).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// What a problem document tells beside the refusal.
pub struct Occurrence<'a> {
    /// The public address.
    pub base_url: &'a str,
    /// The path that was asked.
    pub instance: &'a str,
    /// In whose trace.
    pub traceparent: &'a str,
}

/// Writes the refusal that a response carries; other responses pass.
pub fn render(mut response: Response, occurrence: &Occurrence<'_>) -> Response {
    let Some(refusal) = response.extensions_mut().remove::<Refusal>() else {
        return response;
    };
    let schema = Schema::mainstay();
    let body = document(schema, &refusal, occurrence);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    let status = status(schema, refusal.reason);
    match status {
        StatusCode::UNAUTHORIZED if refusal.reason == ErrorReason::Unauthenticated => {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"mainstay\""),
            );
        }
        // Pages have theirs set by the router.
        StatusCode::METHOD_NOT_ALLOWED if !refusal.allow.is_empty() => {
            if let Ok(allow) = HeaderValue::from_str(&refusal.allow.join(", ")) {
                headers.insert(header::ALLOW, allow);
            }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = refusal.retry_after_seconds.unwrap_or(1).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        _ => {}
    }
    *response.body_mut() = Body::from(body.to_string());
    response
}

fn document(schema: &Schema, refusal: &Refusal, occurrence: &Occurrence<'_>) -> Value {
    let trace_id = telemetry::trace_id_of(occurrence.traceparent);
    let Some(info) = schema.reason(refusal.reason) else {
        // Reasons are checked when the schema loads; only the unspecified one is missing.
        return json!({"title": "Internal error", "status": 500, "trace_id": trace_id});
    };
    let mut out = Map::new();
    out.insert(
        "type".into(),
        format!("{}/problems/{}", occurrence.base_url, info.code).into(),
    );
    out.insert("title".into(), info.title.as_str().into());
    out.insert("status".into(), info.status.into());
    out.insert("code".into(), info.code.as_str().into());
    out.insert("detail".into(), json!(refusal.detail));
    out.insert("instance".into(), occurrence.instance.into());
    out.insert("trace_id".into(), json!(trace_id));
    out.insert("errors".into(), encode_violations(&refusal.errors));
    out.insert(
        "retry_after_seconds".into(),
        json!(refusal.retry_after_seconds),
    );
    if let Some(TypedDetail { name, bytes }) = refusal.data.as_deref()
        && info.detail.as_deref() == Some(name)
        && let Some(fields) = encode_message(schema, name, bytes)
    {
        for (name, value) in fields {
            out.entry(name).or_insert(value);
        }
    }
    Value::Object(out)
}
