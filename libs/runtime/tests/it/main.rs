//! The runtime's tests: one binary.
//!
//! Deliberately absent: tests that need a service.

mod configuration;
mod traces;
