//! The Stripe simulator over real HTTP, as its users meet it.
//!
//! Deliberately absent: calls into the crate's insides. What these tests know is what Stripe's documentation and
//! `api.md` promise.

mod billing;
mod cards;
mod client;
mod control;
mod durability;
mod idempotency;
mod python;
mod reading;
mod webhooks;
