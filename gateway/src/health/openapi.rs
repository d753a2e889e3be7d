//! `/v1/health` in the OpenAPI document: the one public address that is no method of a service, so it is written by hand.
//! Deliberately absent: anything the answer may leave out. Every field is there in every answer; what is not known is null.

use serde_json::{Value, json};

/// Adds it.
pub fn describe(document: &mut Value) {
    let answer = |description: &str| {
        json!({
            "description": description,
            "headers": {
                "x-request-id": {"$ref": "#/components/headers/RequestId"},
                "traceparent": {"$ref": "#/components/headers/Traceparent"},
            },
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HealthReport"}}},
        })
    };
    document["paths"]["/v1/health"] = json!({
        "get": {
            "operationId": "getHealth",
            "tags": ["Health"],
            "summary": "Tells how the services stand",
            "description": "Each service as it says of itself, its database, queues, providers and caches, asked at most \
                once a second. The whole stands as the worst of its services. Counts stop at 10,000; rates and \
                latencies are of the last five minutes.",
            "security": [],
            "parameters": [],
            "responses": {
                "200": answer("Everything answers; `degraded` says that something is slow or missing."),
                "503": answer("Some service does not work."),
            },
        },
    });
    let tag = json!({"name": "Health", "description": "How the services stand."});
    match document["tags"].as_array_mut() {
        Some(tags) => tags.push(tag),
        None => document["tags"] = json!([tag]),
    }
    let schemas = &mut document["components"]["schemas"];
    for (name, schema) in schemas_of_health() {
        schemas[name] = schema;
    }
}

fn schemas_of_health() -> [(&'static str, Value); 3] {
    let list = |items: Value| json!({"type": "array", "items": items});
    let status = || json!({"type": "string", "enum": ["healthy", "degraded", "unhealthy"]});
    let text = || json!({"type": "string"});
    let count = || json!({"type": "integer", "minimum": 0});
    let number = || json!({"type": "number", "minimum": 0});
    let maybe = |what: &str| json!({"type": [what, "null"], "minimum": 0});
    let rate = || json!({"type": "number", "minimum": 0, "maximum": 1});
    let calls = json!({"$ref": "#/components/schemas/HealthCalls"});

    let pool = object(json!({
        "role": {"type": "string", "enum": ["app", "worker", "inbox"]},
        "open": count(), "idle": count(), "limit": count(),
    }));
    let database = object(json!({
        "status": status(), "latency_ms": number(), "pools": list(pool),
    }));
    let queue = object(json!({
        "name": text(), "ready": count(), "oldest_ready_seconds": maybe("number"), "running": count(), "dead": count(),
    }));
    let provider = object(json!({
        "name": text(), "status": status(), "calls": calls, "last_success_seconds_ago": maybe("number"),
    }));
    let cache = object(json!({
        "name": text(), "lookups": count(),
        "hit_rate": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    }));
    let components = object(json!({
        "parts": list(object(json!({"name": text(), "status": status()}))),
        "database": {"anyOf": [database, {"type": "null"}]},
        "queues": list(queue),
        "providers": list(provider),
        "caches": list(cache),
    }));
    let service = object(json!({
        "name": text(),
        "status": status(),
        "latency_ms": number(),
        "version": {"type": ["string", "null"]},
        "uptime_seconds": maybe("integer"),
        "components": components,
        "calls": {"anyOf": [calls, {"type": "null"}]},
    }));
    let alert = object(json!({
        "code": text(),
        "severity": {"type": "string", "enum": ["warning", "critical"]},
        "service": text(),
        "detail": text(),
    }));
    let whole = object(json!({
        "status": status(),
        "version": text(),
        "uptime_seconds": count(),
        "checked_at": {"type": "string", "format": "date-time"},
        "services": list(json!({"$ref": "#/components/schemas/HealthService"})),
        "active_alerts": list(alert),
    }));
    let calls = object(json!({
        "requests": count(), "error_rate": rate(), "mean_latency_ms": maybe("number"),
    }));
    [
        ("HealthReport", whole),
        ("HealthService", service),
        ("HealthCalls", calls),
    ]
}

/// An object with all of these fields and no other.
fn object(properties: Value) -> Value {
    let names: Vec<&String> = properties
        .as_object()
        .map(|fields| fields.keys().collect())
        .unwrap_or_default();
    let required = json!(names);
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}
