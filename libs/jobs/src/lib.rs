//! Work that outlives its request: the durable queue, events between services, and what makes repeats harmless.
//! All of it is rows in the service's own schema (`migrations/_core`), written in the transaction of their cause.
//! Deliberately absent: brokers, schedules that live in memory, and any domain rule.
//!
//! Reading order: [`queue`] (rows) → [`runner`] (who works them) → [`outbox`] → [`inbox`] → [`idempotency`] → [`audit`] →
//! [`retention`] → [`probe`] (how all that stands).

pub mod audit;
pub mod backoff;
pub mod idempotency;
pub mod inbox;
pub mod outbox;
pub mod probe;
pub mod queue;
pub mod retention;
pub mod runner;

pub use inbox::{Event, EventError, EventHandler, EventTx, Inbox};
pub use outbox::{NewEvent, Relay};
pub use probe::{DatabaseProbe, QueueProbe};
pub use queue::{Enqueued, Job, JobError, NewJob, Priority, enqueue};
pub use runner::{Handler, Runner, Wake};
