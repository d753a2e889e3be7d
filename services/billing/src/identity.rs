//! What billing asks of identity and tells it: is the client active, and what may it use from now on.
//! Deliberately absent: a copy of the client. What a saga needs of it travels in the saga's input.

use chrono::{DateTime, Utc};
use mainstay_proto::common::v1::Entitlements;
use mainstay_proto::errors::v1::StateConflict;
use mainstay_proto::identity::v1::{
    CancelClientRequest, CheckEntitlementsRequest, Client, ClientState, EnsureClientRequest,
    LookupClientRequest, PutEntitlementsRequest,
    client_directory_service_client::ClientDirectoryServiceClient,
    client_offboarding_service_client::ClientOffboardingServiceClient,
    client_onboarding_service_client::ClientOnboardingServiceClient,
    entitlement_service_client::EntitlementServiceClient,
};
use mainstay_rpc::{Channels, Context, ErrorReason, Problem, ServiceChannel, on_behalf};
use mainstay_types::{AgencyId, ClientId, PlanId, ServiceName, SubscriptionId, Tenant};

use crate::saga::definition::{Call, Direction, Failure, Refusal, Stop};
use crate::wire::timestamp;

/// Billing's door to identity.
#[derive(Debug, Clone)]
pub struct Identity {
    clients: ClientDirectoryServiceClient<ServiceChannel>,
    entitlements: EntitlementServiceClient<ServiceChannel>,
    onboarding: ClientOnboardingServiceClient<ServiceChannel>,
    offboarding: ClientOffboardingServiceClient<ServiceChannel>,
}

/// Somebody who becomes a client by what it did outside.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer {
    /// What it begins with, unique for ever: the same gives the same client.
    pub origin: String,
    pub name: String,
    pub email: Option<String>,
    pub phone: Option<String>,
}

/// What a client may use, on the grounds of one subscription.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub subscription: SubscriptionId,
    pub plan: PlanId,
    pub status: String,
    pub entitlements: Entitlements,
    pub paid_through: Option<DateTime<Utc>>,
    pub version: i64,
}

impl Identity {
    /// Over these channels.
    pub fn new(channels: &Channels) -> Self {
        let channel = channels.channel(ServiceName::Identity);
        Self {
            clients: ClientDirectoryServiceClient::new(channel.clone()),
            entitlements: EntitlementServiceClient::new(channel.clone()),
            onboarding: ClientOnboardingServiceClient::new(channel.clone()),
            offboarding: ClientOffboardingServiceClient::new(channel),
        }
    }

    /// The client that begins so; made if it is not there.
    pub(crate) async fn ensure_client(
        &self,
        agency: AgencyId,
        newcomer: Newcomer,
    ) -> Result<ClientId, Problem> {
        let cut = |text: String, most: usize| text.chars().take(most).collect::<String>();
        let request = EnsureClientRequest {
            agency_id: agency.to_string(),
            origin: newcomer.origin,
            name: cut(newcomer.name, 200),
            email: newcomer.email.filter(|email| email.len() <= 254),
            phone: newcomer.phone.filter(|phone| phone.len() <= 20),
            time_zone: None,
        };
        let mut onboarding = self.onboarding.clone();
        let answer = onboarding.ensure_client(request).await;
        let client = answer.map_err(|status| asked(&status))?.into_inner().client;
        let id = client.and_then(|client| client.id).unwrap_or_default();
        ClientId::parse(&id).map_err(Problem::internal)
    }

    /// The client, if the agency has it.
    pub(crate) async fn find(
        &self,
        agency: AgencyId,
        client: ClientId,
    ) -> Result<ClientId, Problem> {
        let request = LookupClientRequest {
            agency_id: agency.to_string(),
            client_id: client.to_string(),
        };
        let mut clients = self.clients.clone();
        let found = clients.lookup_client(request).await;
        found.map_err(|status| asked(&status))?;
        Ok(client)
    }

    /// The client, once identity has said that entitlements could be written for it. Asked before money moves.
    pub(crate) async fn check(&self, ctx: &Context, tenant: Tenant) -> Result<Client, Problem> {
        let (agency_id, client_id) = (tenant.agency.to_string(), tenant.client.to_string());
        let check = CheckEntitlementsRequest {
            agency_id: agency_id.clone(),
            client_id: client_id.clone(),
        };
        let lookup = LookupClientRequest {
            agency_id,
            client_id,
        };
        let (mut clients, mut entitlements) = (self.clients.clone(), self.entitlements.clone());
        let (checked, found) = tokio::join!(
            entitlements.check_entitlements(on_behalf(ctx, check)),
            clients.lookup_client(on_behalf(ctx, lookup)),
        );
        checked.map_err(|status| asked(&status))?;
        let found = found.map_err(|status| asked(&status))?.into_inner();
        let client = found.client.ok_or_else(|| Problem::not_found("client"))?;
        match client.state() {
            ClientState::Active => Ok(client),
            state => Err(not_active(state)),
        }
    }

    /// Writes what the client may use, for a saga step; with `undo`, takes it back and leaves a tombstone against a
    /// late `do`.
    pub(crate) async fn put(
        &self,
        call: &Call<'_>,
        standing: Standing,
        undo: bool,
    ) -> Result<(), Stop> {
        let request = PutEntitlementsRequest {
            agency_id: call.tenant.agency.to_string(),
            client_id: call.tenant.client.to_string(),
            entitlements: Some(standing.entitlements),
            subscription_id: standing.subscription.to_string(),
            plan_id: standing.plan.to_string(),
            subscription_status: standing.status,
            paid_through_at: standing.paid_through.map(timestamp),
            version: standing.version,
            saga_id: call.saga.to_string(),
            step: call.step.to_owned(),
            fence: call.fence,
            undo: undo || call.direction == Direction::Undo,
        };
        let mut entitlements = self.entitlements.clone();
        match entitlements.put_entitlements(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(told(Problem::from_status(&status))),
        }
    }
}

impl Identity {
    /// Cancels the client, for a saga step. One that the agency does not have is gone already.
    pub(crate) async fn cancel(&self, call: &Call<'_>) -> Result<(), Failure> {
        let request = CancelClientRequest {
            agency_id: call.tenant.agency.to_string(),
            client_id: call.tenant.client.to_string(),
        };
        let mut offboarding = self.offboarding.clone();
        match offboarding.cancel_client(request).await {
            Ok(_) => Ok(()),
            Err(status) => {
                let problem = Problem::from_status(&status);
                match problem.reason() {
                    ErrorReason::NotFound => Ok(()),
                    _ => Err(Failure::new(format!("identity answered {problem}"))),
                }
            }
        }
    }
}

/// Only an active client is sold anything.
fn not_active(state: ClientState) -> Problem {
    let state = state
        .as_str_name()
        .trim_start_matches("CLIENT_STATE_")
        .to_lowercase();
    let detail = format!("The client is {state}.");
    Problem::new(ErrorReason::ClientNotActive, detail).with_data(&StateConflict { state })
}

/// What identity refuses is told as identity said it; what it could not do is ours to answer for.
fn asked(status: &tonic::Status) -> Problem {
    let problem = Problem::from_status(status);
    match problem.reason() {
        ErrorReason::NotFound => Problem::not_found("client"),
        ErrorReason::ClientNotActive => problem,
        ErrorReason::Unavailable | ErrorReason::DeadlineExceeded | ErrorReason::RateLimited => {
            Problem::unavailable(problem)
        }
        _ => Problem::internal(problem),
    }
}

/// Definitive are only the answers about the client itself. A conflict says that a higher fence or a tombstone stands:
/// then this coordinator is not the one to go on, which its next write to the log will show it.
fn told(problem: Problem) -> Stop {
    match problem.reason() {
        ErrorReason::NotFound => Refusal::new(
            ErrorReason::ClientNotActive,
            "The client does not exist any more.",
        )
        .into(),
        ErrorReason::ClientNotActive => {
            Refusal::new(ErrorReason::ClientNotActive, problem.detail()).into()
        }
        _ => Failure::new(format!("identity answered {problem}")).into(),
    }
}
