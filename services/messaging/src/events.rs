//! What messaging does about the facts of other services.
//! Deliberately absent: any effect, so far. Messaging owns no rows yet that an event could change.

use mainstay_jobs::{Event, EventError, EventHandler, EventTx};

/// Takes events in.
#[derive(Debug, Clone, Copy)]
pub struct Facts;

#[tonic::async_trait]
impl EventHandler for Facts {
    /// A type that means nothing here is taken, noted in the inbox by which it is counted, and has no effect: a sender
    /// may be of a newer release. Refusing it would block its aggregate for nothing.
    async fn apply(&self, _: &mut EventTx, event: &Event) -> Result<(), EventError> {
        tracing::debug!(event.id = %event.id, event.event_type, "an event that means nothing to messaging");
        Ok(())
    }
}
