//! The saga log over gRPC.
//! Deliberately absent: what a decision does; `engine/operator.rs`.

use mainstay_db::{Database, page::PageRequest};
use mainstay_proto::billing::v1::{
    AbandonSagaRequest, GetSagaRequest, ListSagasRequest, ListSagasResponse, ResolveSagaRequest,
    RetrySagaRequest, Saga, SagaState, SagaStep, StepOutcome, saga_service_server::SagaService,
};
use mainstay_proto::errors::v1::SagaNotParked;
use mainstay_rpc::{Context, ErrorReason, Problem, open};
use mainstay_runtime::{clock::Clock, telemetry};
use mainstay_types::{AgencyId, SagaId};
use prost::Message;
use tonic::{Request, Response, Status};

use super::sql::{self, SagaRow, StepRow};
use super::{DecisionError, Engine, Verdict};
use crate::history::By;
use crate::repeat::Repeat;
use crate::wire::{database_problem, id_field, page_problem, timestamp};

/// Serves the saga log.
#[derive(Debug)]
pub struct SagaRpc {
    database: Database,
    engine: Engine,
    clock: Clock,
}

impl SagaRpc {
    /// On this database; the coordinator carries decisions out.
    pub fn new(database: Database, engine: Engine, clock: Clock) -> Self {
        Self {
            database,
            engine,
            clock,
        }
    }

    async fn decide(
        &self,
        ctx: &Context,
        id: &str,
        verdict: Verdict,
        note: &str,
    ) -> Result<Response<Saga>, Status> {
        let id: SagaId = id_field("saga_id", id)?;
        let scope = ctx.agency_scope();
        let mut tx = self
            .database
            .agency(&scope)
            .await
            .map_err(database_problem)?;
        // The walls first: what the caller may not see, it is not told about.
        sql::get(tx.conn(), scope.agency, id)
            .await
            .map_err(database_problem)?
            .ok_or_else(|| Problem::not_found("saga"))?;
        drop(tx);
        let by = By::of(ctx, self.clock.now());
        let repeat = Repeat::of(ctx, &(id.to_string(), format!("{verdict:?}"), note));
        let decided = self
            .engine
            .decide(id, &verdict, note, &by, &repeat)
            .await
            .map_err(|error| problem(error, &verdict))?;
        Saga::decode(decided.as_slice())
            .map(Response::new)
            .map_err(|error| Problem::internal(error).into())
    }
}

/// The saga as it stands in the caller's transaction, as the answer to a decision.
pub(super) async fn answer(
    conn: &mut sqlx::PgConnection,
    agency: AgencyId,
    id: SagaId,
) -> mainstay_db::Result<Vec<u8>> {
    let row = sql::get(conn, agency, id).await?;
    let steps = sql::steps(conn, id).await?;
    Ok(row.map_or_else(Vec::new, |row| saga(row, steps).encode_to_vec()))
}

/// What a decision that does not stand is to its caller.
fn problem(error: DecisionError, verdict: &Verdict) -> Problem {
    match error {
        DecisionError::NotFound => Problem::not_found("saga"),
        DecisionError::NotParked { state, decided_by } => {
            let detail = match &decided_by {
                Some(by) => format!("The saga is {state}; {by} decided last."),
                None => format!("The saga is {state}, so there is nothing to decide."),
            };
            Problem::new(ErrorReason::SagaNotParked, detail)
                .with_data(&SagaNotParked { state, decided_by })
        }
        DecisionError::Unverified(message) => {
            let field = match verdict {
                Verdict::Done { .. } => "evidence",
                _ => "outcome",
            };
            Problem::invalid(Vec::new()).violation(field, message)
        }
        DecisionError::Unknown => Problem::unavailable(error),
        DecisionError::Repeat(error) => error.into(),
        DecisionError::Database(error) => database_problem(error),
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

    async fn retry_saga(
        &self,
        request: Request<RetrySagaRequest>,
    ) -> Result<Response<Saga>, Status> {
        let (ctx, request) = open(request)?;
        let note = request.note.unwrap_or_default();
        self.decide(&ctx, &request.saga_id, Verdict::Retry, &note)
            .await
    }

    async fn resolve_saga(
        &self,
        request: Request<ResolveSagaRequest>,
    ) -> Result<Response<Saga>, Status> {
        let (ctx, request) = open(request)?;
        let evidence = request.evidence;
        let verdict = match request.outcome.map(StepOutcome::try_from) {
            Some(Ok(StepOutcome::Done)) => Verdict::Done { evidence },
            Some(Ok(StepOutcome::NotDone)) => Verdict::NotDone,
            _ => {
                let message = "must be `done` or `not_done`";
                let problem = Problem::invalid(Vec::new()).violation("outcome", message);
                return Err(problem.into());
            }
        };
        let note = request.note.unwrap_or_default();
        self.decide(&ctx, &request.saga_id, verdict, &note).await
    }

    async fn abandon_saga(
        &self,
        request: Request<AbandonSagaRequest>,
    ) -> Result<Response<Saga>, Status> {
        let (ctx, request) = open(request)?;
        let note = request.note.unwrap_or_default();
        self.decide(&ctx, &request.saga_id, Verdict::Abandon, &note)
            .await
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
        Ok(SagaState::Abandoned) => Ok("abandoned"),
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
        "abandoned" => SagaState::Abandoned,
        _ => SagaState::Running,
    };
    let at_rest = matches!(
        state,
        SagaState::Completed | SagaState::Compensated | SagaState::Abandoned | SagaState::Parked
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
        decision: row.decision,
        decided_by: row.decided_by,
        decided_at: row.decided_at.map(timestamp),
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
