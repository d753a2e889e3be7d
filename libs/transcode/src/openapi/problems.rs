//! How methods refuse, as OpenAPI responses: one schema per reason, one response per status.
//! Deliberately absent: texts; the protos' error reasons have them.

use std::collections::BTreeMap;

use mainstay_proto::{
    errors::v1::ErrorReason,
    options::v1::{AccessKind, Idempotency},
};
use serde_json::{Map, Value, json};

use super::types;
use crate::{Binding, MethodInfo, ReasonInfo, Schema, schema::Body, shape::ValueShape};

/// `Problem` and one schema per reason.
pub(super) fn components(schema: &Schema) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    out.insert("Problem".to_owned(), problem());
    for info in schema.reasons() {
        out.insert(component(info), of_reason(schema, info));
    }
    out
}

/// The refusals of one method, by status.
pub(super) fn responses(
    schema: &Schema,
    method: &MethodInfo,
    binding: &Binding,
) -> BTreeMap<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<&ReasonInfo>> = BTreeMap::new();
    let mut reasons: Vec<ErrorReason> = common(method, binding);
    reasons.extend(method.errors());
    for reason in reasons {
        let Some(info) = schema.reason(reason) else {
            continue;
        };
        let known = by_status.entry(info.status).or_default();
        if known.iter().all(|other| other.reason != reason) {
            known.push(info);
        }
    }
    by_status
        .into_iter()
        .map(|(status, reasons)| (status.to_string(), response(status, &reasons)))
        .collect()
}

fn response(status: u16, reasons: &[&ReasonInfo]) -> Value {
    let titles: Vec<String> = reasons
        .iter()
        .map(|info| format!("`{}`: {}.", info.code, info.title))
        .collect();
    let mut schemas: Vec<Value> = reasons
        .iter()
        .map(|info| json!({"$ref": format!("#/components/schemas/{}", component(info))}))
        .collect();
    let body = if schemas.len() == 1 {
        schemas.remove(0)
    } else {
        json!({"anyOf": schemas})
    };
    let mut headers = json!({
        "x-request-id": {"$ref": "#/components/headers/RequestId"},
        "traceparent": {"$ref": "#/components/headers/Traceparent"},
    });
    if matches!(status, 429 | 503) {
        headers["retry-after"] = json!({"$ref": "#/components/headers/RetryAfter"});
    }
    json!({
        "description": titles.join(" "),
        "headers": headers,
        "content": {"application/problem+json": {"schema": body}},
    })
}

// What any method of its kind may refuse with.
fn common(method: &MethodInfo, binding: &Binding) -> Vec<ErrorReason> {
    let mut out = vec![
        ErrorReason::InvalidRequest,
        ErrorReason::PayloadTooLarge,
        ErrorReason::RateLimited,
        ErrorReason::Unavailable,
        ErrorReason::DeadlineExceeded,
        ErrorReason::Internal,
    ];
    if method.access_kind() == AccessKind::Actor {
        out.push(ErrorReason::Unauthenticated);
        if !method.access.permission.is_empty() {
            out.push(ErrorReason::PermissionDenied);
        }
    }
    let names_something = method.input_shape().fields.iter().any(|field| {
        // Ids in a plain list name something as well.
        let listed = match field.kind {
            ValueShape::Message(at) => method.shapes.get(at).plain_list(),
            _ => None,
        };
        field.resource.is_some() || listed.is_some_and(|values| values.resource.is_some())
    });
    if names_something || !binding.path_fields.is_empty() {
        out.push(ErrorReason::NotFound);
    }
    if binding.body == Body::All {
        out.push(ErrorReason::UnsupportedMediaType);
    }
    if method.idempotency() == Idempotency::Key {
        out.push(ErrorReason::IdempotencyKeyReused);
        out.push(ErrorReason::IdempotencyInFlight);
    }
    out
}

fn component(info: &ReasonInfo) -> String {
    let camel: String = info
        .code
        .split('_')
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map_or_else(String::new, |first| {
                first.to_ascii_uppercase().to_string() + chars.as_str()
            })
        })
        .collect();
    format!("{camel}Problem")
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail", "instance", "trace_id", "errors", "retry_after_seconds"],
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "The page that explains it."},
            "title": {"type": "string", "description": "The same for every occurrence."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"type": "string", "description": "The reason, for programs."},
            "detail": {"type": ["string", "null"], "description": "This occurrence, in words."},
            "instance": {"type": "string", "description": "The path that was asked."},
            "trace_id": {"type": ["string", "null"], "description": "Names the whole story in the traces."},
            "errors": {
                "type": "array",
                "description": "Every field at fault.",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {
                        "field": {"type": "string", "description": "Its path: `prices[0].amount_minor`; empty for the body as a whole."},
                        "message": {"type": "string"},
                    },
                },
            },
            "retry_after_seconds": {"type": ["integer", "null"], "minimum": 0},
        },
    })
}

fn of_reason(schema: &Schema, info: &ReasonInfo) -> Value {
    let mut properties = Map::new();
    properties.insert("code".into(), json!({"const": info.code}));
    properties.insert("status".into(), json!({"const": info.status}));
    if let Some(shape) = info
        .detail
        .as_deref()
        .and_then(|name| schema.shapes().find(name))
    {
        // Details are flat messages of scalars, so they need no components of their own.
        for field in &shape.fields {
            properties.insert(field.name.clone(), types::flat(schema.shapes(), field));
        }
    }
    json!({
        "description": format!("{}\n\n{}", info.explanation, info.mend),
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "type": "object",
        "required": ["code", "status"],
        "properties": properties,
    })
}
