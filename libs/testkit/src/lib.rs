//! What tests across the workspace share. Deliberately absent: fakes of our own parts; tests run against the real ones.

pub mod events;
pub mod postgres;
pub mod stage;
pub mod waiting;

pub use postgres::TestDatabase;
pub use stage::Stage;
pub use waiting::{Looks, PATIENCE, in_time};
