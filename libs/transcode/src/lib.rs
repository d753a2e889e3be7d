//! JSON to protobuf and back over descriptors, the route table, OpenAPI; no I/O.
