//! Owns what is shown of an object: everything but the simulators' private fields, which begin with `_`.
//!
//! Deliberately absent: copies, where text is all that is wanted.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// What is shown of an object, on its way into text: without the simulator's private fields, and without a copy.
pub(crate) struct Public<'a>(pub &'a Value);

impl Serialize for Public<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let mut map = to.serialize_map(None)?;
                for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with('_')) {
                    // Keys of metadata are the caller's and may begin with anything.
                    if name == "metadata" {
                        map.serialize_entry(name, value)?;
                    } else {
                        map.serialize_entry(name, &Public(value))?;
                    }
                }
                map.end()
            }
            Value::Array(values) => to.collect_seq(values.iter().map(Public)),
            other => other.serialize(to),
        }
    }
}

/// JSON of what cannot fail to become it: texts for keys, and no type of our own that refuses.
pub(crate) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// An object without the simulator's private fields.
pub(crate) fn public(value: &Value) -> Value {
    serde_json::to_value(Public(value)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_fields_are_hidden_but_metadata_is_the_callers() {
        let object = serde_json::json!({ "id": "x", "_secret": 1, "data": [{ "_a": 1, "metadata": { "_k": "v" } }] });
        assert_eq!(
            public(&object),
            serde_json::json!({ "id": "x", "data": [{ "metadata": { "_k": "v" } }] })
        );
    }
}
