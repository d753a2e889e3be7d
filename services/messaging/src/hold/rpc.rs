//! `SendingHoldService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_proto::messaging::v1::{
    self as proto, sending_hold_service_server::SendingHoldService,
};
use mainstay_rpc::{field, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status};

use super::Hold;
use crate::Messaging;

#[tonic::async_trait]
impl SendingHoldService for Messaging {
    async fn get_sending_hold(
        &self,
        request: Request<proto::GetSendingHoldRequest>,
    ) -> Result<Response<proto::SendingHold>, Status> {
        let (ctx, _) = open(request)?;
        let tenant = ctx.tenant();
        let hold = super::get(self, tenant).await?;
        Ok(Response::new(answer(tenant.client, hold)))
    }

    async fn place_sending_hold(
        &self,
        request: Request<proto::PlaceSendingHoldRequest>,
    ) -> Result<Response<proto::SendingHold>, Status> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let hold = super::place(self, &ctx, tenant, request.reason).await?;
        Ok(Response::new(answer(tenant.client, Some(hold))))
    }

    async fn lift_sending_hold(
        &self,
        request: Request<proto::LiftSendingHoldRequest>,
    ) -> Result<Response<proto::SendingHold>, Status> {
        let (ctx, _) = open(request)?;
        let tenant = ctx.tenant();
        super::lift(self, &ctx, tenant).await?;
        Ok(Response::new(answer(tenant.client, None)))
    }
}

fn answer(client: ClientId, hold: Option<Hold>) -> proto::SendingHold {
    let on_hold = Some(hold.is_some());
    let (reason, placed_by, placed_at) = hold.map_or((None, None, None), |hold| {
        (
            Some(hold.reason),
            Some(hold.placed_by),
            Some(field::timestamp(hold.placed_at)),
        )
    });
    proto::SendingHold {
        client_id: Some(client.to_string()),
        on_hold,
        reason,
        placed_by,
        placed_at,
    }
}
