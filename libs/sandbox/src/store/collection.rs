//! Owns the objects of one kind: by id, in the order in which they were made, and by the fields that are asked for.
//!
//! Deliberately absent: indexes by status or time. They change with every step of an object's life; whoever filters by
//! them filters by an owner too, or reads everything anyway.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use serde_json::Value;

/// Top-level fields that hold another object's id, or a name by which the object is found.
const FIELDS: [&str; 10] = [
    "customer",
    "invoice",
    "charge",
    "payment_intent",
    "lookup_key",
    "_subscription",
    "_session",
    "_payment_intent",
    "to",
    "phone_number",
];

/// A value by which objects are looked up.
#[derive(Clone, Debug)]
pub(crate) struct By {
    key: String,
    field: &'static str,
    value: String,
}

impl By {
    /// An indexed field, or none.
    pub(crate) fn field(field: &str, value: &str) -> Option<By> {
        let field = *FIELDS.iter().find(|known| **known == field)?;
        Some(By {
            key: key(field, value),
            field,
            value: value.to_owned(),
        })
    }

    /// A customer's.
    pub(crate) fn customer(id: &str) -> Option<By> {
        By::field("customer", id)
    }

    pub(crate) fn covers(&self, object: &Value) -> bool {
        object[self.field] == *self.value
    }
}

/// Objects by an entry of their metadata, upper and lower case alike.
pub(super) fn metadata_key(name: &str, value: &str) -> String {
    key(&format!("metadata[{name}]"), &value.to_ascii_lowercase())
}

fn key(field: &str, value: &str) -> String {
    format!("{field}={value}")
}

fn keys(object: &Value) -> Vec<String> {
    let fields = FIELDS
        .iter()
        .filter_map(|field| Some(key(field, object.get(*field)?.as_str()?)));
    let metadata = object
        .get("metadata")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some(metadata_key(name, value.as_str()?)));
    fields.chain(metadata).collect()
}

/// Objects of a kind.
#[derive(Debug, Default)]
pub(super) struct Collection {
    by_id: HashMap<String, (u64, Value)>,
    order: BTreeMap<u64, String>,
    indexes: HashMap<String, BTreeSet<u64>>,
}

impl Collection {
    pub(super) fn get(&self, id: &str) -> Option<&Value> {
        self.by_id.get(id).map(|(_, object)| object)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Where an object stands among those of its kind: the younger, the higher.
    pub(super) fn position(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).map(|(position, _)| *position)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&String, u64, &Value)> {
        self.by_id
            .iter()
            .map(|(id, (position, object))| (id, *position, object))
    }

    fn at(&self, position: u64) -> Option<(u64, &Value)> {
        let id = self.order.get(&position)?;
        Some((position, self.get(id)?))
    }

    /// Within the open range of positions, oldest first; by an index if `key` is given.
    pub(super) fn between<'c>(
        &'c self,
        key: Option<&str>,
        range: (Bound<u64>, Bound<u64>),
    ) -> Box<dyn DoubleEndedIterator<Item = (u64, &'c Value)> + 'c> {
        match key {
            Some(key) => match self.indexes.get(key) {
                Some(positions) => Box::new(
                    positions
                        .range(range)
                        .filter_map(|position| self.at(*position)),
                ),
                None => Box::new(std::iter::empty()),
            },
            None => Box::new(
                self.order
                    .range(range)
                    .filter_map(|(position, id)| Some((*position, self.get(id)?))),
            ),
        }
    }

    /// Removes an object and hands it back with its position.
    pub(super) fn remove(&mut self, id: &str) -> Option<(u64, Value)> {
        let (position, object) = self.by_id.remove(id)?;
        self.order.remove(&position);
        for key in keys(&object) {
            if let Some(positions) = self.indexes.get_mut(&key) {
                positions.remove(&position);
                if positions.is_empty() {
                    self.indexes.remove(&key);
                }
            }
        }
        Some((position, object))
    }

    pub(super) fn insert(&mut self, id: String, position: u64, object: Value) {
        for key in keys(&object) {
            self.indexes.entry(key).or_default().insert(position);
        }
        self.order.insert(position, id.clone());
        self.by_id.insert(id, (position, object));
    }
}

impl By {
    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_found_by_what_it_is_now_and_not_by_what_it_was() {
        let mut kept = Collection::default();
        kept.insert(
            "pm_1".into(),
            7,
            json!({ "customer": "cus_1", "metadata": { "K": "Ab" } }),
        );
        let found = |kept: &Collection, key: &str| {
            let all = (Bound::Unbounded, Bound::Unbounded);
            kept.between(Some(key), all).count()
        };
        assert_eq!(found(&kept, "customer=cus_1"), 1);
        assert_eq!(found(&kept, &metadata_key("K", "aB")), 1);
        let (position, _) = kept.remove("pm_1").expect("it was there");
        kept.insert("pm_1".into(), position, json!({ "customer": "cus_2" }));
        assert_eq!(found(&kept, "customer=cus_1"), 0);
        assert_eq!(found(&kept, &metadata_key("K", "aB")), 0);
        assert_eq!(found(&kept, "customer=cus_2"), 1);
    }
}
