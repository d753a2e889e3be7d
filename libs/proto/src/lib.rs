//! Generated protobuf code and the descriptor set, nothing else.
