//! A schema with every kind of field, compiled from `protos/kitchen.proto`.

use std::sync::LazyLock;

use mainstay_transcode::{
    RequestParts, Schema, SchemaError, Violation, decode_request, encode_response,
};
use prost_reflect::prost::Message as _;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};
use serde_json::Value;

/// A client's id.
pub const CLIENT: &str = "cli_01h455vb4pex5vsknk084sn02q";

/// The schema.
pub static KITCHEN: LazyLock<Schema> = LazyLock::new(|| {
    load(include_str!("protos/kitchen.proto")).expect("the test protos are complete")
});

/// Loads a schema from the text of its one proto.
pub fn load(proto: &str) -> Result<Schema, SchemaError> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Kitchen(proto.to_owned()));
    resolver.add(IncludeFileResolver::new(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto").into(),
    ));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(["kitchen.proto"])
        .expect("the test protos compile");
    Schema::from_descriptor_set(&compiler.encode_file_descriptor_set())
}

struct Kitchen(String);

impl FileResolver for Kitchen {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == "kitchen.proto" {
            File::from_source(name, &self.0)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

/// What becomes of a request.
pub fn send(verb: &str, target: &str, body: &[u8]) -> Result<Value, Vec<Violation>> {
    send_with(verb, target, body, None)
}

/// What becomes of a request with an `If-Match`: the message as JSON of the answer kind, or the faults.
pub fn send_with(
    verb: &str,
    target: &str,
    body: &[u8],
    if_match: Option<&str>,
) -> Result<Value, Vec<Violation>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let found = KITCHEN.route(verb, path).expect("the route exists");
    let message = decode_request(
        &found,
        RequestParts {
            query,
            body,
            if_match,
        },
    )?;
    // What went in comes out: a request is told by its text form, a dish by its JSON.
    Ok(match message.get_field_by_name("dish") {
        Some(dish) => {
            let dish = dish.as_message().expect("a dish").encode_to_vec();
            encode_response(
                KITCHEN
                    .method("/mainstay.kitchen.v1.DishService/GetDish")
                    .expect("GetDish"),
                &dish,
            )
            .expect("a dish")
        }
        None => Value::String(format!("{message:?}")),
    })
}

/// Puts a dish.
pub fn put(dish: &str) -> Result<Value, Vec<Violation>> {
    let body = format!("{{\"dish\":{dish}}}");
    send(
        "PUT",
        &format!("/v1/clients/{CLIENT}/dishes/soup"),
        body.as_bytes(),
    )
}

/// The paths at fault, in order.
pub fn paths(faults: &[Violation]) -> Vec<&str> {
    faults.iter().map(|fault| fault.field.as_str()).collect()
}
