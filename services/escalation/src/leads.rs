//! Whom a call for a person is about: asked of messaging, which alone knows whose a lead is.
//! Deliberately absent: a copy of leads.

use std::time::Duration;

use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::lead_directory_service_client::LeadDirectoryServiceClient;
use mainstay_rpc::{Channels, ErrorReason, Problem, ServiceChannel};
use mainstay_types::{ConversationId, LeadId, ServiceName, Tenant};
use tonic::Request;

/// How long messaging may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A lead of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lead {
    /// The one that stands, where it was merged.
    pub id: LeadId,
    /// The open conversation with it.
    pub conversation: Option<ConversationId>,
}

/// Asks messaging.
#[derive(Debug, Clone)]
pub struct Leads(LeadDirectoryServiceClient<ServiceChannel>);

impl Leads {
    /// Through these channels.
    pub fn new(channels: &Channels) -> Self {
        Leads(LeadDirectoryServiceClient::new(
            channels.channel(ServiceName::Messaging),
        ))
    }

    /// A client's lead; told as a fault of the request where the client has none of this id.
    pub(crate) async fn find(&self, tenant: Tenant, lead: LeadId) -> Result<Lead, Problem> {
        let mut request = Request::new(proto::LookupLeadRequest {
            agency_id: tenant.agency.to_string(),
            client_id: tenant.client.to_string(),
            lead_id: lead.to_string(),
        });
        request.set_timeout(PATIENCE);
        let answer = self.0.clone().lookup_lead(request).await;
        let found = answer.map_err(|status| {
            let problem = Problem::from_status(&status);
            match problem.reason() {
                ErrorReason::NotFound => Problem::not_found("lead"),
                _ => Problem::unavailable(problem),
            }
        })?;
        let found = found.into_inner();
        let conversation = found.conversation_id.as_deref();
        Ok(Lead {
            id: LeadId::parse(&found.lead_id).map_err(Problem::internal)?,
            conversation: conversation
                .map(ConversationId::parse)
                .transpose()
                .map_err(Problem::internal)?,
        })
    }
}
