//! Queue, events and idempotency on a real PostgreSQL, with real runners. Deliberately absent: sleeps. Tests wait on
//! signals: a handler that reports, a row that was locked, a stop that has ended.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod events;
mod idempotency;
mod probe;
mod queue;
mod recurring;
mod runner;
mod support;
