//! Message descriptors compiled once into what codec, rules and OpenAPI ask for at every request, so
//! that no request pays for reading options. Deliberately absent: values; this is about types only.

use std::collections::HashMap;

use mainstay_proto::options::v1::{Format, Rules};
use prost_reflect::{
    DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    Value, prost_types,
};

/// All message shapes that methods reach; recursion goes by index.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    messages: Vec<MessageShape>,
    index: HashMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct MessageShape {
    pub full_name: String,
    pub descriptor: MessageDescriptor,
    pub fields: Vec<FieldShape>,
    by_name: HashMap<String, usize>,
    pub docs: String,
    plain_list: bool,
}

#[derive(Debug)]
pub(crate) struct FieldShape {
    pub name: String,
    pub descriptor: FieldDescriptor,
    pub kind: ValueShape,
    pub many: Many,
    pub rules: Rules,
    pub format: Format,
    /// The noun whose id it holds.
    pub resource: Option<String>,
    pub docs: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Many {
    One,
    List,
    Map,
}

/// What one value is, as JSON sees it.
#[derive(Debug, Clone)]
pub(crate) enum ValueShape {
    Bool,
    Int(IntShape),
    Float,
    Double,
    Text,
    Bytes,
    Enum(EnumShape),
    Message(usize),
    Timestamp(MessageDescriptor),
    /// `google.protobuf.Struct`: any JSON object.
    Struct(MessageDescriptor),
    /// `google.protobuf.Value`: any JSON.
    Any(MessageDescriptor),
    /// `google.protobuf.ListValue`: any JSON array.
    AnyList(MessageDescriptor),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntKind {
    I32,
    I64,
    U32,
    U64,
}

impl IntKind {
    /// The least and greatest value; unsigned 64 bit stops where JSON clients still count exactly as signed.
    fn limits(self) -> (i128, i128) {
        match self {
            IntKind::I32 => (i32::MIN.into(), i32::MAX.into()),
            IntKind::I64 => (i64::MIN.into(), i64::MAX.into()),
            IntKind::U32 => (0, u32::MAX.into()),
            IntKind::U64 => (0, i64::MAX.into()),
        }
    }
}

/// An integer of the wire type `kind`, between the limits of that and of its field's rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IntShape {
    kind: IntKind,
    pub least: i128,
    pub most: i128,
}

impl IntShape {
    fn new(kind: IntKind, rules: &Rules) -> Self {
        let (least, most) = kind.limits();
        Self {
            kind,
            least: rules.min.map_or(least, |min| least.max(min.into())),
            most: rules.max.map_or(most, |max| most.min(max.into())),
        }
    }

    /// As its wire type has it. What that cannot hold is refused here, and what the rules forbid with the other rules; whoever is
    /// refused reads the same limits.
    pub fn read(&self, number: i128) -> Result<Value, String> {
        let outside = || format!("must be an integer from {} to {}", self.least, self.most);
        let (least, most) = self.kind.limits();
        if number < least || number > most {
            return Err(outside());
        }
        match self.kind {
            IntKind::I32 => i32::try_from(number).map(Value::I32),
            IntKind::I64 => i64::try_from(number).map(Value::I64),
            IntKind::U32 => u32::try_from(number).map(Value::U32),
            IntKind::U64 => u64::try_from(number).map(Value::U64),
        }
        .map_err(|_| outside())
    }
}

/// An enum's JSON names; the zero value is never one of them.
#[derive(Debug, Clone)]
pub(crate) struct EnumShape {
    pub names: Vec<(String, i32)>,
}

impl EnumShape {
    fn of(descriptor: &EnumDescriptor) -> Self {
        let prefix = format!("{}_", screaming_snake(descriptor.name()));
        let names = descriptor
            .values()
            .filter(|value| value.number() != 0)
            .map(|value| {
                let name = value.name();
                let bare = name.strip_prefix(&prefix).unwrap_or(name);
                (bare.to_ascii_lowercase(), value.number())
            })
            .collect();
        Self { names }
    }

    pub fn number(&self, name: &str) -> Option<i32> {
        self.names
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, number)| *number)
    }

    pub fn name(&self, number: i32) -> Option<&str> {
        self.names
            .iter()
            .find(|(_, known)| *known == number)
            .map(|(name, _)| name.as_str())
    }

    pub fn allowed(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }
}

fn screaming_snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for (at, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

impl MessageShape {
    pub fn field(&self, name: &str) -> Option<&FieldShape> {
        self.by_name.get(name).map(|at| &self.fields[*at])
    }

    /// The field whose items are all there is to it, when its JSON is that plain list.
    pub fn plain_list(&self) -> Option<&FieldShape> {
        self.fields.first().filter(|_| self.plain_list)
    }

    /// Its place in its package, for component names: `CreatePlanRequest`, `Outer.Inner`.
    pub fn short_name(&self) -> &str {
        let package = self.descriptor.package_name();
        self.full_name
            .strip_prefix(package)
            .map_or(self.full_name.as_str(), |rest| rest.trim_start_matches('.'))
    }
}

impl FieldShape {
    /// Whether a query or path parameter can fill it.
    pub fn is_plain(&self) -> bool {
        self.many != Many::Map
            && !matches!(
                self.kind,
                ValueShape::Message(_)
                    | ValueShape::Struct(_)
                    | ValueShape::Any(_)
                    | ValueShape::AnyList(_)
            )
    }
}

impl Shapes {
    pub fn get(&self, at: usize) -> &MessageShape {
        &self.messages[at]
    }

    pub fn find(&self, full_name: &str) -> Option<&MessageShape> {
        self.index.get(full_name).map(|at| &self.messages[*at])
    }
}

/// Compiles messages on demand, gathering what it cannot express.
pub(crate) struct Compiler {
    options: Options,
    docs: Docs,
    shapes: Shapes,
    pub problems: Vec<String>,
}

struct Options {
    rules: Option<ExtensionDescriptor>,
    resource: Option<ExtensionDescriptor>,
    plain_list: Option<ExtensionDescriptor>,
}

impl Compiler {
    pub fn new(pool: &DescriptorPool) -> Self {
        let extension = |name: &str| pool.get_extension_by_name(name);
        Self {
            options: Options {
                rules: extension("mainstay.options.v1.rules"),
                resource: extension("mainstay.options.v1.resource"),
                plain_list: extension("mainstay.options.v1.plain_list"),
            },
            docs: Docs::of(pool),
            shapes: Shapes::default(),
            problems: Vec::new(),
        }
    }

    pub fn docs(&self) -> &Docs {
        &self.docs
    }

    pub fn finish(self) -> (Shapes, Vec<String>) {
        (self.shapes, self.problems)
    }

    /// The index of the message's shape, compiling it and all below it at first sight.
    pub fn message(&mut self, descriptor: &MessageDescriptor) -> usize {
        if let Some(at) = self.shapes.index.get(descriptor.full_name()) {
            return *at;
        }
        let plain_list = self.is_plain_list(descriptor);
        let at = self.shapes.messages.len();
        // Registered before its fields, so that a message may contain itself.
        self.shapes
            .index
            .insert(descriptor.full_name().to_owned(), at);
        self.shapes.messages.push(MessageShape {
            full_name: descriptor.full_name().to_owned(),
            descriptor: descriptor.clone(),
            fields: Vec::new(),
            by_name: HashMap::new(),
            plain_list,
            docs: self.docs.get(&descriptor.parent_file(), descriptor.path()),
        });
        let fields: Vec<FieldShape> = descriptor
            .fields()
            .filter_map(|field| self.field(&field))
            .collect();
        let by_name = fields
            .iter()
            .enumerate()
            .map(|(at, field)| (field.name.clone(), at))
            .collect();
        let shape = &mut self.shapes.messages[at];
        shape.fields = fields;
        shape.by_name = by_name;
        at
    }

    fn is_plain_list(&mut self, message: &MessageDescriptor) -> bool {
        let options = message.options();
        let said = self.options.plain_list.as_ref().is_some_and(|extension| {
            options.has_extension(extension)
                && options.get_extension(extension).as_bool() == Some(true)
        });
        if !said {
            return false;
        }
        let mut fields = message.fields();
        let only = (fields.next(), fields.next());
        let right =
            matches!(&only, (Some(field), None) if field.is_list() && field.name() == "values");
        if !right {
            self.problems.push(format!(
                "{}: a plain list has one field, `repeated … values`, and nothing beside it",
                message.full_name()
            ));
        }
        right
    }

    fn field(&mut self, field: &FieldDescriptor) -> Option<FieldShape> {
        let (many, kind) = if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                return None;
            };
            if !matches!(entry.map_entry_key_field().kind(), Kind::String) {
                self.problems
                    .push(format!("{}: map keys must be strings", field.full_name()));
                return None;
            }
            (Many::Map, entry.map_entry_value_field().kind())
        } else if field.is_list() {
            (Many::List, field.kind())
        } else {
            (Many::One, field.kind())
        };
        let options = field.options();
        let rules = self
            .options
            .rules
            .as_ref()
            .filter(|extension| options.has_extension(extension))
            .and_then(|extension| {
                options
                    .get_extension(extension)
                    .as_message()
                    .and_then(|rules| rules.transcode_to::<Rules>().ok())
            })
            .unwrap_or_default();
        let kind = self.value(field, kind, &rules)?;
        let resource = self
            .options
            .resource
            .as_ref()
            .filter(|extension| options.has_extension(extension))
            .and_then(|extension| options.get_extension(extension).as_str().map(str::to_owned));
        if let Some(noun) = &resource
            && mainstay_types::prefix_of(noun).is_none()
        {
            self.problems.push(format!(
                "{}: resource \"{noun}\" has no id prefix in mainstay_types",
                field.full_name()
            ));
        }
        Some(FieldShape {
            name: field.name().to_owned(),
            descriptor: field.clone(),
            many,
            format: rules.format(),
            rules,
            resource,
            docs: self.docs.get(&field.parent_file(), field.path()),
            kind,
        })
    }

    fn value(&mut self, field: &FieldDescriptor, kind: Kind, rules: &Rules) -> Option<ValueShape> {
        let int = |kind| ValueShape::Int(IntShape::new(kind, rules));
        Some(match kind {
            Kind::Bool => ValueShape::Bool,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => int(IntKind::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => int(IntKind::I64),
            Kind::Uint32 | Kind::Fixed32 => int(IntKind::U32),
            Kind::Uint64 | Kind::Fixed64 => int(IntKind::U64),
            Kind::Float => ValueShape::Float,
            Kind::Double => ValueShape::Double,
            Kind::String => ValueShape::Text,
            Kind::Bytes => ValueShape::Bytes,
            Kind::Enum(descriptor) => ValueShape::Enum(EnumShape::of(&descriptor)),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => ValueShape::Timestamp(message),
                "google.protobuf.Struct" => ValueShape::Struct(message),
                "google.protobuf.Value" => ValueShape::Any(message),
                "google.protobuf.ListValue" => ValueShape::AnyList(message),
                "google.protobuf.Any" => {
                    // Internal messages may carry one; it has no JSON, so it stands as an opaque message.
                    ValueShape::Message(self.message(&message))
                }
                name if name.starts_with("google.protobuf.") && name != "google.protobuf.Empty" => {
                    self.problems.push(format!(
                        "{}: {name} has no JSON here; durations are integers of seconds, wrappers are `optional`",
                        field.full_name()
                    ));
                    return None;
                }
                _ => ValueShape::Message(self.message(&message)),
            },
        })
    }
}

/// Comments of the protos, by file and path.
pub(crate) struct Docs(HashMap<(String, Vec<i32>), String>);

impl Docs {
    fn of(pool: &DescriptorPool) -> Self {
        let mut all = HashMap::new();
        for file in pool.files() {
            let proto: &prost_types::FileDescriptorProto = file.file_descriptor_proto();
            let Some(info) = &proto.source_code_info else {
                continue;
            };
            for location in &info.location {
                if let Some(comment) = location.leading_comments.as_deref() {
                    all.insert(
                        (file.name().to_owned(), location.path.clone()),
                        tidy(comment),
                    );
                }
            }
        }
        Self(all)
    }

    pub fn get(&self, file: &prost_reflect::FileDescriptor, path: &[i32]) -> String {
        self.0
            .get(&(file.name().to_owned(), path.to_vec()))
            .cloned()
            .unwrap_or_default()
    }
}

// A comment's lines are wrapped where the file was wide; a reader of the docs wants paragraphs.
fn tidy(comment: &str) -> String {
    let mut out = String::with_capacity(comment.len());
    let mut fresh = true;
    for line in comment.lines().map(str::trim) {
        if line.is_empty() {
            if !fresh {
                out.push_str("\n\n");
                fresh = true;
            }
            continue;
        }
        if !fresh {
            out.push(' ');
        }
        out.push_str(line);
        fresh = false;
    }
    out.trim_end().to_owned()
}
