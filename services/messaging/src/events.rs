//! What messaging does about the facts of other services: whoever leaves lets go of the conversations they had.
//! Deliberately absent: an answer. Who raised it sees what came of it.

use mainstay_jobs::{Event, EventError, EventHandler, EventTx};
use mainstay_runtime::Clock;
use mainstay_types::MemberId;

use crate::conversation;

/// Takes events in.
#[derive(Debug, Clone)]
pub struct Facts {
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl EventHandler for Facts {
    /// A type that means nothing here is taken, noted in the inbox by which it is counted, and has no effect: a sender
    /// may be of a newer release. Refusing it would block its aggregate for nothing.
    async fn apply(&self, tx: &mut EventTx, event: &Event) -> Result<(), EventError> {
        if event.event_type != "identity.member.deactivated" {
            tracing::debug!(event.id = %event.id, event.event_type, "an event that means nothing to messaging");
            return Ok(());
        }
        let member = MemberId::parse(&event.aggregate_id).map_err(EventError::poisoned)?;
        let now = self.clock.now();
        Ok(conversation::departed::depart(tx.conn(), event.agency, member, now).await?)
    }
}
