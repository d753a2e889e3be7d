//! What tests across the workspace share. Deliberately absent: fakes of our own parts; tests run against the real ones.

pub mod events;
pub mod postgres;
pub mod stage;

pub use postgres::TestDatabase;
pub use stage::Stage;
