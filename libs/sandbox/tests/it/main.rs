//! The simulators over real HTTP, as its users meet it.
//!
//! Deliberately absent: calls into the crate's insides. What these tests know is what the providers' documentation
//! and `api.md` promise.

mod billing;
mod cards;
mod changes;
mod checkout;
mod client;
mod clocks;
mod control;
mod coupons;
mod disputes;
mod durability;
mod idempotency;
mod mail;
mod many;
mod openai;
mod people;
mod python;
mod reading;
mod receiver;
mod sending_faults;
mod twilio;
mod webhooks;
