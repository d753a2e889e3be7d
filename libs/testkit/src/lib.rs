//! What tests across the workspace share. Deliberately absent: fakes of our own parts; tests run against the real ones.

pub mod postgres;

pub use postgres::TestDatabase;
