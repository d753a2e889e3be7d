//! The saga log over gRPC.
//! Deliberately absent: the operator's verbs (retry, evidence, resolve, abandon); they come with BIL-21.

use mainstay_db::{Database, page::PageRequest};
use mainstay_proto::billing::v1::{
    GetSagaRequest, ListSagasRequest, ListSagasResponse, Saga, SagaState, SagaStep,
    saga_service_server::SagaService,
};
use mainstay_rpc::{Problem, open};
use mainstay_runtime::telemetry;
use mainstay_types::SagaId;
use tonic::{Request, Response, Status};

use super::sql::{self, SagaRow, StepRow};
use crate::wire::{database_problem, id_field, page_problem, timestamp};

/// Serves the saga log.
#[derive(Debug)]
pub struct SagaRpc {
    database: Database,
}

impl SagaRpc {
    /// On this database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[tonic::async_trait]
impl SagaService for SagaRpc {
    async fn list_sagas(
        &self,
        request: Request<ListSagasRequest>,
    ) -> Result<Response<ListSagasResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::<SagaId>::new(
            "billing.sagas",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let state = request.state.map(state_text).transpose()?;
        let scope = ctx.agency_scope();
        let mut tx = self
            .database
            .agency(&scope)
            .await
            .map_err(database_problem)?;
        let rows = sql::list(
            tx.conn(),
            scope.agency,
            state,
            page.after().copied(),
            page.limit(),
        )
        .await
        .map_err(database_problem)?;
        let page = page
            .page(rows, |row| row.id)
            .map(|row| saga(row, Vec::new()));
        Ok(Response::new(ListSagasResponse {
            data: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_saga(&self, request: Request<GetSagaRequest>) -> Result<Response<Saga>, Status> {
        let (ctx, request) = open(request)?;
        let id: SagaId = id_field("saga_id", &request.saga_id)?;
        let scope = ctx.agency_scope();
        let mut tx = self
            .database
            .agency(&scope)
            .await
            .map_err(database_problem)?;
        let row = sql::get(tx.conn(), scope.agency, id)
            .await
            .map_err(database_problem)?
            .ok_or_else(|| Problem::not_found("saga"))?;
        let steps = sql::steps(tx.conn(), id).await.map_err(database_problem)?;
        Ok(Response::new(saga(row, steps)))
    }
}

fn state_text(state: i32) -> Result<&'static str, Problem> {
    match SagaState::try_from(state) {
        Ok(SagaState::Running) => Ok("running"),
        Ok(SagaState::Waiting) => Ok("waiting"),
        Ok(SagaState::Compensating) => Ok("compensating"),
        Ok(SagaState::Parked) => Ok("parked"),
        Ok(SagaState::Completed) => Ok("completed"),
        Ok(SagaState::Compensated) => Ok("compensated"),
        Ok(SagaState::Unspecified) | Err(_) => {
            Err(Problem::invalid(vec![mainstay_rpc::FieldViolation {
                field: "state".to_owned(),
                message: "is not a state of a saga".to_owned(),
            }]))
        }
    }
}

fn saga(row: SagaRow, steps: Vec<StepRow>) -> Saga {
    let state = match row.state.as_str() {
        "waiting" => SagaState::Waiting,
        "compensating" => SagaState::Compensating,
        "parked" => SagaState::Parked,
        "completed" => SagaState::Completed,
        "compensated" => SagaState::Compensated,
        _ => SagaState::Running,
    };
    let at_rest = matches!(
        state,
        SagaState::Completed | SagaState::Compensated | SagaState::Parked
    );
    Saga {
        id: Some(row.id.to_string()),
        definition: Some(row.definition),
        state: Some(state.into()),
        step: Some(row.step),
        attempt: Some(row.attempt),
        error: row.error.or(row.refusal_detail),
        client_id: Some(row.tenant_id.to_string()),
        steps: steps.into_iter().map(step).collect(),
        trace_id: row.traceparent.as_deref().and_then(telemetry::trace_id_of),
        created_at: Some(timestamp(row.created_at)),
        updated_at: Some(timestamp(row.updated_at)),
        next_run_at: (!at_rest).then(|| timestamp(row.next_run_at)),
    }
}

fn step(row: StepRow) -> SagaStep {
    SagaStep {
        name: Some(row.name),
        direction: Some(row.direction),
        outcome: Some(row.outcome),
        attempt: Some(row.attempt),
        error: row.error,
        started_at: Some(timestamp(row.created_at)),
        ended_at: row.ended_at.map(timestamp),
    }
}
