//! Owns the reading of Stripe's request encoding: `items[0][price]=…`, `metadata[k]=v`, `expand[]=…` become a tree.
//!
//! Deliberately absent: types. Everything is text until `params` asks for something.

use serde_json::{Map, Value};

use super::errors::{Result, StripeError};
use crate::urlencoded::decode;

const MOST_PARAMETERS: usize = 1_000;
const DEEPEST: usize = 8;

/// A parameter as sent: its path and its text.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// `["items", "0", "price"]`; an empty segment stands for `[]`.
    pub path: Vec<String>,
    pub value: String,
}

impl Pair {
    /// `items[0][price]`.
    pub(crate) fn name(&self) -> String {
        let mut name = self.path[0].clone();
        for segment in &self.path[1..] {
            name.push('[');
            name.push_str(segment);
            name.push(']');
        }
        name
    }
}

/// Splits `a=b&c[d]=e`.
pub(crate) fn pairs(encoded: &str) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for part in encoded.split('&').filter(|part| !part.is_empty()) {
        if pairs.len() == MOST_PARAMETERS {
            return Err(StripeError::parameter(
                "parameter_invalid",
                "",
                "Too many parameters.",
            ));
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (Some(name), Some(value)) = (decode(name), decode(value)) else {
            return Err(StripeError::parameter(
                "parameter_invalid",
                part,
                "Invalid URL encoding.",
            ));
        };
        let Some(path) = path(&name) else {
            let message = format!("Invalid parameter name: {name}");
            return Err(StripeError::parameter("parameter_unknown", &name, message));
        };
        pairs.push(Pair { path, value });
    }
    Ok(pairs)
}

/// The tree of the pairs: objects, and arrays where the keys are `[]` or numbers.
pub(crate) fn tree(pairs: &[Pair]) -> Result<Value> {
    let mut root = Map::new();
    for pair in pairs {
        if !insert(&mut root, &pair.path, &pair.value) {
            let name = pair.name();
            return Err(StripeError::parameter(
                "parameter_invalid",
                &name,
                format!("Invalid use of parameter: {name}"),
            ));
        }
    }
    Ok(settle(Value::Object(root)))
}

/// Inserts into nested maps; `[]` gets the next free number. False when a name is both a value and a container.
fn insert(map: &mut Map<String, Value>, path: &[String], value: &str) -> bool {
    let key = if path[0].is_empty() {
        map.len().to_string()
    } else {
        path[0].clone()
    };
    if path.len() == 1 {
        return !matches!(
            map.insert(key, Value::String(value.to_owned())),
            Some(Value::Object(_))
        );
    }
    match map.entry(key).or_insert_with(|| Value::Object(Map::new())) {
        Value::Object(inner) => insert(inner, &path[1..], value),
        _ => false,
    }
}

/// Turns maps whose keys are 0, 1, 2 … into arrays.
fn settle(value: Value) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    let mut numbers: Vec<(usize, Value)> = Vec::with_capacity(map.len());
    let numbered = !map.is_empty()
        && map
            .keys()
            .all(|key| key.len() < 5 && key.bytes().all(|b| b.is_ascii_digit()));
    if !numbered {
        // The keys of metadata are the caller's, numbers or not.
        let settled = map.into_iter().map(|(key, value)| {
            if key == "metadata" {
                (key, value)
            } else {
                (key, settle(value))
            }
        });
        return Value::Object(settled.collect());
    }
    for (key, value) in map {
        numbers.push((key.parse().unwrap_or_default(), settle(value)));
    }
    numbers.sort_by_key(|(number, _)| *number);
    Value::Array(numbers.into_iter().map(|(_, value)| value).collect())
}

fn path(name: &str) -> Option<Vec<String>> {
    let (first, mut rest) = match name.find('[') {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    if first.is_empty() {
        return None;
    }
    let mut path = vec![first.to_owned()];
    while !rest.is_empty() {
        let end = rest.find(']')?;
        path.push(rest.strip_prefix('[')?.get(..end - 1)?.to_owned());
        rest = &rest[end + 1..];
    }
    (path.len() <= DEEPEST).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(encoded: &str) -> Value {
        tree(&pairs(encoded).expect("pairs")).expect("tree")
    }

    #[test]
    fn nested_names_become_a_tree() {
        assert_eq!(
            read(
                "customer=cus_1&items[0][price]=price_1&items[0][quantity]=2&items[1][price]=price_2&metadata[a%20b]=c+d&expand[]=x&expand[]=y"
            ),
            json!({
                "customer": "cus_1",
                "items": [{"price": "price_1", "quantity": "2"}, {"price": "price_2"}],
                "metadata": {"a b": "c d"},
                "expand": ["x", "y"],
            })
        );
    }

    #[test]
    fn malformed_names_and_escapes_are_refused() {
        for bad in [
            "a%zz=1",
            "a%f=1",
            "[x]=1",
            "a[b=1",
            "a[b]c=1",
            "a=1&a[b]=2",
            "a%ff=1",
        ] {
            assert!(pairs(bad).and_then(|pairs| tree(&pairs)).is_err(), "{bad}");
        }
    }
}
