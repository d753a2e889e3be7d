//! The digest that stands for an object's images in the log. Pure.
//! Deliberately absent: the chain; it is made over rows that hold this digest.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 over the salt and both images in canonical form, so that what comes back from the database digests alike.
pub fn image_digest(salt: &[u8; 16], before: Option<&Value>, after: Option<&Value>) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(salt);
    for image in [before, after] {
        let text = image
            .map(|value| canonical(value).to_string())
            .unwrap_or_default();
        digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

/// The same value with every object's keys in order. `jsonb` keeps an order of its own.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> = map
                .iter()
                .map(|(key, value)| (key, canonical(value)))
                .collect();
            Value::Object(
                sorted
                    .into_iter()
                    .map(|(key, value)| (key.clone(), value))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_does_not_change_the_digest_and_anything_else_does() {
        let salt = [1; 16];
        let digest = |before: Option<Value>, after: Option<Value>| {
            image_digest(&salt, before.as_ref(), after.as_ref())
        };
        let one = digest(
            None,
            Some(json!({"a": 1, "b": {"c": [1, {"x": 1, "y": 2}], "d": 2}})),
        );
        assert_eq!(
            one,
            digest(
                None,
                Some(json!({"b": {"d": 2, "c": [1, {"y": 2, "x": 1}]}, "a": 1}))
            )
        );
        assert_ne!(
            one,
            digest(
                None,
                Some(json!({"a": 2, "b": {"c": [1, {"x": 1, "y": 2}], "d": 2}}))
            )
        );
        let image = json!({"a": 1});
        assert_ne!(
            digest(Some(image.clone()), None),
            digest(None, Some(image.clone()))
        );
        assert_ne!(
            digest(Some(image.clone()), None),
            image_digest(&[2; 16], Some(&image), None)
        );
    }
}
