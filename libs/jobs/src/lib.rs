//! Work that outlives its request: the durable queue, events between services, and what makes repeats harmless.
//! All of it is rows in the service's own schema (`migrations/_core`), written in the transaction of their cause.
//! Deliberately absent: brokers, schedules that live in memory, and any domain rule.
//!
//! Reading order: [`queue`] (rows) → [`runner`] (who works them) → [`recurring`] (what is never
//! done) → [`outbox`] → [`inbox`] → [`idempotency`] → [`once`] (a request's
//! key, by it) → [`audit`] → [`record`] (an audit row and an event together) → [`saga_step`] → [`retention`] → [`probe`] (how all
//! that stands), [`readiness`] → [`machinery`] (how a service starts and stops all of it).

pub mod audit;
pub mod backoff;
pub mod failure;
pub mod idempotency;
pub mod inbox;
pub mod machinery;
pub mod once;
pub mod outbox;
pub mod probe;
pub mod queue;
pub mod readiness;
pub mod record;
pub mod recurring;
pub mod retention;
pub mod runner;
pub mod saga_step;

pub use inbox::{Event, EventError, EventHandler, EventTx, Inbox};
pub use machinery::Machinery;
pub use outbox::{NewEvent, Relay};
pub use probe::{DatabaseProbe, QueueProbe};
pub use queue::{Enqueued, Job, JobError, NewJob, Priority, Queue, enqueue};
pub use recurring::Recurring;
pub use runner::{Handler, Runner, Wake};
