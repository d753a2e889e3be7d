//! Message shapes as JSON Schema. What goes in states every rule that the codec enforces, so that data
//! made from the document is taken; what comes out states the shape only, so that it may grow.
//! Deliberately absent: one schema for both directions; they promise different things.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mainstay_proto::options::v1::Format;
use mainstay_types::format;
use serde_json::{Map, Value, json};

use crate::{
    Binding, DEFAULT_MAX_ITEMS, DEFAULT_MAX_TEXT, MethodInfo, Schema,
    decode::TIMESTAMP_PATTERN,
    rules::format_of,
    shape::{EnumShape, FieldShape, Many, MessageShape, Shapes, ValueShape},
};

/// Text without the control characters that are refused (see `mainstay_types::format`).
const TEXT_PATTERN: &str = r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F]*$";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// Gathers component schemas as operations ask for them.
pub(super) struct Types<'a> {
    shapes: &'a Shapes,
    out: BTreeMap<String, Value>,
    /// Messages that answers contain: what goes in by the same name is called `…Input`.
    answered: HashSet<&'a str>,
    /// Short names that more than one message has.
    shared: BTreeSet<&'a str>,
}

impl<'a> Types<'a> {
    pub fn new(schema: &'a Schema) -> Self {
        let shapes = schema.shapes();
        let mut answered = HashSet::new();
        let mut names: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
        for method in schema.methods().iter().filter(|method| method.is_public()) {
            reach(shapes, shapes.get(method.output_shape), &mut answered);
            let mut both = answered.clone();
            reach(shapes, shapes.get(method.input_shape), &mut both);
            for full in both {
                if let Some(shape) = shapes.find(full) {
                    names.entry(shape.short_name()).or_default().insert(full);
                }
            }
        }
        let shared = names
            .into_iter()
            .filter(|(_, full)| full.len() > 1)
            .map(|(short, _)| short)
            .collect();
        Self {
            shapes,
            out: BTreeMap::new(),
            answered,
            shared,
        }
    }

    pub fn finish(self) -> BTreeMap<String, Value> {
        self.out
    }

    /// A request's body, and whether it may be left out.
    pub fn body(&mut self, method: &MethodInfo, binding: &Binding) -> (Value, bool) {
        let shape = self.shapes.get(method.input_shape);
        let fields: Vec<&FieldShape> = shape
            .fields
            .iter()
            .filter(|field| !binding.path_fields.contains(&field.name))
            .collect();
        let required = fields.iter().any(|field| field.rules.required);
        // Requests belong to one method, so their names are free of `…Input`.
        let name = self.name(shape, Direction::Out);
        if !self.out.contains_key(&name) {
            self.out.insert(name.clone(), Value::Null);
            let body = self.object(shape, &fields, Direction::In);
            self.out.insert(name.clone(), body);
        }
        (reference(&name), required)
    }

    /// An answer's body.
    pub fn answer(&mut self, method: &MethodInfo) -> Value {
        self.component(method.output_shape, Direction::Out)
    }

    /// A path or query parameter.
    pub fn parameter(&mut self, field: &FieldShape, in_path: bool) -> Value {
        let mut schema = match field.many {
            Many::List => self.list(field, Direction::In),
            _ => self.one(field, Direction::In),
        };
        if in_path
            && field.resource.is_none()
            && schema["minLength"].is_null()
            && schema["type"] == "string"
        {
            schema["minLength"] = 1.into();
        }
        if field.name == "page_size" {
            schema["default"] = 50.into();
        }
        schema
    }

    fn component(&mut self, at: usize, direction: Direction) -> Value {
        let shape = self.shapes.get(at);
        let name = self.name(shape, direction);
        if !self.out.contains_key(&name) {
            // Claimed first: a message may contain itself.
            self.out.insert(name.clone(), Value::Null);
            let schema = match shape.plain_list() {
                Some(values) => {
                    let mut schema = self.list(values, direction);
                    if !shape.docs.is_empty() {
                        schema["description"] = shape.docs.as_str().into();
                    }
                    schema
                }
                None => {
                    let fields: Vec<&FieldShape> = shape.fields.iter().collect();
                    self.object(shape, &fields, direction)
                }
            };
            self.out.insert(name.clone(), schema);
        }
        reference(&name)
    }

    fn list(&mut self, field: &FieldShape, direction: Direction) -> Value {
        let mut list = json!({"type": "array", "items": self.one(field, direction)});
        if direction == Direction::In {
            bound_items(&mut list, field);
        }
        list
    }

    fn name(&self, shape: &MessageShape, direction: Direction) -> String {
        let mut name = shape.short_name().replace('.', "");
        if self.shared.contains(shape.short_name()) {
            let context = shape.full_name.split('.').nth(1).unwrap_or_default();
            let mut chars = context.chars();
            if let Some(first) = chars.next() {
                name = format!("{}{}{name}", first.to_ascii_uppercase(), chars.as_str());
            }
        }
        if direction == Direction::In && self.answered.contains(shape.full_name.as_str()) {
            name.push_str("Input");
        }
        name
    }

    fn object(
        &mut self,
        shape: &MessageShape,
        fields: &[&FieldShape],
        direction: Direction,
    ) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in fields {
            if direction == Direction::Out || field.rules.required {
                required.push(field.name.clone());
            }
            properties.insert(field.name.clone(), self.property(field, direction));
        }
        let mut out = json!({"type": "object"});
        if !shape.docs.is_empty() {
            out["description"] = shape.docs.as_str().into();
        }
        if !required.is_empty() {
            out["required"] = required.into();
        }
        out["properties"] = Value::Object(properties);
        if direction == Direction::In {
            out["additionalProperties"] = false.into();
        }
        out
    }

    fn property(&mut self, field: &FieldShape, direction: Direction) -> Value {
        let mut schema = match field.many {
            Many::One => self.one(field, direction),
            Many::List => self.list(field, direction),
            Many::Map => {
                let one = self.one(field, direction);
                let mut map = json!({"type": "object", "additionalProperties": one});
                if direction == Direction::In {
                    map["propertyNames"] = text_rules(field, false);
                    map["maxProperties"] = field.rules.max_len.unwrap_or(DEFAULT_MAX_ITEMS).into();
                    let least = field
                        .rules
                        .min_len
                        .unwrap_or(u32::from(field.rules.required));
                    if least > 0 {
                        map["minProperties"] = least.into();
                    }
                }
                map
            }
        };
        let nullable = match direction {
            Direction::In => !field.rules.required,
            Direction::Out => field.many == Many::One && field.descriptor.supports_presence(),
        };
        if nullable {
            schema = or_null(schema);
        }
        if let Value::Object(map) = &mut schema {
            if !field.docs.is_empty() {
                map.insert("description".into(), field.docs.as_str().into());
            }
            if let Some(example) = example(field) {
                map.insert("examples".into(), json!([example]));
            }
        }
        schema
    }

    // One value of a field, apart from how many it has.
    fn one(&mut self, field: &FieldShape, direction: Direction) -> Value {
        match &field.kind {
            ValueShape::Message(at) => self.component(*at, direction),
            ValueShape::Text if direction == Direction::In && field.many == Many::Map => {
                // The field's own rules are about its names.
                json!({"type": "string", "maxLength": DEFAULT_MAX_TEXT, "pattern": TEXT_PATTERN})
            }
            ValueShape::Text if direction == Direction::In => self.text(field),
            kind => scalar(field, kind, direction),
        }
    }

    fn text(&mut self, field: &FieldShape) -> Value {
        let (name, values): (&str, Vec<&str>) = match field.format {
            Format::TimeZone => (
                "TimeZone",
                chrono_tz::TZ_VARIANTS
                    .iter()
                    .map(|zone| zone.name())
                    .collect(),
            ),
            Format::Currency => ("Currency", mainstay_types::money::CURRENCIES.to_vec()),
            _ => return text_rules(field, field.many == Many::One),
        };
        self.out
            .entry(name.to_owned())
            .or_insert_with(|| json!({"type": "string", "enum": values}));
        reference(name)
    }
}

/// A field of a problem's typed detail.
pub(super) fn flat(shapes: &Shapes, field: &FieldShape) -> Value {
    let list = match field.kind {
        ValueShape::Message(at) => shapes.get(at).plain_list(),
        _ => None,
    };
    let one = match list {
        Some(values) => flat(shapes, values),
        None => scalar(field, &field.kind, Direction::Out),
    };
    let schema = match field.many {
        Many::One => one,
        Many::List => json!({"type": "array", "items": one}),
        Many::Map => json!({"type": "object", "additionalProperties": one}),
    };
    if field.many == Many::One && field.descriptor.supports_presence() {
        or_null(schema)
    } else {
        schema
    }
}

fn scalar(field: &FieldShape, kind: &ValueShape, direction: Direction) -> Value {
    match kind {
        ValueShape::Bool => json!({"type": "boolean"}),
        ValueShape::Int(shape) => {
            let mut schema = json!({"type": "integer"});
            if direction == Direction::In {
                schema["minimum"] = i64::try_from(shape.least).unwrap_or(i64::MIN).into();
                schema["maximum"] = i64::try_from(shape.most).unwrap_or(i64::MAX).into();
            } else {
                schema["format"] = "int64".into();
            }
            schema
        }
        ValueShape::Float | ValueShape::Double => {
            let mut schema = json!({"type": "number"});
            if direction == Direction::In {
                if let Some(min) = field.rules.min {
                    schema["minimum"] = min.into();
                }
                if let Some(max) = field.rules.max {
                    schema["maximum"] = max.into();
                }
            }
            schema
        }
        ValueShape::Text => match (direction, &field.resource) {
            (Direction::Out, Some(noun)) => type_id(noun),
            _ => json!({"type": "string"}),
        },
        ValueShape::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        ValueShape::Enum(shape) => json!({"type": "string", "enum": names(shape)}),
        ValueShape::Timestamp(_) => {
            let mut schema = json!({"type": "string", "format": "date-time"});
            if direction == Direction::In {
                schema["pattern"] = TIMESTAMP_PATTERN.into();
            }
            schema
        }
        ValueShape::Struct(_) => json!({"type": "object", "additionalProperties": true}),
        ValueShape::AnyList(_) => json!({"type": "array"}),
        // A message stands as a component; a detail that nests says only that it does.
        ValueShape::Message(_) => json!({"type": "object"}),
        ValueShape::Any(_) => json!({}),
    }
}

// Everything that the codec asks of one text.
fn text_rules(field: &FieldShape, own_lengths: bool) -> Value {
    let mut schema = json!({"type": "string"});
    if let Some(noun) = &field.resource {
        return type_id(noun);
    }
    let rules = &field.rules;
    if !rules.one_of.is_empty() {
        schema["enum"] = json!(rules.one_of);
        return schema;
    }
    let (least, most) = if own_lengths {
        (
            rules.min_len.unwrap_or(0).max(u32::from(rules.required)),
            rules.max_len.unwrap_or(DEFAULT_MAX_TEXT),
        )
    } else {
        (0, DEFAULT_MAX_TEXT)
    };
    if least > 0 {
        schema["minLength"] = least.into();
    }
    let most = if field.format == Format::Email {
        most.min(254)
    } else {
        most
    };
    schema["maxLength"] = most.into();
    schema["pattern"] = format::pattern(format_of(field.format))
        .unwrap_or(TEXT_PATTERN)
        .into();
    schema
}

fn type_id(noun: &str) -> Value {
    let prefix = mainstay_types::prefix_of(noun).unwrap_or_default();
    json!({
        "type": "string",
        "pattern": format!("^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"),
    })
}

fn names(shape: &EnumShape) -> Vec<&str> {
    shape.names.iter().map(|(name, _)| name.as_str()).collect()
}

fn bound_items(list: &mut Value, field: &FieldShape) {
    let least = field
        .rules
        .min_len
        .unwrap_or(u32::from(field.rules.required));
    if least > 0 {
        list["minItems"] = least.into();
    }
    list["maxItems"] = field.rules.max_len.unwrap_or(DEFAULT_MAX_ITEMS).into();
}

fn or_null(mut schema: Value) -> Value {
    if schema.get("$ref").is_some() {
        return json!({"anyOf": [schema, {"type": "null"}]});
    }
    if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    if let Some(Value::Array(names)) = schema.get_mut("enum") {
        names.push(Value::Null);
    }
    schema
}

fn example(field: &FieldShape) -> Option<Value> {
    let text = field.rules.example.as_str();
    if text.is_empty() || field.many != Many::One {
        return None;
    }
    match field.kind {
        ValueShape::Int(_) => text.parse::<i64>().ok().map(Value::from),
        ValueShape::Bool => text.parse::<bool>().ok().map(Value::from),
        ValueShape::Float | ValueShape::Double => text.parse::<f64>().ok().map(Value::from),
        _ => Some(text.into()),
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn reach<'a>(shapes: &'a Shapes, shape: &'a MessageShape, into: &mut HashSet<&'a str>) {
    if !into.insert(&shape.full_name) {
        return;
    }
    for field in &shape.fields {
        if let ValueShape::Message(at) = field.kind {
            reach(shapes, shapes.get(at), into);
        }
    }
}
