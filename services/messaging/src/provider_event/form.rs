//! That somebody sent a form: one submission, one lead.
//! Deliberately absent: what the fields mean, which [`crate::form_submission`] reads.

use mainstay_jobs::record::By;
use mainstay_rpc::ServiceName;
use mainstay_types::{FormEndpointId, Tenant, WebhookEventId};

use super::{Error, Handled, Outcome, ProviderEvent};
use crate::Messaging;
use crate::form_submission::{self, Arrived, rules};

/// Where a form came from, beyond what every event has.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What it was sent to.
    pub endpoint: FormEndpointId,
    /// What it was stored as.
    pub webhook: WebhookEventId,
    /// How its body is read.
    pub content_type: String,
}

pub(super) async fn take(
    messaging: &Messaging,
    event: &ProviderEvent,
    sent: &Sent,
) -> Result<Handled, Error> {
    let Some(client) = event.client else {
        return Ok(Handled::ignored("a form of no client's"));
    };
    let tenant = Tenant {
        agency: event.agency,
        client,
    };
    let by = By::itself(ServiceName::Messaging, tenant.agency, messaging.clock.now());
    let arrived = Arrived {
        endpoint: sent.endpoint,
        webhook: sent.webhook,
        fields: rules::fields(&sent.content_type, &event.body).map_err(Error::Unreadable)?,
        at: event.received_at,
    };
    let taken = form_submission::take(messaging, tenant, &by, &arrived).await?;
    let (outcome, detail) = match taken {
        None => (Outcome::Duplicate, "it is here".to_owned()),
        Some(kept) => {
            let named: Vec<String> = kept
                .problems
                .iter()
                .map(|problem| format!("{} {}", problem.field, problem.message))
                .collect();
            let named = named.join("; ");
            match (kept.lead, named.as_str()) {
                (Some(lead), "") => (Outcome::Applied, format!("from {lead}")),
                (Some(lead), _) => (Outcome::Applied, format!("from {lead}; {named}")),
                (None, "") => (
                    Outcome::Ignored,
                    "kept, and of nobody: it has no phone and no email".to_owned(),
                ),
                (None, _) => (Outcome::Ignored, format!("kept, and of nobody: {named}")),
            }
        }
    };
    Ok(Handled {
        outcome,
        detail,
        client: Some(client),
    })
}
