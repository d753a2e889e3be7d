//! The saga coordinator (BIL-20): what several systems must do together, step by step, with a log that survives any
//! crash. Read `definition` (what a saga is), `rules` (what follows from what), `log`, `engine`, then the sagas
//! themselves: `start_subscription`, `change_subscription`, `end_grace`, `sync_entitlements`,
//! `onboard_client`, `offboard_client`.
//! Deliberately absent: a saga's own state in memory, and compensation of what is merely unknown.

pub mod change_subscription;
pub mod definition;
pub mod end_grace;
mod engine;
mod log;
pub mod offboard_client;
pub mod onboard_client;
mod place;
mod probe;
pub mod prover;
pub mod rpc;
mod rules;
mod sql;
mod standing;
pub mod start_subscription;
pub mod sync_entitlements;

pub use definition::Call;
pub use definition::{Definition, Direction, Failure, Probed, Refusal, Step, Stop, Wait};
pub use engine::{DecisionError, Engine, EngineLimits, Interruption, Moment, Started, Verdict};
pub use log::Standing;
pub use probe::SagaProbe;
