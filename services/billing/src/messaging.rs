//! What billing asks of messaging and tells it: could the client's sending be sold, and what applies from now on.
//! Deliberately absent: messages. Notices go out as domain events, which messaging turns into what it may send.

use chrono::{DateTime, Utc};
use mainstay_proto::common::v1::Entitlements;
use mainstay_proto::messaging::v1::{
    ApplyLimitsRequest, CheckLimitsRequest, CloseClientRequest,
    client_closing_service_client::ClientClosingServiceClient,
    limit_service_client::LimitServiceClient,
};
use mainstay_rpc::{Channels, Context, ErrorReason, Problem, ServiceChannel, on_behalf};
use mainstay_types::{ServiceName, SubscriptionId, Tenant};

use crate::saga::definition::{Call, Direction, Failure, Refusal, Stop};
use crate::wire::timestamp;

/// Billing's door to messaging.
#[derive(Debug, Clone)]
pub struct Messaging {
    limits: LimitServiceClient<ServiceChannel>,
    closing: ClientClosingServiceClient<ServiceChannel>,
}

/// What applies to a client, on the grounds of one subscription.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub subscription: SubscriptionId,
    pub entitlements: Entitlements,
    pub period_start: Option<DateTime<Utc>>,
    pub period_end: Option<DateTime<Utc>>,
    pub version: i64,
    pub sale: bool,
}

impl Messaging {
    /// Over these channels.
    pub fn new(channels: &Channels) -> Self {
        let channel = channels.channel(ServiceName::Messaging);
        Self {
            limits: LimitServiceClient::new(channel.clone()),
            closing: ClientClosingServiceClient::new(channel),
        }
    }

    /// Whether what is to be sold could be used. Asked before money moves.
    pub(crate) async fn check(&self, ctx: &Context, tenant: Tenant) -> Result<(), Problem> {
        let check = CheckLimitsRequest {
            agency_id: tenant.agency.to_string(),
            client_id: tenant.client.to_string(),
        };
        let mut limits = self.limits.clone();
        let checked = limits.check_limits(on_behalf(ctx, check)).await;
        checked.map(|_| ()).map_err(|status| {
            let problem = Problem::from_status(&status);
            match problem.reason() {
                ErrorReason::SendingOnHold => problem,
                ErrorReason::NotFound => Problem::not_found("client"),
                ErrorReason::Unavailable
                | ErrorReason::DeadlineExceeded
                | ErrorReason::RateLimited => Problem::unavailable(problem),
                _ => Problem::internal(problem),
            }
        })
    }

    /// Has what a client may use applied, for a saga step; with `undo`, takes it back and leaves a tombstone against a
    /// late `do`.
    pub(crate) async fn apply(
        &self,
        call: &Call<'_>,
        limits: Limits,
        undo: bool,
    ) -> Result<(), Stop> {
        let request = ApplyLimitsRequest {
            agency_id: call.tenant.agency.to_string(),
            client_id: call.tenant.client.to_string(),
            entitlements: Some(limits.entitlements),
            subscription_id: limits.subscription.to_string(),
            period_start_at: limits.period_start.map(timestamp),
            period_end_at: limits.period_end.map(timestamp),
            version: limits.version,
            saga_id: call.saga.to_string(),
            step: call.step.to_owned(),
            fence: call.fence,
            undo: undo || call.direction == Direction::Undo,
            sale: limits.sale,
        };
        let mut service = self.limits.clone();
        match service.apply_limits(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(told(Problem::from_status(&status))),
        }
    }
}

impl Messaging {
    /// Closes the client, for a saga step. One that the agency does not have is gone already.
    pub(crate) async fn close(&self, call: &Call<'_>) -> Result<(), Failure> {
        let request = CloseClientRequest {
            agency_id: call.tenant.agency.to_string(),
            client_id: call.tenant.client.to_string(),
        };
        let mut closing = self.closing.clone();
        match closing.close_client(request).await {
            Ok(_) => Ok(()),
            Err(status) => {
                let problem = Problem::from_status(&status);
                match problem.reason() {
                    ErrorReason::NotFound => Ok(()),
                    _ => Err(Failure::new(format!("messaging answered {problem}"))),
                }
            }
        }
    }
}

/// Definitive is only what messaging says about the client itself. All else may pass, and is tried until it does.
fn told(problem: Problem) -> Stop {
    match problem.reason() {
        ErrorReason::SendingOnHold => {
            Refusal::new(ErrorReason::SendingOnHold, problem.detail()).into()
        }
        ErrorReason::NotFound => Refusal::new(
            ErrorReason::ClientNotActive,
            "The client does not exist any more.",
        )
        .into(),
        _ => Failure::new(format!("messaging answered {problem}")).into(),
    }
}
