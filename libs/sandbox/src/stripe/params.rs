//! Owns typed access to request parameters, each failure with Stripe's code and the parameter's full name.
//!
//! Deliberately absent: defaults. An operation says what the absence of a parameter means.

use serde_json::{Map, Value};

use super::errors::{Result, StripeError};
use super::form::Pair;

const METADATA_KEYS: usize = 50;
const METADATA_KEY: usize = 40;
const METADATA_VALUE: usize = 500;

/// A part of the parameters' tree, which knows its own name.
#[derive(Clone, Debug)]
pub(crate) struct Params<'a> {
    value: &'a Value,
    name: String,
}

impl<'a> Params<'a> {
    pub(crate) fn new(tree: &'a Value) -> Params<'a> {
        Params {
            value: tree,
            name: String::new(),
        }
    }

    /// `items[0][price]` for `price` within `items[0]`.
    pub(crate) fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}[{key}]", self.name)
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    /// Text; `Some("")` where the caller asks for something to be unset.
    pub(crate) fn raw(&self, key: &str) -> Result<Option<&'a str>> {
        match self.value.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => {
                let name = self.name_of(key);
                Err(StripeError::parameter(
                    "parameter_invalid_string",
                    &name,
                    format!("Invalid string: {name}"),
                ))
            }
        }
    }

    /// Text that is not empty.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.raw(key)? {
            Some("") => {
                let name = self.name_of(key);
                let message = format!(
                    "You passed an empty string for '{name}'. We assume empty values are an attempt to unset a \
                     parameter; however '{name}' cannot be unset. You should remove '{name}' from your request or \
                     supply a non-empty value."
                );
                Err(StripeError::parameter(
                    "parameter_invalid_empty",
                    &name,
                    message,
                ))
            }
            text => Ok(text),
        }
    }

    pub(crate) fn require_text(&self, key: &str) -> Result<&'a str> {
        self.text(key)?
            .ok_or_else(|| StripeError::missing(&self.name_of(key)))
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let invalid = || {
            let name = self.name_of(key);
            StripeError::parameter(
                "parameter_invalid_integer",
                &name,
                format!("Invalid integer: {text}"),
            )
        };
        text.parse().map(Some).map_err(|_| invalid())
    }

    pub(crate) fn integer_from(&self, key: &str, least: i64, most: i64) -> Result<Option<i64>> {
        let found = self.integer(key)?;
        match found {
            Some(number) if number < least || number > most => {
                let name = self.name_of(key);
                let message = format!("Invalid {name}: must be between {least} and {most}");
                Err(StripeError::parameter(
                    "parameter_invalid_integer",
                    &name,
                    message,
                ))
            }
            found => Ok(found),
        }
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => {
                let name = self.name_of(key);
                Err(StripeError::parameter(
                    "parameter_invalid",
                    &name,
                    format!("Invalid decimal: {text}"),
                ))
            }
        }
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        match self.text(key)? {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => {
                let name = self.name_of(key);
                Err(StripeError::parameter(
                    "parameter_invalid_boolean",
                    &name,
                    format!("Invalid boolean: {other}"),
                ))
            }
        }
    }

    pub(crate) fn one_of(
        &self,
        key: &str,
        allowed: &[&'static str],
    ) -> Result<Option<&'static str>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        match allowed.iter().find(|known| **known == text) {
            Some(known) => Ok(Some(known)),
            None => {
                let name = self.name_of(key);
                let message = format!("Invalid {name}: must be one of {}", allowed.join(", "));
                Err(StripeError::parameter("parameter_invalid", &name, message))
            }
        }
    }

    /// A three-letter currency, in lower case.
    pub(crate) fn currency(&self, key: &str) -> Result<Option<String>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        if text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Ok(Some(text.to_ascii_lowercase()));
        }
        let name = self.name_of(key);
        Err(StripeError::parameter(
            "parameter_invalid",
            &name,
            format!("Invalid currency: {text}"),
        ))
    }

    /// A nested object.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Params<'a>>> {
        match self.value.get(key) {
            None => Ok(None),
            Some(value @ Value::Object(_)) => Ok(Some(Params {
                value,
                name: self.name_of(key),
            })),
            Some(_) => {
                let name = self.name_of(key);
                Err(StripeError::parameter(
                    "parameter_invalid",
                    &name,
                    format!("Invalid object: {name}"),
                ))
            }
        }
    }

    /// An array of objects; absent is empty.
    pub(crate) fn objects(&self, key: &str) -> Result<Vec<Params<'a>>> {
        let name = self.name_of(key);
        let invalid = || StripeError::parameter("parameter_invalid", &name, "Invalid array");
        match self.value.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .iter()
                .enumerate()
                .map(|(index, value)| {
                    if !value.is_object() {
                        return Err(invalid());
                    }
                    Ok(Params {
                        value,
                        name: format!("{name}[{index}]"),
                    })
                })
                .collect(),
            Some(_) => Err(invalid()),
        }
    }

    /// An array of texts; absent is empty.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<&'a str>> {
        let name = self.name_of(key);
        let invalid = || StripeError::parameter("parameter_invalid", &name, "Invalid array");
        match self.value.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_str().ok_or_else(invalid))
                .collect(),
            Some(_) => Err(invalid()),
        }
    }

    /// `metadata` merged into what is there: an empty value unsets a key, an empty `metadata` unsets all.
    pub(crate) fn metadata(&self, present: Option<&Value>) -> Result<Value> {
        let mut merged = present
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let invalid = |name: &str, message: String| {
            StripeError::parameter("parameter_invalid", name, message)
        };
        match self.value.get("metadata") {
            None => {}
            Some(Value::String(text)) if text.is_empty() => merged = Map::new(),
            Some(Value::Object(changes)) => {
                for (key, value) in changes {
                    let name = format!("metadata[{key}]");
                    let Some(value) = value.as_str() else {
                        return Err(invalid(&name, "Metadata values must be strings".into()));
                    };
                    if key.chars().count() > METADATA_KEY {
                        return Err(invalid(
                            &name,
                            format!("Metadata keys can have up to {METADATA_KEY} characters"),
                        ));
                    }
                    if value.chars().count() > METADATA_VALUE {
                        return Err(invalid(
                            &name,
                            format!("Metadata values can have up to {METADATA_VALUE} characters"),
                        ));
                    }
                    if value.is_empty() {
                        merged.shift_remove(key);
                    } else {
                        merged.insert(key.clone(), Value::String(value.to_owned()));
                    }
                }
            }
            // Keys that are all numbers read as an array.
            Some(_) => return Err(invalid("metadata", "Invalid hash".into())),
        }
        if merged.len() > METADATA_KEYS {
            return Err(invalid(
                "metadata",
                format!("Metadata can have up to {METADATA_KEYS} keys"),
            ));
        }
        Ok(Value::Object(merged))
    }

    pub(crate) fn tree(&self) -> &'a Value {
        self.value
    }
}

/// Refuses every parameter that no pattern covers. Patterns: `customer`, `items[].price`, `metadata.*`.
pub(crate) fn check_known(pairs: &[Pair], patterns: &[&str]) -> Result<()> {
    for pair in pairs {
        if pair.path[0] == "expand" || patterns.iter().any(|pattern| covers(pattern, &pair.path)) {
            continue;
        }
        let name = pair.name();
        return Err(StripeError::parameter(
            "parameter_unknown",
            &name,
            format!("Received unknown parameter: {name}"),
        ));
    }
    Ok(())
}

fn covers(pattern: &str, path: &[String]) -> bool {
    let mut rest = path.iter().map(String::as_str);
    for segment in pattern.split('.') {
        if segment == "*" {
            return true;
        }
        let (name, array) = segment
            .strip_suffix("[]")
            .map_or((segment, false), |name| (name, true));
        if rest.next() != Some(name) {
            return false;
        }
        if array {
            match rest.next() {
                Some(index) if index.bytes().all(|b| b.is_ascii_digit()) => {}
                // `items=` (empty) unsets the array.
                None => return true,
                Some(_) => return false,
            }
        }
    }
    rest.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::form::pairs;

    #[test]
    fn patterns_cover_what_they_name_and_nothing_else() {
        let known = ["customer", "items[].price", "metadata.*", "types[]"];
        let check = |encoded: &str| {
            check_known(&pairs(encoded).expect("pairs"), &known).map_err(|error| error.param)
        };
        assert_eq!(
            check(
                "customer=a&items[0][price]=b&metadata[x]=y&metadata=&types[]=a&types[1]=b&expand[]=q"
            ),
            Ok(())
        );
        assert_eq!(
            check("items[0][prize]=b"),
            Err(Some("items[0][prize]".into()))
        );
        assert_eq!(check("items[price]=b"), Err(Some("items[price]".into())));
        assert_eq!(check("customer[id]=b"), Err(Some("customer[id]".into())));
        assert_eq!(check("custommer=b"), Err(Some("custommer".into())));
    }
}
