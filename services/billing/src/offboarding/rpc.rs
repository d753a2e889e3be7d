//! Off-boardings over gRPC: a request to a command, how the saga stands to an answer.
//! Deliberately absent: anything the saga does. It goes on when the caller has gone.

use mainstay_proto::billing::v1::{
    CancelWhen, GetOffboardingRequest, OffboardClientRequest, Offboarding as ProtoOffboarding,
    OffboardingState, offboarding_service_server::OffboardingService,
};
use mainstay_rpc::{Problem, open};
use mainstay_runtime::clock::Clock;
use mainstay_types::ClientId;
use tonic::{Request, Response, Status as RpcStatus, metadata::MetadataValue};

use super::{Ask, Offboarding, sql};
use crate::history::By;
use crate::saga::Standing;
use crate::subscription::Desk;
use crate::subscription::rpc::{patience, refused};
use crate::wire::{database_problem, timestamp};

/// Serves off-boardings.
#[derive(Debug)]
pub struct OffboardingRpc {
    desk: Desk,
    clock: Clock,
}

impl OffboardingRpc {
    /// At this desk, by this clock.
    pub fn new(desk: Desk, clock: Clock) -> Self {
        Self { desk, clock }
    }
}

#[tonic::async_trait]
impl OffboardingService for OffboardingRpc {
    async fn offboard_client(
        &self,
        request: Request<OffboardClientRequest>,
    ) -> Result<Response<ProtoOffboarding>, RpcStatus> {
        let (ctx, request) = open(request)?;
        let (by, tenant) = (By::of(&ctx, self.clock.now()), ctx.tenant());
        let ask = Ask {
            period_end: request.when() == CancelWhen::PeriodEnd,
            reason: request.reason,
        };
        let until = patience(&ctx);
        let stands = super::offboard(&self.desk, &by, tenant, &ask, until).await;
        match stands.map_err(Problem::from)? {
            (
                _,
                Standing {
                    at_rest: true,
                    refusal: Some(refusal),
                    ..
                },
            ) => Err(refused(refusal).into()),
            (one, standing) => {
                let mut response = Response::new(proto(tenant.client, one));
                if !standing.completed {
                    let accepted = MetadataValue::from_static("1");
                    response
                        .metadata_mut()
                        .insert("x-mainstay-accepted", accepted);
                }
                Ok(response)
            }
        }
    }

    async fn get_offboarding(
        &self,
        request: Request<GetOffboardingRequest>,
    ) -> Result<Response<ProtoOffboarding>, RpcStatus> {
        let (ctx, _) = open(request)?;
        let tenant = ctx.tenant();
        let mut tx = self
            .desk
            .database
            .tenant(tenant)
            .await
            .map_err(database_problem)?;
        let found = sql::get(tx.conn(), tenant)
            .await
            .map_err(database_problem)?;
        let found = found.ok_or_else(|| Problem::not_found("offboarding"))?;
        Ok(Response::new(proto(tenant.client, found)))
    }
}

fn proto(client: ClientId, one: Offboarding) -> ProtoOffboarding {
    let state = match (one.completed_at, one.withdrawn_at) {
        (Some(_), _) => OffboardingState::Completed,
        (None, Some(_)) => OffboardingState::Withdrawn,
        (None, None) => OffboardingState::Pending,
    };
    let when = match one.is_now() {
        true => CancelWhen::Now,
        false => CancelWhen::PeriodEnd,
    };
    ProtoOffboarding {
        client_id: Some(client.to_string()),
        state: Some(state.into()),
        when: Some(when.into()),
        reason: one.reason,
        saga_id: Some(one.saga.to_string()),
        requested_by: Some(one.requested_by),
        requested_at: Some(timestamp(one.requested_at)),
        completed_at: one.completed_at.map(timestamp),
        withdrawn_at: one.withdrawn_at.map(timestamp),
        withdrawn_because: one.withdrawn_for,
    }
}
