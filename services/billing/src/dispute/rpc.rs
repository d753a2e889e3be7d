//! Disputes over gRPC: read across the clients that the caller may see.
//! Deliberately absent: answering one (BIL-53).

use mainstay_db::{Database, page::PageRequest};
use mainstay_proto::billing::v1::{
    Dispute as ProtoDispute, DisputeStatus as ProtoStatus, GetDisputeRequest, ListDisputesRequest,
    ListDisputesResponse, dispute_service_server::DisputeService,
};
use mainstay_rpc::{FieldViolation, Problem, open};
use mainstay_types::DisputeId;
use tonic::{Request, Response, Status};

use super::{Dispute, DisputeError, DisputeStatus, sql};
use crate::wire::{id_field, money, page_problem, timestamp};

/// Serves disputes.
#[derive(Debug)]
pub struct DisputeRpc {
    database: Database,
}

impl DisputeRpc {
    /// On this database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[tonic::async_trait]
impl DisputeService for DisputeRpc {
    async fn list_disputes(
        &self,
        request: Request<ListDisputesRequest>,
    ) -> Result<Response<ListDisputesResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::<DisputeId>::new(
            "billing.disputes",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let status = request.status.map(read_status).transpose()?;
        let scope = ctx.agency_scope();
        let rows = async {
            let mut tx = self.database.agency(&scope).await?;
            let after = page.after().copied();
            sql::list(tx.conn(), scope.agency, None, status, after, page.limit()).await
        };
        let rows = rows
            .await
            .map_err(DisputeError::from)
            .map_err(Problem::from)?;
        let page = page
            .page(rows, |dispute| dispute.id)
            .map(|dispute| proto(&dispute));
        Ok(Response::new(ListDisputesResponse {
            data: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_dispute(
        &self,
        request: Request<GetDisputeRequest>,
    ) -> Result<Response<ProtoDispute>, Status> {
        let (ctx, request) = open(request)?;
        let id: DisputeId = id_field("dispute_id", &request.dispute_id)?;
        let scope = ctx.agency_scope();
        let found = async {
            let mut tx = self.database.agency(&scope).await?;
            let rows = sql::list(tx.conn(), scope.agency, Some(id), None, None, 1).await?;
            rows.into_iter().next().ok_or(DisputeError::NotFound)
        };
        let found = found.await.map_err(Problem::from)?;
        Ok(Response::new(proto(&found)))
    }
}

fn read_status(status: i32) -> Result<DisputeStatus, Problem> {
    match ProtoStatus::try_from(status) {
        Ok(ProtoStatus::WarningNeedsResponse) => Ok(DisputeStatus::WarningNeedsResponse),
        Ok(ProtoStatus::WarningUnderReview) => Ok(DisputeStatus::WarningUnderReview),
        Ok(ProtoStatus::WarningClosed) => Ok(DisputeStatus::WarningClosed),
        Ok(ProtoStatus::NeedsResponse) => Ok(DisputeStatus::NeedsResponse),
        Ok(ProtoStatus::UnderReview) => Ok(DisputeStatus::UnderReview),
        Ok(ProtoStatus::Prevented) => Ok(DisputeStatus::Prevented),
        Ok(ProtoStatus::Won) => Ok(DisputeStatus::Won),
        Ok(ProtoStatus::Lost) => Ok(DisputeStatus::Lost),
        Ok(ProtoStatus::Unspecified) | Err(_) => Err(Problem::invalid(vec![FieldViolation {
            field: "status".to_owned(),
            message: "is not a status of a dispute".to_owned(),
        }])),
    }
}

fn proto(dispute: &Dispute) -> ProtoDispute {
    let status = match dispute.status {
        DisputeStatus::WarningNeedsResponse => ProtoStatus::WarningNeedsResponse,
        DisputeStatus::WarningUnderReview => ProtoStatus::WarningUnderReview,
        DisputeStatus::WarningClosed => ProtoStatus::WarningClosed,
        DisputeStatus::NeedsResponse => ProtoStatus::NeedsResponse,
        DisputeStatus::UnderReview => ProtoStatus::UnderReview,
        DisputeStatus::Prevented => ProtoStatus::Prevented,
        DisputeStatus::Won => ProtoStatus::Won,
        DisputeStatus::Lost => ProtoStatus::Lost,
    };
    ProtoDispute {
        id: Some(dispute.id.to_string()),
        client_id: Some(dispute.client_id.to_string()),
        payment_id: Some(dispute.payment_id.to_string()),
        stripe_dispute_id: Some(dispute.stripe_dispute_id.clone()),
        status: Some(status.into()),
        amount: Some(money(dispute.amount)),
        reason: Some(dispute.reason.clone()),
        evidence_due_at: dispute.evidence_due_at.map(timestamp),
        funds_withdrawn: Some(dispute.funds_withdrawn),
        funds_reinstated: Some(dispute.funds_reinstated),
        closed_at: dispute.closed_at.map(timestamp),
        created_at: Some(timestamp(dispute.created_at)),
    }
}
