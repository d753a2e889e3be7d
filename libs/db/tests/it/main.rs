//! The database layer against a real PostgreSQL. Deliberately absent: domain tables; walls are tried on tables of this
//! test's own, and the catalogue test looks at everyone's.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cancellation;
mod catalogue;
mod claims;
mod local_server;
mod migrations;
mod start_check;
mod transactions;
mod walls;
mod warm;
