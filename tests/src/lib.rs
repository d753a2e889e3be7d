//! The harness of the journeys: the real binary on a data directory of its own, driven through what the
//! outside has (REST, webhooks, the simulator's ledger, the commands). Deliberately absent: calls into
//! the services' own code; a journey sees what a user sees, and the database only to prove that nothing moved.

pub mod carried;
pub mod chaos;
pub mod fuzz;
pub mod grpc;
pub mod platform;
pub mod rest;
pub mod rush;
pub mod sample;
pub mod snapshot;
pub mod story;
pub mod stripe;
pub mod world;

pub use platform::{Platform, Starting};
pub use rest::{Answer, Rest};
pub use world::World;
