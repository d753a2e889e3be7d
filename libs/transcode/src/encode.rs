//! Messages to answer JSON: every field present, what is absent `null`, enums by their bare names,
//! integers as numbers, times in UTC. Deliberately absent: leaving out defaults; clients read one shape.

use chrono::{DateTime, SecondsFormat};
use mainstay_proto::errors::v1::FieldViolation;
use prost_reflect::{DynamicMessage, MapKey, Value, prost::DecodeError};
use serde_json::{Map, Number, Value as Out};

use crate::{
    MethodInfo, Schema,
    shape::{FieldShape, Many, MessageShape, Shapes, ValueShape},
};

/// A service's answer bytes as the JSON body of the REST answer.
pub fn encode_response(method: &MethodInfo, bytes: &[u8]) -> Result<Out, DecodeError> {
    let message = DynamicMessage::decode(method.output.clone(), bytes)?;
    Ok(object(&method.shapes, method.output_shape(), &message))
}

/// Any message that the schema reaches (a problem's typed detail) as a JSON object; `None` for one it does not.
pub fn encode_message(schema: &Schema, full_name: &str, bytes: &[u8]) -> Option<Map<String, Out>> {
    let shape = schema.shapes().find(full_name)?;
    let message = DynamicMessage::decode(shape.descriptor.clone(), bytes).ok()?;
    match object(schema.shapes(), shape, &message) {
        Out::Object(map) => Some(map),
        _ => None,
    }
}

/// Violations as problem documents list them.
pub fn encode_violations(violations: &[FieldViolation]) -> Out {
    violations
        .iter()
        .map(|violation| {
            let mut entry = Map::new();
            entry.insert("field".to_owned(), violation.field.as_str().into());
            entry.insert("message".to_owned(), violation.message.as_str().into());
            Out::Object(entry)
        })
        .collect()
}

fn object(shapes: &Shapes, shape: &MessageShape, message: &DynamicMessage) -> Out {
    let mut out = Map::with_capacity(shape.fields.len());
    for field in &shape.fields {
        out.insert(field.name.clone(), self::field(shapes, field, message));
    }
    Out::Object(out)
}

fn field(shapes: &Shapes, field: &FieldShape, message: &DynamicMessage) -> Out {
    if field.many == Many::One
        && field.descriptor.supports_presence()
        && !message.has_field(&field.descriptor)
    {
        return Out::Null;
    }
    match message.get_field(&field.descriptor).as_ref() {
        Value::List(items) => items
            .iter()
            .map(|item| value(shapes, &field.kind, item))
            .collect(),
        Value::Map(entries) => {
            // Sorted, so that equal answers are equal bytes.
            let mut entries: Vec<(&str, &Value)> = entries
                .iter()
                .filter_map(|(key, value)| match key {
                    MapKey::String(key) => Some((key.as_str(), value)),
                    _ => None,
                })
                .collect();
            entries.sort_by_key(|(key, _)| *key);
            Out::Object(
                entries
                    .into_iter()
                    .map(|(key, item)| (key.to_owned(), value(shapes, &field.kind, item)))
                    .collect(),
            )
        }
        one => value(shapes, &field.kind, one),
    }
}

fn value(shapes: &Shapes, kind: &ValueShape, given: &Value) -> Out {
    match given {
        Value::Bool(flag) => (*flag).into(),
        Value::I32(number) => (*number).into(),
        Value::I64(number) => (*number).into(),
        Value::U32(number) => (*number).into(),
        Value::U64(number) => (*number).into(),
        Value::F32(number) => real(f64::from(*number)),
        Value::F64(number) => real(*number),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .encode(bytes)
                .into()
        }
        Value::EnumNumber(number) => match kind {
            ValueShape::Enum(shape) => shape.name(*number).map_or(Out::Null, Out::from),
            _ => Out::Null,
        },
        Value::Message(message) => match kind {
            ValueShape::Message(at) => {
                let shape = shapes.get(*at);
                match shape.plain_list() {
                    Some(values) => field(shapes, values, message),
                    None => object(shapes, shape, message),
                }
            }
            ValueShape::Timestamp(_) => timestamp(message),
            ValueShape::Struct(_) => struct_object(message),
            ValueShape::Any(_) => struct_value(message),
            ValueShape::AnyList(_) => struct_list(message),
            _ => Out::Null,
        },
        Value::List(_) | Value::Map(_) => Out::Null,
    }
}

fn real(number: f64) -> Out {
    Number::from_f64(number).map_or(Out::Null, Out::Number)
}

fn timestamp(message: &DynamicMessage) -> Out {
    let part = |name: &str| {
        message
            .get_field_by_name(name)
            .map(std::borrow::Cow::into_owned)
    };
    let seconds = part("seconds")
        .and_then(|value| value.as_i64())
        .unwrap_or_default();
    let nanos = part("nanos")
        .and_then(|value| value.as_i32())
        .unwrap_or_default();
    u32::try_from(nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(seconds, nanos))
        .map_or(Out::Null, |at| {
            at.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
        })
}

fn struct_object(message: &DynamicMessage) -> Out {
    let Some(fields) = message.get_field_by_name("fields") else {
        return Out::Null;
    };
    let Some(entries) = fields.as_map() else {
        return Out::Null;
    };
    let mut entries: Vec<(&str, &Value)> = entries
        .iter()
        .filter_map(|(key, value)| Some((key.as_str()?, value)))
        .collect();
    entries.sort_by_key(|(key, _)| *key);
    Out::Object(
        entries
            .into_iter()
            .map(|(key, value)| {
                (
                    key.to_owned(),
                    value.as_message().map_or(Out::Null, struct_value),
                )
            })
            .collect(),
    )
}

fn struct_list(message: &DynamicMessage) -> Out {
    message
        .get_field_by_name("values")
        .and_then(|values| {
            Some(
                values
                    .as_list()?
                    .iter()
                    .map(|value| value.as_message().map_or(Out::Null, struct_value))
                    .collect(),
            )
        })
        .unwrap_or(Out::Null)
}

fn struct_value(message: &DynamicMessage) -> Out {
    // Exactly one member of its oneof is set, or none.
    let Some((field, value)) = message.fields().next() else {
        return Out::Null;
    };
    match (field.name(), value) {
        ("bool_value", Value::Bool(flag)) => (*flag).into(),
        ("number_value", Value::F64(number)) => {
            // A whole number that a double holds exactly is written as one.
            const EXACT: f64 = 9_007_199_254_740_992.0;
            if number.fract() == 0.0 && number.abs() <= EXACT {
                #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
                let whole = *number as i64;
                whole.into()
            } else {
                real(*number)
            }
        }
        ("string_value", Value::String(text)) => text.as_str().into(),
        ("struct_value", Value::Message(message)) => struct_object(message),
        ("list_value", Value::Message(message)) => struct_list(message),
        _ => Out::Null,
    }
}
