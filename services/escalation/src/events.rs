//! What escalation does about the facts of other services: a lead that needs a person has one called, whoever leaves lets go of
//! what they had, nobody is called any more for a client that has left, and what somebody should look at is an alert.
//! Deliberately absent: an answer. Who raised it sees the escalation.

mod alerts;

use mainstay_jobs::record::By;
use mainstay_jobs::{Event, EventError, EventHandler, EventTx, NewJob, Wake, enqueue};
use mainstay_runtime::Clock;
use mainstay_types::{ConversationId, LeadId, MemberId, ServiceName};
use serde::Deserialize;

use crate::alert::{self, Told};
use crate::escalation::{self, Cause, New, Priority, act, sql};
use crate::jobs::release_departed;
use alerts::Says;

/// Takes events in.
#[derive(Debug, Clone)]
pub struct Facts {
    pub(crate) clock: Clock,
    pub(crate) jobs: Wake,
}

/// `messaging.hand_over.requested`.
#[derive(Debug, Deserialize)]
struct HandOver {
    lead_id: LeadId,
    conversation_id: Option<ConversationId>,
    lead_name: Option<String>,
    reason: String,
}

impl HandOver {
    /// What whoever is called should know.
    fn summary(&self) -> String {
        let who = self.lead_name.as_deref().unwrap_or("A lead");
        format!(
            "{who} needs a person: {}.",
            self.reason.trim_end_matches('.')
        )
    }
}

impl Facts {
    async fn hand_over(&self, tx: &mut EventTx, event: &Event) -> Result<(), EventError> {
        let wanted: HandOver = event.payload()?;
        let tx = tx.tenant()?;
        let by = By {
            agency: event.agency,
            actor: event.actor.clone(),
            request_id: None,
            now: self.clock.now(),
        };
        let new = New {
            cause: Cause::HandOver,
            subject: wanted.lead_id.to_string(),
            lead: Some(wanted.lead_id),
            conversation: wanted.conversation_id,
            summary: wanted.summary(),
            priority: Priority::Normal,
        };
        let tenant = tx.tenant();
        escalation::raise(tx.conn(), tenant, &by, &new, event.traceparent.clone()).await?;
        Ok(())
    }

    async fn client_left(&self, tx: &mut EventTx, event: &Event) -> Result<(), EventError> {
        let by = By {
            agency: event.agency,
            actor: event.actor.clone(),
            request_id: None,
            now: self.clock.now(),
        };
        let tx = tx.tenant()?;
        let tenant = tx.tenant();
        Ok(act::end_of_client(tx.conn(), &by, tenant).await?)
    }

    async fn alert(&self, tx: &mut EventTx, event: &Event, says: Says) -> Result<(), EventError> {
        let by = By::itself(ServiceName::Escalation, event.agency, self.clock.now());
        let at = event.occurred_at;
        match says {
            Says::Happened(new) => {
                let traceparent = event.traceparent.clone();
                alert::raise(tx.conn(), &by, &new, Told { at, traceparent }).await?;
            }
            Says::Over(thing) => alert::end(tx.conn(), &by, &thing, at).await?,
        }
        Ok(())
    }

    async fn departed(&self, tx: &mut EventTx, event: &Event) -> Result<(), EventError> {
        let member = MemberId::parse(&event.aggregate_id).map_err(EventError::poisoned)?;
        // Whoever takes something for them meanwhile is waited for, and seen.
        sql::lock_member(tx.conn(), member).await?;
        for (tenant, escalation) in sql::depart(tx.conn(), event.agency, member).await? {
            let payload = release_departed::Payload {
                escalation: escalation.uuid(),
                member: member.uuid(),
            };
            let job = NewJob::new(release_departed::KIND, &payload, self.clock.now())
                .for_tenant(tenant)
                .in_trace(event.traceparent.clone());
            enqueue(tx.conn(), job).await?;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl EventHandler for Facts {
    /// A type that means nothing here is taken, noted in the inbox by which it is counted, and has no effect: a sender
    /// may be of a newer release. Refusing it would block its aggregate for nothing.
    async fn apply(&self, tx: &mut EventTx, event: &Event) -> Result<(), EventError> {
        match event.event_type.as_str() {
            "messaging.hand_over.requested" => self.hand_over(tx, event).await,
            "identity.client.canceled" => self.client_left(tx, event).await,
            "identity.member.deactivated" => self.departed(tx, event).await,
            "identity.member.reactivated" => {
                let member = MemberId::parse(&event.aggregate_id).map_err(EventError::poisoned)?;
                Ok(sql::come_back(tx.conn(), event.agency, member).await?)
            }
            _ => match alerts::read(event) {
                Some(says) => self.alert(tx, event, says).await,
                None => {
                    tracing::debug!(event.id = %event.id, event.event_type, "an event that means nothing to escalation");
                    Ok(())
                }
            },
        }
    }

    fn applied(&self, _: &Event) {
        self.jobs.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_called_reads_who_needs_them_and_why() {
        let wanted = |name: Option<&str>, reason: &str| HandOver {
            lead_id: LeadId::generate(),
            conversation_id: None,
            lead_name: name.map(str::to_owned),
            reason: reason.to_owned(),
        };
        let summary = wanted(Some("Mike"), "wants to talk to somebody.").summary();
        assert_eq!(summary, "Mike needs a person: wants to talk to somebody.");
        let summary = wanted(None, "the model gave no answer").summary();
        assert_eq!(summary, "A lead needs a person: the model gave no answer.");
    }
}
