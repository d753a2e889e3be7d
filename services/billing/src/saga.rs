//! The saga coordinator (BIL-20): what several systems must do together, step by step, with a log that survives any
//! crash. Read `definition` (what a saga is), `rules` (what follows from what), `log`, `engine`, then the sagas
//! themselves: `start_subscription`, `sync_entitlements`.
//! Deliberately absent: a saga's own state in memory, and compensation of what is merely unknown.

pub mod definition;
mod engine;
mod log;
mod probe;
pub mod rpc;
mod rules;
mod sql;
pub mod start_subscription;
pub mod sync_entitlements;

pub use definition::{Definition, Refusal};
pub use engine::{Engine, EngineLimits, Started};
pub use log::Standing;
pub use probe::SagaProbe;
