//! What those who carry messages tell of, and what forms say, handed to messaging: whose account or form it came for, and whose
//! number was written to, are found out here, since messaging keeps neither.
//! Deliberately absent: what an event means, and what makes its effect happen once. Both are messaging's.

use std::time::Duration;

use mainstay_proto::messaging::v1::provider_event_service_client::ProviderEventServiceClient;
use mainstay_proto::messaging::v1::{
    HandleProviderEventRequest, HandleProviderEventResponse, ProviderEventOutcome,
};
use mainstay_rpc::{Channels, Problem, ServiceChannel, ServiceName, field};
use mainstay_types::{AgencyId, ClientId, FormEndpointId, ProviderAccountId, WebhookEventId};
use tonic::Request;

use crate::Integrations;
use crate::delivery::refused_or_failed;
use crate::form_endpoint;
use crate::provider_account;
use crate::sender::directory;
use crate::webhook::{Answer, Undelivered, Whose};

mod rules;

/// How long messaging may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands events to messaging.
#[derive(Clone)]
pub struct ProviderEvents {
    integrations: Integrations,
    messaging: ProviderEventServiceClient<ServiceChannel>,
}

/// Whose event it is.
struct Found {
    agency: AgencyId,
    client: Option<ClientId>,
    account: Option<ProviderAccountId>,
    form: Option<FormEndpointId>,
}

impl ProviderEvents {
    /// Reaches messaging through `channels`.
    pub fn new(integrations: Integrations, channels: &Channels) -> Self {
        let messaging = ProviderEventServiceClient::new(channels.channel(ServiceName::Messaging));
        ProviderEvents {
            integrations,
            messaging,
        }
    }

    /// What messaging says, and whose it is.
    pub async fn hand_over(
        &self,
        id: WebhookEventId,
        webhook: Undelivered,
    ) -> (Answer, Option<Whose>) {
        let found = match self.whose(&webhook).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let of = (&webhook.provider, &webhook.account);
                let refusal = format!("no agency has the account {} of {}", of.1, of.0);
                return (Answer::Refused(refusal), None);
            }
            Err(error) => return (Answer::Failed(error.to_string()), None),
        };
        let mut whose = Whose {
            agency: found.agency,
            client: found.client,
        };
        let mut request = Request::new(HandleProviderEventRequest {
            agency_id: found.agency.to_string(),
            client_id: found.client.map(|client| client.to_string()),
            provider: webhook.provider,
            account_id: found.account.map(|account| account.to_string()),
            event_key: webhook.event_key,
            r#type: webhook.kind,
            content_type: webhook.content_type,
            body: webhook.body,
            received_at: Some(field::timestamp(webhook.received_at)),
            webhook_event_id: id.to_string(),
            form_endpoint_id: found.form.map(|form| form.to_string()),
        });
        request.set_timeout(PATIENCE);
        let answer = match self.messaging.clone().handle_provider_event(request).await {
            Ok(response) => {
                let response = response.into_inner();
                let told = response.client_id.as_deref();
                whose.client = told.and_then(|id| id.parse().ok()).or(whose.client);
                understood(&response)
            }
            Err(status) => refused_or_failed("messaging", &Problem::from_status(&status)),
        };
        (answer, Some(whose))
    }

    /// Whose event it is; none when the account is nobody's.
    async fn whose(&self, webhook: &Undelivered) -> mainstay_db::Result<Option<Found>> {
        if let Ok(form) = webhook.account.parse::<FormEndpointId>() {
            let tenant = form_endpoint::tenant_of(&self.integrations, form).await?;
            return Ok(tenant.map(|tenant| Found {
                agency: tenant.agency,
                client: Some(tenant.client),
                account: None,
                form: Some(form),
            }));
        }
        let Ok(account) = webhook.account.parse::<ProviderAccountId>() else {
            return Ok(None);
        };
        let agency = provider_account::agency_of(&self.integrations, account).await?;
        let Some(agency) = agency else {
            return Ok(None);
        };
        let mut client = None;
        if let Some(address) = rules::our_address(webhook) {
            let receiver =
                directory::find_receiver(&self.integrations, agency, account, &address).await?;
            client = receiver.and_then(|receiver| receiver.client);
        }
        Ok(Some(Found {
            agency,
            client,
            account: Some(account),
            form: None,
        }))
    }
}

fn understood(response: &HandleProviderEventResponse) -> Answer {
    let said = |word: &str| match response.detail.as_str() {
        "" => word.to_owned(),
        detail => format!("{word}: {detail}"),
    };
    match response.outcome() {
        ProviderEventOutcome::Applied => Answer::Done(said("applied")),
        ProviderEventOutcome::Duplicate => Answer::Done(said("had its effect before")),
        ProviderEventOutcome::Ignored => Answer::Done(said("has no effect here")),
        ProviderEventOutcome::Retry => Answer::NotYet(said("cannot have its effect yet")),
        // A newer messaging's outcome, or none: trying again is harmless, taking it for done is not.
        ProviderEventOutcome::Unspecified => Answer::Failed(said("messaging gave no outcome")),
    }
}
