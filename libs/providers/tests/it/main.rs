//! The provider stack against real HTTP servers that misbehave.
//!
//! Deliberately absent: Stripe's simulator, which has its own tests; here a server says exactly one thing.

mod certainty;
mod server;
mod spans;
mod stripe;
