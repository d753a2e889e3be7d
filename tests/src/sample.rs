//! Requests made from the descriptors: the smallest valid body of any method, with ids of the caller's choice.
//! A new RPC is therefore tried by the matrices without anybody thinking of it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use mainstay_transcode::{Binding, MethodInfo};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value as Reflected};
use serde_json::{Map, Value, json};

/// Ids to put where a resource is asked for.
pub type Ids = BTreeMap<String, String>;

/// A place in a request that takes an id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The request's field.
    pub field: String,
    /// The noun whose id it takes.
    pub resource: String,
}

fn option(field: &FieldDescriptor, name: &str) -> Option<Reflected> {
    let extension = field.parent_pool().get_extension_by_name(name)?;
    let options = field.options();
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).into_owned())
}

/// The noun whose id the field takes.
pub fn resource(field: &FieldDescriptor) -> Option<String> {
    option(field, "mainstay.options.v1.resource")?
        .as_str()
        .map(str::to_owned)
}

fn rules(field: &FieldDescriptor) -> Option<DynamicMessage> {
    option(field, "mainstay.options.v1.rules")?
        .as_message()
        .cloned()
}

fn is_required(field: &FieldDescriptor) -> bool {
    rules(field).is_some_and(|rules| {
        rules
            .get_field_by_name("required")
            .and_then(|v| v.as_bool())
            .unwrap_or(false)
    })
}

fn has_example(field: &FieldDescriptor) -> bool {
    rules(field).is_some_and(|rules| {
        rules
            .get_field_by_name("example")
            .is_some_and(|example| example.as_str().is_some_and(|text| !text.is_empty()))
    })
}

/// Every place of a method's request that takes an id, those in nested lists too.
pub fn slots(method: &MethodInfo) -> Vec<Slot> {
    let mut found: Vec<Slot> = Vec::new();
    for field in method.input.fields() {
        if let Some(resource) = resource(&field) {
            found.push(Slot {
                field: field.name().to_owned(),
                resource,
            });
        } else if let Kind::Message(inner) = field.kind()
            && let Some(values) = inner.get_field_by_name("values")
            && let Some(resource) = resource(&values)
        {
            found.push(Slot {
                field: field.name().to_owned(),
                resource,
            });
        }
    }
    found
}

/// A fresh id of the resource that names nothing.
pub fn nonexistent(resource: &str) -> anyhow::Result<String> {
    let prefix =
        mainstay_types::prefix_of(resource).with_context(|| format!("no prefix for {resource}"))?;
    let like = mainstay_types::ClientId::from_uuid(uuid::Uuid::now_v7()).to_string();
    Ok(like.replacen("cli", prefix, 1))
}

/// A request: verb, path with query, body.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The verb.
    pub verb: String,
    /// The path, with its query.
    pub path: String,
    /// The body, for verbs that have one.
    pub body: Option<Value>,
}

/// The smallest valid request of a method, with these ids (by field name) where it asks for one. Optional
/// fields that take ids are filled too, for they are slots as well.
pub fn request(method: &MethodInfo, binding: &Binding, ids: &Ids, unique: &str) -> Sample {
    let mut path = binding.template.clone();
    let mut query = Vec::new();
    let mut body = Map::new();
    let verb = binding.verb.as_str().to_owned();
    let has_body = matches!(verb.as_str(), "POST" | "PUT" | "PATCH");
    for field in method.input.fields() {
        let name = field.name().to_owned();
        let placeholder = format!("{{{name}}}");
        if path.contains(&placeholder) {
            let id = ids.get(&name).cloned().unwrap_or_else(|| "missing".into());
            path = path.replace(&placeholder, &id);
        } else if let Some(id) = ids.get(&name) {
            let plain_list = matches!(field.kind(), Kind::Message(_)) || field.is_list();
            if has_body {
                body.insert(name, if plain_list { json!([id]) } else { json!(id) });
            } else {
                query.push(format!("{name}={id}"));
            }
        } else if has_body && field.is_map() && name == "variables" {
            // What the template needs that the example of `template` names.
            body.insert(name, json!({"business_name": "Acme"}));
        } else if has_body && name == "always_closed" {
            // A week may be left out only with this.
            body.insert(name, json!(true));
        } else if has_body && (is_required(&field) || has_example(&field)) {
            body.insert(name, value(&field, unique, 0));
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    Sample {
        verb,
        path,
        body: has_body.then_some(Value::Object(body)),
    }
}

fn value(field: &FieldDescriptor, unique: &str, depth: usize) -> Value {
    let one = single(field, unique, depth);
    if field.is_list() { json!([one]) } else { one }
}

fn single(field: &FieldDescriptor, unique: &str, depth: usize) -> Value {
    let rules = rules(field);
    let text = |name: &str| {
        rules
            .as_ref()
            .and_then(|r| {
                r.get_field_by_name(name)
                    .and_then(|v| v.as_str().map(str::to_owned))
            })
            .unwrap_or_default()
    };
    let format = rules
        .as_ref()
        .and_then(|r| {
            r.get_field_by_name("format")
                .and_then(|v| v.as_enum_number())
        })
        .unwrap_or(0);
    let example = text("example");
    let known = rules.as_ref().and_then(|rules| {
        let known = rules.get_field_by_name("one_of")?;
        Some(known.as_list()?.first()?.as_str()?.to_owned())
    });
    let least = rules
        .as_ref()
        .and_then(|rules| rules.get_field_by_name("min")?.as_i64())
        .unwrap_or(0);
    match field.kind() {
        Kind::String if known.is_some() => json!(known),
        Kind::String if field.name() == "email" || format == 1 => {
            json!(format!("{unique}@walls.test"))
        }
        Kind::String if format == 2 => json!("+15125550100"),
        Kind::String if format == 3 => json!("America/Chicago"),
        Kind::String if format == 4 => json!("usd"),
        Kind::String if format == 5 => json!("identity.clients.read"),
        Kind::String if field.name() == "role" => json!("agent"),
        Kind::String if format == 6 => json!(format!("w_{unique}").replace('-', "_")),
        Kind::String if field.name() == "name" => json!(format!("walls {unique}")),
        Kind::String if example.is_empty() => json!(format!("walls {unique}")),
        Kind::String => json!(example),
        Kind::Int32 | Kind::Int64 => json!(example.parse::<i64>().unwrap_or(least.max(1))),
        Kind::Double => json!(example.parse::<f64>().unwrap_or(1.0)),
        Kind::Bool => json!(false),
        // Asked for only where an appointment ends, and `booked`, the first, is no end.
        Kind::Enum(kind) if kind.name() == "AppointmentState" => json!("kept"),
        Kind::Enum(kind) => {
            let prefix = format!("{}_", screaming(kind.name()));
            let first = kind.values().find(|value| value.number() == 1);
            let name = first
                .map(|value| value.name().to_owned())
                .unwrap_or_default();
            json!(name.strip_prefix(&prefix).unwrap_or(&name).to_lowercase())
        }
        Kind::Message(inner) if inner.full_name() == "google.protobuf.Timestamp" => {
            json!("2031-05-01T15:00:00Z")
        }
        Kind::Message(inner) if depth < 6 => message(&inner, unique, depth + 1),
        _ => Value::Null,
    }
}

fn message(inner: &MessageDescriptor, unique: &str, depth: usize) -> Value {
    let mut object = Map::new();
    let sampled = |field: &FieldDescriptor| is_required(field) || has_example(field);
    for field in inner.fields().filter(sampled) {
        object.insert(field.name().to_owned(), value(&field, unique, depth));
    }
    Value::Object(object)
}

fn screaming(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.char_indices() {
        if c.is_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}
