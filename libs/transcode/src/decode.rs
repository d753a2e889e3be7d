//! A REST request to the message its method takes: path, query, `If-Match` and body, read strictly,
//! with every field at fault named at once. Deliberately absent: leniency; what is not exactly right
//! is refused, because a guess about money or consent is worse than a 400.

mod free;

use std::borrow::Cow;

use chrono::DateTime;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, Value, prost::bytes::Bytes,
};

use crate::{
    MAX_VIOLATIONS, MethodInfo, Violation,
    json::Json,
    route::Found,
    rules,
    schema::Body,
    shape::{FieldShape, Many, MessageShape, Shapes, ValueShape},
    violation,
};

/// What a request is made of, beside its path.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestParts<'a> {
    /// The raw query, without `?`.
    pub query: &'a str,
    /// The raw body.
    pub body: &'a [u8],
    /// `If-Match`; fills the field `etag` where the request has one.
    pub if_match: Option<&'a str>,
}

/// The request's message, or everything that is wrong with it.
pub fn decode_request(
    found: &Found<'_>,
    parts: RequestParts<'_>,
) -> Result<DynamicMessage, Vec<Violation>> {
    let method = found.method;
    let shape = method.input_shape();
    let mut reader = Reader {
        shapes: &method.shapes,
        faults: Vec::new(),
    };
    let mut message = DynamicMessage::new(method.input.clone());
    for (name, raw) in &found.params {
        if let Some(field) = shape.field(name) {
            reader.path_parameter(field, raw, &mut message);
        }
    }
    reader.query(found, shape, parts.query, &mut message);
    match found.binding.body {
        Body::All => reader.body(found, shape, parts.body, &mut message),
        Body::None if !parts.body.is_empty() => {
            reader.fault("", "this route takes no body");
        }
        Body::None => {}
    }
    reader.if_match(method, parts.if_match, &mut message);
    reader.finish(method, &message)?;
    Ok(message)
}

/// What an `If-Match` may be, as the OpenAPI document says it: an etag, with or without its quotes, or `*` for
/// whatever stands.
pub const IF_MATCH_PATTERN: &str = r#"^(\*|(W/)?"[A-Za-z0-9_-]{1,96}"|[A-Za-z0-9_-]{1,96})$"#;
const IF_MATCH_WANTED: &str = "must be one etag as it was read, such as \"v1\", or *";

// The etag without its quotes, or nothing when `IF_MATCH_PATTERN` does not take it.
fn bare_etag(given: &str) -> Option<&str> {
    if given == "*" {
        return Some(given);
    }
    let quoted = given
        .strip_prefix("W/")
        .unwrap_or(given)
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let bare = quoted.unwrap_or(given);
    let sound = (1..=96).contains(&bare.len())
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    sound.then_some(bare)
}

struct Reader<'a> {
    shapes: &'a Shapes,
    faults: Vec<Violation>,
}

impl Reader<'_> {
    fn fault(&mut self, path: &str, message: impl Into<String>) {
        if self.faults.len() < MAX_VIOLATIONS {
            self.faults.push(violation(path, message));
        }
    }

    fn finish(
        mut self,
        method: &MethodInfo,
        message: &DynamicMessage,
    ) -> Result<(), Vec<Violation>> {
        let at_fault: Vec<String> = self
            .faults
            .iter()
            .map(|fault| fault.field.clone())
            .collect();
        // An unreadable body says nothing about its fields.
        if !at_fault.iter().any(String::is_empty) {
            self.faults.extend(rules::check(
                self.shapes,
                method.input_shape(),
                message,
                true,
                &at_fault,
            ));
        }
        self.faults.truncate(MAX_VIOLATIONS);
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults)
        }
    }

    fn path_parameter(&mut self, field: &FieldShape, raw: &str, message: &mut DynamicMessage) {
        match percent_decode(raw, false) {
            Some(text) => match plain(&field.kind, &text) {
                Ok(value) => message.set_field(&field.descriptor, value),
                Err(wanted) => self.fault(&field.name, wanted),
            },
            None => self.fault(&field.name, "is not UTF-8 text, percent-encoded"),
        }
    }

    fn query(
        &mut self,
        found: &Found<'_>,
        shape: &MessageShape,
        query: &str,
        message: &mut DynamicMessage,
    ) {
        let mut seen: Vec<String> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = percent_decode(name, true) else {
                self.fault(
                    "query",
                    "a parameter's name is not UTF-8 text, percent-encoded",
                );
                continue;
            };
            let field = shape
                .field(&name)
                .filter(|field| found.binding.body == Body::None && field.is_plain())
                .filter(|field| !found.binding.path_fields.contains(&field.name));
            let Some(field) = field else {
                self.fault(&shown(&name), "is not a query parameter of this route");
                continue;
            };
            if field.many == Many::One && seen.contains(&field.name) {
                self.fault(&field.name, "is given more than once");
                continue;
            }
            seen.push(field.name.clone());
            let read = percent_decode(raw, true)
                .ok_or_else(|| "is not UTF-8 text, percent-encoded".to_owned())
                .and_then(|text| plain(&field.kind, &text));
            match (read, field.many) {
                (Ok(value), Many::One) => message.set_field(&field.descriptor, value),
                (Ok(value), _) => {
                    if let Value::List(items) = message.get_field_mut(&field.descriptor) {
                        items.push(value);
                    }
                }
                (Err(wanted), _) => self.fault(&field.name, wanted),
            }
        }
    }

    fn body(
        &mut self,
        found: &Found<'_>,
        shape: &MessageShape,
        body: &[u8],
        message: &mut DynamicMessage,
    ) {
        // No body is an empty object: actions such as `/cancel` often need nothing.
        if body.is_empty() {
            return;
        }
        match Json::read(body) {
            Ok(Json::Object(entries)) => {
                self.object(shape, entries, "", &found.binding.path_fields, message);
            }
            Ok(other) => self.fault(
                "",
                format!("the body must be an object, not {}", other.kind()),
            ),
            Err(wrong) => self.fault("", format!("the body {wrong}")),
        }
    }

    fn if_match(&mut self, method: &MethodInfo, given: Option<&str>, message: &mut DynamicMessage) {
        let (Some(given), Some(field)) = (given, method.input_shape().field("etag")) else {
            return;
        };
        if !matches!(field.kind, ValueShape::Text) || field.many != Many::One {
            return;
        }
        let Some(bare) = bare_etag(given) else {
            self.fault("If-Match", IF_MATCH_WANTED);
            return;
        };
        if bare == "*" {
            return;
        }
        if message.has_field(&field.descriptor) {
            let same = message.get_field(&field.descriptor).as_str() == Some(bare);
            if !same {
                self.fault("etag", "differs from the If-Match header");
            }
        } else {
            message.set_field(&field.descriptor, Value::String(bare.to_owned()));
        }
    }

    fn object(
        &mut self,
        shape: &MessageShape,
        entries: Vec<(String, Json)>,
        path: &str,
        from_path: &[String],
        message: &mut DynamicMessage,
    ) {
        let mut seen: Vec<String> = Vec::with_capacity(entries.len());
        for (name, given) in entries {
            let here = join(path, &name);
            if self.faults.len() >= MAX_VIOLATIONS {
                return;
            }
            if seen.contains(&name) {
                self.fault(&here, "is given more than once");
                continue;
            }
            seen.push(name.clone());
            let Some(field) = shape.field(&name) else {
                self.fault(&here, "is not a field of this request");
                continue;
            };
            if path.is_empty() && from_path.contains(&name) {
                self.fault(
                    &here,
                    "is part of the path and must not stand in the body too",
                );
                continue;
            }
            // null means absent, so that a client may send what it read.
            if given == Json::Null && !matches!(field.kind, ValueShape::Any(_)) {
                continue;
            }
            if self.second_of_oneof(&field.descriptor, message, &here) {
                continue;
            }
            if let Some(value) = self.field(field, given, &here) {
                message.set_field(&field.descriptor, value);
            }
        }
    }

    fn second_of_oneof(
        &mut self,
        field: &FieldDescriptor,
        message: &DynamicMessage,
        path: &str,
    ) -> bool {
        let other = field
            .containing_oneof()
            .into_iter()
            .flat_map(|oneof| oneof.fields().collect::<Vec<_>>())
            .find(|other| other != field && message.has_field(other));
        if let Some(other) = other {
            self.fault(path, format!("cannot stand beside {}", other.name()));
            return true;
        }
        false
    }

    fn field(&mut self, field: &FieldShape, given: Json, path: &str) -> Option<Value> {
        match (field.many, given) {
            (Many::One, given) => self.value(&field.kind, given, path),
            (Many::List, Json::List(items)) => {
                let mut values = Vec::with_capacity(items.len());
                for (at, item) in items.into_iter().enumerate() {
                    if self.faults.len() >= MAX_VIOLATIONS {
                        break;
                    }
                    let value = self.value(&field.kind, item, &format!("{path}[{at}]"));
                    // A place is kept for what could not be read, so that later paths stay right.
                    values.push(value.unwrap_or_else(|| stand_in(self.shapes, &field.kind)));
                }
                Some(Value::List(values))
            }
            (Many::Map, Json::Object(entries)) => {
                let mut map = std::collections::HashMap::with_capacity(entries.len());
                for (name, item) in entries {
                    if self.faults.len() >= MAX_VIOLATIONS {
                        break;
                    }
                    let here = join(path, &name);
                    let value = self.value(&field.kind, item, &here);
                    let value = value.unwrap_or_else(|| stand_in(self.shapes, &field.kind));
                    if map.insert(MapKey::String(name), value).is_some() {
                        self.fault(&here, "is given more than once");
                    }
                }
                Some(Value::Map(map))
            }
            (Many::List, other) => {
                self.fault(path, format!("must be an array, not {}", other.kind()));
                None
            }
            (Many::Map, other) => {
                self.fault(path, format!("must be an object, not {}", other.kind()));
                None
            }
        }
    }

    fn value(&mut self, kind: &ValueShape, given: Json, path: &str) -> Option<Value> {
        let shapes = self.shapes;
        let read = match (kind, given) {
            (ValueShape::Message(at), given) if shapes.get(*at).plain_list().is_some() => {
                let shape = shapes.get(*at);
                let mut message = DynamicMessage::new(shape.descriptor.clone());
                let values = shape.plain_list()?;
                // Its JSON has no name for `values`, so neither have the paths of what is wrong with it.
                let list = self.field(values, given, path)?;
                message.set_field(&values.descriptor, list);
                return Some(Value::Message(message));
            }
            (ValueShape::Message(at), Json::Object(entries)) => {
                let shape = shapes.get(*at);
                let mut message = DynamicMessage::new(shape.descriptor.clone());
                self.object(shape, entries, path, &[], &mut message);
                return Some(Value::Message(message));
            }
            (ValueShape::Struct(message), given @ Json::Object(_)) => {
                Ok(Value::Message(free::object(message, given)))
            }
            (ValueShape::AnyList(message), given @ Json::List(_)) => {
                Ok(Value::Message(free::list(message, given)))
            }
            (ValueShape::Any(message), given) => Ok(Value::Message(free::value(message, given))),
            (ValueShape::Bool, Json::Bool(flag)) => Ok(Value::Bool(flag)),
            (ValueShape::Int(shape), Json::Int(number)) => shape.read(number),
            // `1.0` is an integer to JSON Schema, and so to every client made from our OpenAPI document.
            (ValueShape::Int(shape), Json::Real(number)) if number.fract() == 0.0 => {
                shape.read(whole(number))
            }
            (ValueShape::Float, Json::Int(number)) => float(number as f64),
            (ValueShape::Float, Json::Real(number)) => float(number),
            (ValueShape::Double, Json::Int(number)) => Ok(Value::F64(number as f64)),
            (ValueShape::Double, Json::Real(number)) => Ok(Value::F64(number)),
            (
                ValueShape::Text
                | ValueShape::Bytes
                | ValueShape::Enum(_)
                | ValueShape::Timestamp(_),
                Json::Text(text),
            ) => plain(kind, &text),
            (kind, given) => Err(format!("must be {}, not {}", wanted(kind), given.kind())),
        };
        read.map_err(|wanted| self.fault(path, wanted)).ok()
    }
}

// Stands where an unreadable item would; the request is refused anyway.
fn stand_in(shapes: &Shapes, kind: &ValueShape) -> Value {
    match kind {
        ValueShape::Bool => Value::Bool(false),
        ValueShape::Int(shape) => shape.read(0).unwrap_or(Value::I64(0)),
        ValueShape::Float => Value::F32(0.0),
        ValueShape::Double => Value::F64(0.0),
        ValueShape::Text => Value::String(String::new()),
        ValueShape::Bytes => Value::Bytes(Bytes::new()),
        ValueShape::Enum(_) => Value::EnumNumber(0),
        ValueShape::Message(at) => {
            Value::Message(DynamicMessage::new(shapes.get(*at).descriptor.clone()))
        }
        ValueShape::Timestamp(message)
        | ValueShape::Struct(message)
        | ValueShape::Any(message)
        | ValueShape::AnyList(message) => Value::Message(DynamicMessage::new(message.clone())),
    }
}

fn wanted(kind: &ValueShape) -> String {
    match kind {
        ValueShape::Bool => "true or false".to_owned(),
        ValueShape::Int(_) => "an integer".to_owned(),
        ValueShape::Float | ValueShape::Double => "a number".to_owned(),
        ValueShape::Text => "a string".to_owned(),
        ValueShape::Bytes => "a string in base64".to_owned(),
        ValueShape::Enum(shape) => format!("one of: {}", shape.allowed()),
        ValueShape::Timestamp(_) => "an RFC 3339 time".to_owned(),
        ValueShape::Message(_) | ValueShape::Struct(_) => "an object".to_owned(),
        ValueShape::AnyList(_) => "an array".to_owned(),
        ValueShape::Any(_) => "any JSON".to_owned(),
    }
}

/// Reads text (a parameter, or a JSON string of a kind that JSON spells as one).
fn plain(kind: &ValueShape, text: &str) -> Result<Value, String> {
    match kind {
        ValueShape::Text => Ok(Value::String(text.to_owned())),
        ValueShape::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("must be true or false".to_owned()),
        },
        ValueShape::Int(shape) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            match text.parse::<i128>() {
                Ok(number) if whole => shape.read(number),
                _ if whole => shape.read(i128::MAX),
                _ => Err("must be an integer".to_owned()),
            }
        }
        ValueShape::Float | ValueShape::Double => text
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .ok_or_else(|| "must be a number".to_owned())
            .and_then(|number| match kind {
                ValueShape::Float => float(number),
                _ => Ok(Value::F64(number)),
            }),
        ValueShape::Bytes => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .map(|bytes| Value::Bytes(Bytes::from(bytes)))
                .map_err(|_| "must be base64 (RFC 4648, with padding)".to_owned())
        }
        ValueShape::Enum(shape) => shape
            .number(text)
            .map(Value::EnumNumber)
            .ok_or_else(|| format!("must be one of: {}", shape.allowed())),
        ValueShape::Timestamp(message) => timestamp(message, text),
        ValueShape::Message(_)
        | ValueShape::Struct(_)
        | ValueShape::Any(_)
        | ValueShape::AnyList(_) => Err(format!("must be {}", wanted(kind))),
    }
}

// Past 2^53 a double no longer tells which integer was meant, so it is taken for none.
fn whole(number: f64) -> i128 {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    if number.abs() <= EXACT {
        number as i128
    } else {
        i128::MAX
    }
}

fn float(number: f64) -> Result<Value, String> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what overflows is refused below"
    )]
    let single = number as f32;
    if single.is_finite() {
        Ok(Value::F32(single))
    } else {
        Err("must be a number that fits in 32 bits".to_owned())
    }
}

/// RFC 3339 with an upper-case `T` and an offset, years 0001 to 9999, no leap seconds.
pub(crate) const TIMESTAMP_PATTERN: &str = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

fn timestamp(message: &MessageDescriptor, text: &str) -> Result<Value, String> {
    let wanted = || "must be an RFC 3339 time, such as 2026-11-21T09:30:00Z".to_owned();
    let bytes = text.as_bytes();
    // chrono also takes a blank for the T, lower case and leap seconds.
    let shaped = bytes.len() >= 20
        && bytes.is_ascii()
        && bytes[10] == b'T'
        && !text.contains('z')
        && &bytes[17..19] < b"60".as_slice();
    let at = DateTime::parse_from_rfc3339(text)
        .ok()
        .filter(|_| shaped)
        .ok_or_else(wanted)?;
    // What protobuf's Timestamp holds: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
    if !(-62_135_596_800..=253_402_300_799).contains(&at.timestamp()) {
        return Err("must lie in the years 0001 to 9999, in UTC".to_owned());
    }
    let mut value = DynamicMessage::new(message.clone());
    value.set_field_by_name("seconds", Value::I64(at.timestamp()));
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).map_err(|_| wanted())?;
    value.set_field_by_name("nanos", Value::I32(nanos));
    Ok(Value::Message(value))
}

fn join(path: &str, name: &str) -> String {
    let name = shown(name);
    if path.is_empty() {
        name.into_owned()
    } else {
        format!("{path}.{name}")
    }
}

// A name is the caller's text: bounded and printable before it goes back out.
fn shown(name: &str) -> Cow<'_, str> {
    const MOST: usize = 100;
    if name.len() <= MOST && !name.chars().any(char::is_control) {
        return Cow::Borrowed(name);
    }
    let short: String = name
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(MOST)
        .collect();
    Cow::Owned(short)
}

/// `None` when the result is not UTF-8 or an escape is broken.
fn percent_decode(raw: &str, plus_is_blank: bool) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_blank => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}
