//! The OpenAPI 3.1 document of all public methods.

use serde_json::Value;

use crate::Schema;

/// The document, for a gateway at `base_url`.
pub fn document(_schema: &Schema, _base_url: &str) -> Value {
    Value::Null
}
