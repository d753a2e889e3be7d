//! The runtime's tests: one binary.
//!
//! Deliberately absent: tests that need a service.

mod collector;
mod configuration;
mod traces;
