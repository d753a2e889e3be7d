//! Reconciliation over gRPC: runs and what they found.
//! Deliberately absent: waiting. A run takes as long as Stripe's lists are; whoever started it reads it again.

use std::collections::BTreeMap;

use mainstay_db::{Database, page::PageRequest};
use mainstay_jobs::runner::Wake;
use mainstay_proto::billing::v1::{
    CreateReconciliationRequest, Discrepancy as ProtoDiscrepancy, DiscrepancyKind as ProtoKind,
    DiscrepancyState as ProtoState, GetReconciliationRequest, ListDiscrepanciesRequest,
    ListDiscrepanciesResponse, ListReconciliationsRequest, ListReconciliationsResponse,
    Reconciliation, ReconciliationState, reconciliation_service_server::ReconciliationService,
};
use mainstay_rpc::{FieldViolation, Problem, open};
use mainstay_runtime::clock::Clock;
use mainstay_types::{DiscrepancyId, ReconciliationId};
use prost::Message;
use prost_types::value::Kind as ProtoValue;
use serde_json::Value;
use tonic::{Request, Response, Status};

use super::discrepancy::{self, Discrepancy, Filter};
use super::{Kind, ReconciliationError, Run, RunState, State, sql};
use crate::history::By;
use crate::repeat::{Answered, Repeat};
use crate::wire::{database_problem, id_field, page_problem, timestamp};

/// Serves reconciliation.
#[derive(Debug)]
pub struct ReconciliationRpc {
    database: Database,
    clock: Clock,
    wake: Wake,
}

impl ReconciliationRpc {
    /// On this database, by this clock; the runner that is woken walks.
    pub fn new(database: Database, clock: Clock, wake: Wake) -> Self {
        Self {
            database,
            clock,
            wake,
        }
    }
}

#[tonic::async_trait]
impl ReconciliationService for ReconciliationRpc {
    async fn create_reconciliation(
        &self,
        request: Request<CreateReconciliationRequest>,
    ) -> Result<Response<Reconciliation>, Status> {
        let (ctx, request) = open(request)?;
        if request.provider.as_deref() != Some("stripe") {
            return Err(one("provider", "must be `stripe`").into());
        }
        let dry_run = request.dry_run.unwrap_or_default();
        let repeat = Repeat::of(&ctx, &("stripe", dry_run));
        let by = By::of(&ctx, self.clock.now());
        let scope = ctx.agency_scope();
        let answer = |run: &Run| proto(run).encode_to_vec();
        let started = super::start(&self.database, &scope, &by, dry_run, &repeat, answer).await;
        match started.map_err(Problem::from)? {
            Answered::Now(run) => {
                self.wake.wake();
                Ok(Response::new(proto(&run)))
            }
            Answered::Before(bytes) => Reconciliation::decode(bytes.as_slice())
                .map(Response::new)
                .map_err(|error| Problem::internal(error).into()),
        }
    }

    async fn get_reconciliation(
        &self,
        request: Request<GetReconciliationRequest>,
    ) -> Result<Response<Reconciliation>, Status> {
        let (ctx, request) = open(request)?;
        let id: ReconciliationId = id_field("reconciliation_id", &request.reconciliation_id)?;
        let scope = ctx.agency_scope();
        let found = async {
            let mut tx = self.database.agency(&scope).await?;
            sql::get(tx.conn(), scope.agency, id).await
        };
        let run = found.await.map_err(database_problem)?;
        let run = run.ok_or_else(|| Problem::from(ReconciliationError::NotFound))?;
        Ok(Response::new(proto(&run)))
    }

    async fn list_reconciliations(
        &self,
        request: Request<ListReconciliationsRequest>,
    ) -> Result<Response<ListReconciliationsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::<ReconciliationId>::new(
            "billing.reconciliations",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let scope = ctx.agency_scope();
        let found = async {
            let mut tx = self.database.agency(&scope).await?;
            let after = page.after().copied();
            sql::list(tx.conn(), scope.agency, after, page.limit()).await
        };
        let rows = found.await.map_err(database_problem)?;
        let page = page.page(rows, |run| run.id).map(|run| proto(&run));
        Ok(Response::new(ListReconciliationsResponse {
            data: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn list_discrepancies(
        &self,
        request: Request<ListDiscrepanciesRequest>,
    ) -> Result<Response<ListDiscrepanciesResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::<DiscrepancyId>::new(
            "billing.discrepancies",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let run = request.reconciliation_id.as_deref();
        let filter = Filter {
            kind: request.kind.map(read_kind).transpose()?,
            state: request.state.map(read_state).transpose()?,
            run: run
                .map(|id| id_field("reconciliation_id", id))
                .transpose()?,
        };
        let scope = ctx.agency_scope();
        let found = async {
            let mut tx = self.database.agency(&scope).await?;
            let after = page.after().copied();
            discrepancy::list(tx.conn(), scope.agency, filter, after, page.limit()).await
        };
        let rows = found.await.map_err(database_problem)?;
        let page = page.page(rows, |row| row.id).map(proto_discrepancy);
        Ok(Response::new(ListDiscrepanciesResponse {
            data: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

fn one(field: &str, message: &str) -> Problem {
    Problem::invalid(vec![FieldViolation {
        field: field.to_owned(),
        message: message.to_owned(),
    }])
}

fn read_kind(value: i32) -> Result<Kind, Problem> {
    let wanted = ProtoKind::try_from(value).ok();
    let mut all = Kind::ALL.into_iter();
    let found =
        all.find(|kind| proto_kind(*kind) == wanted && wanted != Some(ProtoKind::Unspecified));
    found.ok_or_else(|| one("kind", "is not a kind of difference"))
}

fn read_state(value: i32) -> Result<State, Problem> {
    match ProtoState::try_from(value) {
        Ok(ProtoState::Open) => Ok(State::Open),
        Ok(ProtoState::Repaired) => Ok(State::Repaired),
        Ok(ProtoState::Resolved) => Ok(State::Resolved),
        Ok(ProtoState::Previewed) => Ok(State::Previewed),
        Ok(ProtoState::Unspecified) | Err(_) => Err(one("state", "is not a state of a difference")),
    }
}

/// None for what no agency is told.
fn proto_kind(kind: Kind) -> Option<ProtoKind> {
    Some(match kind {
        Kind::SubscriptionUnknown => ProtoKind::SubscriptionUnknown,
        Kind::SubscriptionOrphaned => ProtoKind::SubscriptionOrphaned,
        Kind::SubscriptionEndedHere => ProtoKind::SubscriptionEndedHere,
        Kind::SubscriptionGone => ProtoKind::SubscriptionGone,
        Kind::SubscriptionDiffers => ProtoKind::SubscriptionDiffers,
        Kind::SubscriptionPriceDiffers => ProtoKind::SubscriptionPriceDiffers,
        Kind::SubscriptionDuplicated => ProtoKind::SubscriptionDuplicated,
        Kind::CustomerUnknown => ProtoKind::CustomerUnknown,
        Kind::CustomerGone => ProtoKind::CustomerGone,
        Kind::InvoiceMissing => ProtoKind::InvoiceMissing,
        Kind::InvoiceAmountDiffers => ProtoKind::InvoiceAmountDiffers,
        Kind::PaymentKept => ProtoKind::PaymentKept,
        Kind::Foreign => return None,
    })
}

fn proto(run: &Run) -> Reconciliation {
    let state = match run.state {
        RunState::Running => ReconciliationState::Running,
        RunState::Completed => ReconciliationState::Completed,
        RunState::Failed => ReconciliationState::Failed,
    };
    let phase = run.position.get("phase").and_then(Value::as_str);
    Reconciliation {
        id: Some(run.id.to_string()),
        provider: Some("stripe".to_owned()),
        dry_run: Some(run.dry_run),
        state: Some(state.into()),
        phase: phase
            .filter(|_| run.state == RunState::Running)
            .map(str::to_owned),
        objects_count: Some(run.objects_count),
        found_count: Some(run.found_count),
        repaired_count: Some(run.repaired_count),
        open_count: Some(run.open_count),
        in_flight_count: Some(run.in_flight_count),
        error: run.error.clone(),
        created_at: Some(timestamp(run.created_at)),
        ended_at: run.ended_at.map(timestamp),
    }
}

fn proto_discrepancy(row: Discrepancy) -> ProtoDiscrepancy {
    let state = match State::from_text(&row.state) {
        State::Open => ProtoState::Open,
        State::Repaired => ProtoState::Repaired,
        State::Resolved => ProtoState::Resolved,
        State::Previewed => ProtoState::Previewed,
    };
    ProtoDiscrepancy {
        id: Some(row.id.to_string()),
        kind: proto_kind(Kind::from_text(&row.kind)).map(Into::into),
        state: Some(state.into()),
        client_id: row.tenant_id.map(|id| id.to_string()),
        stripe_id: row.stripe_id,
        subscription_id: row.subscription_id.map(|id| id.to_string()),
        cause: Some(row.cause),
        action: Some(row.action),
        before: Some(object(row.before)),
        after: Some(object(row.after)),
        reconciliation_id: Some(row.reconciliation_id.to_string()),
        last_reconciliation_id: Some(row.last_reconciliation_id.to_string()),
        created_at: Some(timestamp(row.created_at)),
        resolved_at: row.resolved_at.map(timestamp),
    }
}

/// What the record holds is an object of plain values.
fn object(value: Value) -> prost_types::Struct {
    let fields: BTreeMap<String, prost_types::Value> = match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect(),
        _ => BTreeMap::new(),
    };
    prost_types::Struct { fields }
}

fn plain(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => ProtoValue::NullValue(0),
        Value::Bool(value) => ProtoValue::BoolValue(value),
        Value::Number(number) => ProtoValue::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => ProtoValue::StringValue(text),
        Value::Array(values) => ProtoValue::ListValue(prost_types::ListValue {
            values: values.into_iter().map(plain).collect(),
        }),
        Value::Object(_) => ProtoValue::StructValue(object(value)),
    };
    prost_types::Value { kind: Some(kind) }
}
