//! JSON to protobuf and back over descriptors: the methods and what they say about themselves, the
//! route table, the strict JSON codec, the rules every request must satisfy, and OpenAPI.
//! Deliberately absent: I/O of any kind, and any knowledge of one particular method.
//!
//! Read in this order: [`schema`] (what there is), [`mod@route`] (which method a path means), [`decode`]
//! (request text to message), [`rules`] (what a message must satisfy), [`encode`] (message to answer
//! text), [`reason`] (the ways to refuse), [`openapi`] (all of it told to the outside).

pub mod decode;
pub mod encode;
mod json;
pub mod openapi;
pub mod reason;
pub mod route;
pub mod rules;
pub mod schema;
mod shape;

pub use decode::{RequestParts, decode_request};
pub use encode::{encode_message, encode_response};
pub use mainstay_proto::errors::v1::FieldViolation as Violation;
pub use reason::ReasonInfo;
pub use route::{Found, NotRouted};
pub use rules::check_rules;
pub use schema::{Binding, MethodInfo, Schema, SchemaError, Verb};

/// The most violations one answer names; a request worse than that is told of these.
pub const MAX_VIOLATIONS: usize = 100;

/// The greatest length, in characters, of a string whose rules give none.
pub const DEFAULT_MAX_TEXT: u32 = 1000;

/// The most items of a list or map whose rules give no number.
pub const DEFAULT_MAX_ITEMS: u32 = 100;

/// Builds a violation.
pub(crate) fn violation(field: impl Into<String>, message: impl Into<String>) -> Violation {
    Violation {
        field: field.into(),
        message: message.into(),
    }
}
