//! What every role of the binary needs to run: configuration, telemetry, health, shutdown, the clock, and signed links.
//!
//! Deliberately absent: anything that knows a service, a table, or a wire format.

pub mod clock;
pub mod config;
pub mod health;
pub mod link;
pub mod shutdown;
pub mod telemetry;

/// Of every program that links this: a request is hundreds of small allocations, and glibc spends more on each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use clock::{Clock, ClockHand};
pub use config::Config;
pub use health::Health;
pub use shutdown::Shutdown;
