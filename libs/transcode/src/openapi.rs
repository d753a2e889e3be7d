//! The OpenAPI 3.1 document of all public methods: addresses, parameters, bodies, answers and every way
//! to refuse, from the same descriptors that the codec reads, so that the two cannot disagree.
//! Deliberately absent: anything written by hand about one method.

mod problems;
mod types;

use std::collections::BTreeMap;

use mainstay_proto::options::v1::{AccessKind, Idempotency};
use serde_json::{Map, Value, json};

use crate::{
    Binding, MethodInfo, Schema, decode::IF_MATCH_PATTERN, schema::Body, shape::FieldShape,
};
use types::Types;

/// What the document says about the whole.
#[derive(Debug, Clone)]
pub struct Info {
    /// The product's version.
    pub version: String,
    /// Where the gateway is reached, without a trailing slash.
    pub base_url: String,
}

/// The document.
pub fn document(schema: &Schema, info: &Info) -> Value {
    let mut types = Types::new(schema);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    for method in schema.methods() {
        for (nth, binding) in method.bindings.iter().enumerate() {
            let verb = binding.verb.as_str().to_ascii_lowercase();
            let operation = operation(schema, &mut types, method, binding, nth);
            paths
                .entry(binding.template.clone())
                .or_default()
                .insert(verb, operation);
            tags.insert(tag(method), method.service_docs.clone());
        }
    }
    let mut schemas = types.finish();
    schemas.extend(problems::components(schema));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Mainstay",
            "version": info.version,
            "description": "Every error is a problem document (RFC 9457) whose `type` is a page of this server. \
                Every answer carries `x-request-id` and `traceparent`. Unknown request fields are refused; \
                `null` is the same as leaving a field out. Ids are TypeIDs: the prefix tells the kind of object.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": info.base_url}],
        "security": [{"bearer": []}],
        "tags": tags
            .iter()
            .map(|(name, docs)| json!({"name": name, "description": docs}))
            .collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {
                "RequestId": {
                    "description": "Names this request in logs; sent back as sent in.",
                    "schema": {"type": "string"},
                },
                "Traceparent": {
                    "description": "W3C trace context; a trace sent in is continued.",
                    "schema": {"type": "string"},
                },
                "ETag": {
                    "description": "The object's etag, for If-Match.",
                    "schema": {"type": "string"},
                },
                "RetryAfter": {
                    "description": "Seconds to wait before trying again.",
                    "schema": {"type": "string"},
                },
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token or an API key (`msk_…`).",
                },
            },
        },
    })
}

fn operation(
    schema: &Schema,
    types: &mut Types<'_>,
    method: &MethodInfo,
    binding: &Binding,
    nth: usize,
) -> Value {
    let mut out = Map::new();
    let mut id = lower_first(&method.name);
    if nth > 0 {
        id = format!("{id}{}", nth + 1);
    }
    out.insert("operationId".into(), id.into());
    out.insert("tags".into(), json!([tag(method)]));
    out.insert("summary".into(), first_sentence(&method.docs).into());
    out.insert("description".into(), description(method).into());
    if matches!(method.access_kind(), AccessKind::None | AccessKind::Link) {
        out.insert("security".into(), json!([]));
    }
    out.insert(
        "parameters".into(),
        parameters(types, method, binding).into(),
    );
    if binding.body == Body::All {
        let (body, required) = types.body(method, binding);
        out.insert(
            "requestBody".into(),
            json!({"required": required, "content": {"application/json": {"schema": body}}}),
        );
    }
    let mut responses = BTreeMap::new();
    for status in [Some(method.success_status()), method.accepted_status()]
        .into_iter()
        .flatten()
    {
        responses.insert(status.to_string(), success(types, method, status));
    }
    responses.extend(problems::responses(schema, method, binding));
    out.insert("responses".into(), json!(responses));
    Value::Object(out)
}

fn success(types: &mut Types<'_>, method: &MethodInfo, status: u16) -> Value {
    let mut headers = json!({
        "x-request-id": {"$ref": "#/components/headers/RequestId"},
        "traceparent": {"$ref": "#/components/headers/Traceparent"},
    });
    if method.output_shape().field("etag").is_some() {
        headers["etag"] = json!({"$ref": "#/components/headers/ETag"});
    }
    let description = match status {
        201 => "Created.",
        202 => "Accepted: it goes on; read the object to follow it.",
        204 => "Done; there is nothing to say.",
        _ => "Done.",
    };
    if status == 204 {
        return json!({"description": description, "headers": headers});
    }
    json!({
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": types.answer(method)}},
    })
}

fn parameters(types: &mut Types<'_>, method: &MethodInfo, binding: &Binding) -> Vec<Value> {
    let shape = method.input_shape();
    let mut out: Vec<Value> = binding
        .path_fields
        .iter()
        .filter_map(|name| shape.field(name))
        .map(|field| {
            json!({
                "name": field.name,
                "in": "path",
                "required": true,
                "description": field.docs,
                "schema": types.parameter(field, true),
            })
        })
        .collect();
    if binding.body == Body::None {
        let queried =
            |field: &&FieldShape| field.is_plain() && !binding.path_fields.contains(&field.name);
        for field in shape.fields.iter().filter(queried) {
            out.push(json!({
                "name": field.name,
                "in": "query",
                "required": field.rules.required,
                "description": field.docs,
                "schema": types.parameter(field, false),
            }));
        }
    }
    if method.idempotency() == Idempotency::Key {
        out.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "A repeat with the same key and content answers as the first did, for 48 hours.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": IDEMPOTENCY_KEY_PATTERN},
        }));
    }
    if shape.field("etag").is_some() {
        out.push(json!({
            "name": "If-Match",
            "in": "header",
            "required": false,
            "description": "The etag that was read; refused with 412 when the object has changed since.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": IF_MATCH_PATTERN},
        }));
    }
    out
}

/// What an `Idempotency-Key` may be: visible ASCII.
pub const IDEMPOTENCY_KEY_PATTERN: &str = "^[!-~]+$";

// `PlanService` of `mainstay.billing.v1` → `billing: plans`' heading, `Plan`.
fn tag(method: &MethodInfo) -> String {
    let own = method.service.rsplit('.').next().unwrap_or_default();
    own.strip_suffix("Service").unwrap_or(own).to_owned()
}

fn description(method: &MethodInfo) -> String {
    let mut out = method.docs.clone();
    let access = &method.access;
    if !access.permission.is_empty() {
        out.push_str(&format!(
            "\n\nNeeds the permission `{}`.",
            access.permission
        ));
    }
    out
}

fn first_sentence(docs: &str) -> &str {
    let line = docs.lines().next().unwrap_or_default();
    line.find(". ")
        .map_or(line, |at| &line[..at])
        .trim_end_matches('.')
}

fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    match chars.next() {
        Some(first) => first.to_ascii_lowercase().to_string() + chars.as_str(),
        None => String::new(),
    }
}
