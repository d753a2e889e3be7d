//! What a request must satisfy: the `rules` and `resource` options, and limits on everything that
//! declares none. The gateway's codec and every service run this same check.
//! Deliberately absent: rules that need state (uniqueness, existence) or more than one field.

use mainstay_proto::options::v1::{Format, Rules};
use mainstay_types::format;
use prost_reflect::{DynamicMessage, MapKey, Value};

use crate::{
    DEFAULT_MAX_ITEMS, DEFAULT_MAX_TEXT, MAX_VIOLATIONS, MethodInfo, Violation,
    shape::{FieldShape, Many, MessageShape, Shapes, ValueShape},
    violation,
};

/// Everything that the rules say against a request of this method. Empty is good.
pub fn check_rules(method: &MethodInfo, request: &DynamicMessage) -> Vec<Violation> {
    method.check_rules(request)
}

/// `public`: whether undeclared limits apply too. `skip`: paths already known to be at fault.
pub(crate) fn check(
    shapes: &Shapes,
    shape: &MessageShape,
    message: &DynamicMessage,
    public: bool,
    skip: &[String],
) -> Vec<Violation> {
    let mut checker = Checker {
        shapes,
        public,
        skip,
        path: String::new(),
        out: Vec::new(),
    };
    checker.message(shape, message);
    checker.out
}

struct Checker<'a> {
    shapes: &'a Shapes,
    public: bool,
    skip: &'a [String],
    path: String,
    out: Vec<Violation>,
}

/// How long one text may be.
#[derive(Clone, Copy, Default)]
struct Lengths {
    required: bool,
    least: u32,
    most: Option<u32>,
}

impl Lengths {
    fn of(rules: &Rules) -> Self {
        Self {
            required: rules.required,
            least: rules.min_len.unwrap_or(0),
            most: rules.max_len,
        }
    }
}

impl Checker<'_> {
    fn message(&mut self, shape: &MessageShape, message: &DynamicMessage) {
        for field in &shape.fields {
            if self.out.len() >= MAX_VIOLATIONS {
                return;
            }
            let mark = self.path.len();
            if mark > 0 {
                self.path.push('.');
            }
            self.path.push_str(&field.name);
            // A field that could not be read is reported once, as what it is.
            if !self.skip.contains(&self.path) {
                self.field(field, message);
            }
            self.path.truncate(mark);
        }
    }

    fn field(&mut self, field: &FieldShape, message: &DynamicMessage) {
        if !message.has_field(&field.descriptor) {
            if field.rules.required {
                self.refuse("is required");
            }
            return;
        }
        match message.get_field(&field.descriptor).as_ref() {
            Value::List(items) => self.list(field, items),
            Value::Map(entries) => {
                self.count(&field.rules, entries.len());
                let mut entries: Vec<(&MapKey, &Value)> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    let MapKey::String(key) = key else { continue };
                    // The format of a map is that of its keys.
                    self.below(&format!(".{key}"), |checker| {
                        checker.text(field, key, "its name ");
                        match value {
                            Value::String(text) => {
                                checker.plain_text(Lengths::default(), text);
                            }
                            value => checker.value(field, value),
                        }
                    });
                }
            }
            value => self.value(field, value),
        }
    }

    fn list(&mut self, field: &FieldShape, items: &[Value]) {
        self.count(&field.rules, items.len());
        for (at, item) in items.iter().enumerate() {
            self.below(&format!("[{at}]"), |checker| checker.value(field, item));
        }
    }

    fn value(&mut self, field: &FieldShape, value: &Value) {
        if self.out.len() >= MAX_VIOLATIONS {
            return;
        }
        match value {
            Value::String(text) => self.text(field, text, ""),
            Value::I32(number) => self.number(field, i128::from(*number)),
            Value::I64(number) => self.number(field, i128::from(*number)),
            Value::U32(number) => self.number(field, i128::from(*number)),
            Value::U64(number) => self.number(field, i128::from(*number)),
            Value::F32(number) => self.real(field, f64::from(*number)),
            Value::F64(number) => self.real(field, *number),
            Value::EnumNumber(number) => self.choice(field, *number),
            Value::Bytes(bytes) => self.bytes(field, bytes.len()),
            Value::Message(message) => {
                if let ValueShape::Message(at) = field.kind {
                    let shapes = self.shapes;
                    let shape = shapes.get(at);
                    match shape.plain_list() {
                        // It is there, so an empty one is too short, and not absent.
                        Some(values) => {
                            let items = message.get_field(&values.descriptor);
                            self.list(values, items.as_list().unwrap_or_default());
                        }
                        None => self.message(shape, message),
                    }
                }
            }
            Value::Bool(_) | Value::List(_) | Value::Map(_) => {}
        }
    }

    fn text(&mut self, field: &FieldShape, text: &str, what: &str) {
        // On a list or map the lengths count items, so each text falls back to the default limit.
        let lengths = match field.many {
            Many::One => Lengths::of(&field.rules),
            Many::List | Many::Map => Lengths::default(),
        };
        if !self.plain_text(lengths, text) {
            return;
        }
        if let Some(noun) = &field.resource {
            if let Err(error) = mainstay_types::check_type_id(noun, text) {
                self.refuse(format!("{what}{error}"));
            }
            return;
        }
        if !field.rules.one_of.is_empty() && !field.rules.one_of.iter().any(|known| known == text) {
            self.refuse(format!(
                "{what}must be one of: {}",
                field.rules.one_of.join(", ")
            ));
            return;
        }
        if let Err(wanted) = format::check(format_of(field.format), text) {
            self.refuse(format!("{what}{wanted}"));
        }
    }

    // Whether length and characters are right.
    fn plain_text(&mut self, lengths: Lengths, text: &str) -> bool {
        let length = text.chars().count();
        if lengths.required && length == 0 {
            self.refuse("is required: it must not be empty");
            return false;
        }
        let least = lengths.least as usize;
        if length < least {
            self.refuse(format!("must have at least {least} characters"));
            return false;
        }
        if let Some(most) = lengths.most.or(self.public.then_some(DEFAULT_MAX_TEXT))
            && length > most as usize
        {
            self.refuse(format!("must have at most {most} characters"));
            return false;
        }
        if let Err(wanted) = format::check(format::Format::Text, text)
            && (self.public || text.contains('\0'))
        {
            self.refuse(wanted);
            return false;
        }
        true
    }

    fn number(&mut self, field: &FieldShape, number: i128) {
        let rules = &field.rules;
        if rules.min.is_some_and(|min| number < i128::from(min))
            || rules.max.is_some_and(|max| number > i128::from(max))
        {
            self.refuse(range(rules));
        }
    }

    fn real(&mut self, field: &FieldShape, number: f64) {
        let rules = &field.rules;
        // Limits are integers far below 2^53, so the casts are exact.
        #[expect(clippy::cast_precision_loss, reason = "limits are small integers")]
        let outside = rules.min.is_some_and(|min| number < min as f64)
            || rules.max.is_some_and(|max| number > max as f64);
        if outside || !number.is_finite() {
            self.refuse(range(rules));
        }
    }

    fn choice(&mut self, field: &FieldShape, number: i32) {
        let ValueShape::Enum(shape) = &field.kind else {
            return;
        };
        if number == 0 && !field.rules.required {
            return;
        }
        if shape.name(number).is_none() {
            let message = format!("must be one of: {}", shape.allowed());
            self.refuse(message);
        }
    }

    fn bytes(&mut self, field: &FieldShape, length: usize) {
        if field.many == Many::One
            && let Some(most) = field.rules.max_len
            && length > most as usize
        {
            self.refuse(format!("must have at most {most} bytes"));
        }
    }

    fn count(&mut self, rules: &Rules, items: usize) {
        let least = rules.min_len.unwrap_or(u32::from(rules.required)) as usize;
        if items < least {
            self.refuse(format!("must have at least {least} items"));
        }
        if let Some(most) = rules.max_len.or(self.public.then_some(DEFAULT_MAX_ITEMS))
            && items > most as usize
        {
            self.refuse(format!("must have at most {most} items"));
        }
    }

    fn below(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        let mark = self.path.len();
        self.path.push_str(step);
        if !self.skip.contains(&self.path) && self.out.len() < MAX_VIOLATIONS {
            check(self);
        }
        self.path.truncate(mark);
    }

    fn refuse(&mut self, message: impl Into<String>) {
        self.out.push(violation(self.path.clone(), message));
    }
}

fn range(rules: &Rules) -> String {
    match (rules.min, rules.max) {
        (Some(min), Some(max)) => format!("must be from {min} to {max}"),
        (Some(min), None) => format!("must be at least {min}"),
        (None, Some(max)) => format!("must be at most {max}"),
        (None, None) => "must be a finite number".to_owned(),
    }
}

pub(crate) fn format_of(format: Format) -> format::Format {
    match format {
        Format::Unspecified => format::Format::Text,
        Format::Email => format::Format::Email,
        Format::Phone => format::Format::Phone,
        Format::TimeZone => format::Format::TimeZone,
        Format::Currency => format::Format::Currency,
        Format::Permission => format::Format::Permission,
        Format::Slug => format::Format::Slug,
        Format::PageToken => format::Format::PageToken,
    }
}
