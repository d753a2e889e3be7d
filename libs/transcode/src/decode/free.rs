//! Free JSON to the well-known messages that hold any (`Struct`, `ListValue`, `Value`).
//! Deliberately absent: faults. Whatever is JSON is right here; only its depth is bounded, by the reader.

use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, Value};

use crate::json::Json;

pub(super) fn object(message: &MessageDescriptor, given: Json) -> DynamicMessage {
    let mut out = DynamicMessage::new(message.clone());
    let Json::Object(entries) = given else {
        return out;
    };
    let Some(inner) = child(message, "fields", true) else {
        return out;
    };
    let fields = entries
        .into_iter()
        .map(|(name, item)| (MapKey::String(name), Value::Message(value(&inner, item))))
        .collect();
    out.set_field_by_name("fields", Value::Map(fields));
    out
}

pub(super) fn list(message: &MessageDescriptor, given: Json) -> DynamicMessage {
    let mut out = DynamicMessage::new(message.clone());
    let Json::List(items) = given else {
        return out;
    };
    let Some(inner) = child(message, "values", false) else {
        return out;
    };
    let values = items
        .into_iter()
        .map(|item| Value::Message(value(&inner, item)))
        .collect();
    out.set_field_by_name("values", Value::List(values));
    out
}

pub(super) fn value(message: &MessageDescriptor, given: Json) -> DynamicMessage {
    let mut out = DynamicMessage::new(message.clone());
    match given {
        Json::Null => out.set_field_by_name("null_value", Value::EnumNumber(0)),
        Json::Bool(flag) => out.set_field_by_name("bool_value", Value::Bool(flag)),
        Json::Int(number) => out.set_field_by_name("number_value", Value::F64(number as f64)),
        Json::Real(number) => out.set_field_by_name("number_value", Value::F64(number)),
        Json::Text(text) => out.set_field_by_name("string_value", Value::String(text)),
        given @ Json::Object(_) => {
            if let Some(inner) = child(message, "struct_value", false) {
                out.set_field_by_name("struct_value", Value::Message(object(&inner, given)));
            }
        }
        given @ Json::List(_) => {
            if let Some(inner) = child(message, "list_value", false) {
                out.set_field_by_name("list_value", Value::Message(list(&inner, given)));
            }
        }
    }
    out
}

fn child(message: &MessageDescriptor, field: &str, map: bool) -> Option<MessageDescriptor> {
    let kind = message.get_field_by_name(field)?.kind();
    let inner = kind.as_message()?.clone();
    if map {
        return inner.map_entry_value_field().kind().as_message().cloned();
    }
    Some(inner)
}
