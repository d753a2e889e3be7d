//! Dead letters and queues of all services, asked for over the network and shown as one: no service reads another's tables.
//! Deliberately absent: a store. Each dead letter lives in the schema of the service whose job it was.

pub mod rpc;
pub mod rules;

use chrono::{DateTime, Utc};
use mainstay_types::ServiceName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The place of a dead letter in the order of all: the last given up comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// When it was given up, in microseconds.
    pub dead_at_us: i64,
    /// The job.
    pub job: Uuid,
}

/// A dead letter, and whose.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The service whose job it was.
    pub service: ServiceName,
    /// Where it stands.
    pub place: Place,
    /// What kind of work.
    pub kind: String,
    /// The client it was for, as the outside spells it.
    pub client: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// Why it failed last.
    pub error: String,
    /// The trace its tries belong to.
    pub traceparent: Option<String>,
    /// When it was queued first.
    pub enqueued_at: Option<prost_types::Timestamp>,
}

impl DeadLetter {
    /// When it was given up.
    pub fn dead_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.place.dead_at_us)
    }
}
