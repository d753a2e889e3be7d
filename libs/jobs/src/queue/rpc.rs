//! `JobQueueService`, the same in every service that has a queue: its dead letters and its numbers, for integrations, which
//! asks all services for an agency's operators. Deliberately absent: permissions. Integrations' own methods ask for them;
//! here only integrations is let in, and the actor it acts for is who the audit row names.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use mainstay_db::Database;
use mainstay_proto::jobs::v1::job_queue_service_server::{JobQueueService, JobQueueServiceServer};
use mainstay_proto::jobs::v1::{
    ListQueueDeadLettersRequest, ListQueueDeadLettersResponse, QueueDeadLetter, QueueKind,
    QueuePlace, ReplayQueueDeadLetterRequest, ReplayQueueDeadLetterResponse, SummarizeQueueRequest,
    SummarizeQueueResponse,
};
use mainstay_rpc::{Context, ErrorReason, Problem, Violations, open};
use mainstay_runtime::Clock;
use mainstay_types::{AgencyId, AgencyScope, JobId};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::dead_letter::{self, Buried, Requeued};
use super::{OfKind, Queue};
use crate::audit::{self, AuditRecord};
use crate::failure;
use crate::outbox::timestamp;
use crate::runner::Wake;

/// What the act is called in the audit log, whichever service's job it is.
const REPLAY: &str = "integrations.dead_letter.replay";

/// How far jobs are counted; this number means "or more".
const MOST: i64 = 10_000;

/// Serves the queues of one service: one list of what was given up, and numbers of all.
#[derive(Clone)]
pub struct QueueRpc {
    database: Database,
    queues: Vec<Arc<dyn Queue>>,
    clock: Clock,
    wake: Wake,
}

/// The service of this database's queues, to be added to a role's routes. `wake` is of `job`, where dead letters go back to.
pub fn server(
    database: &Database,
    queues: Vec<Arc<dyn Queue>>,
    clock: &Clock,
    wake: Wake,
) -> JobQueueServiceServer<QueueRpc> {
    JobQueueServiceServer::new(QueueRpc {
        database: database.clone(),
        queues,
        clock: clock.clone(),
        wake,
    })
}

#[tonic::async_trait]
impl JobQueueService for QueueRpc {
    async fn list_queue_dead_letters(
        &self,
        request: Request<ListQueueDeadLettersRequest>,
    ) -> Result<Response<ListQueueDeadLettersResponse>, Status> {
        let (ctx, request) = open(request)?;
        let scope = scope(&ctx, &request.agency_id)?;
        let before = match &request.before {
            None => (DateTime::<Utc>::MAX_UTC, Uuid::max()),
            Some(place) => read_place(place)?,
        };
        let mut tx = self
            .database
            .agency(&scope)
            .await
            .map_err(failure::database)?;
        let letters = dead_letter::list(
            tx.conn(),
            scope.agency,
            before,
            request.kind.as_deref(),
            i64::from(request.limit),
        )
        .await
        .map_err(failure::database)?;
        Ok(Response::new(ListQueueDeadLettersResponse {
            dead_letters: letters.into_iter().map(told).collect(),
        }))
    }

    async fn replay_queue_dead_letter(
        &self,
        request: Request<ReplayQueueDeadLetterRequest>,
    ) -> Result<Response<ReplayQueueDeadLetterResponse>, Status> {
        let (ctx, request) = open(request)?;
        let scope = scope(&ctx, &request.agency_id)?;
        let id = id("job_id", JobId::parse(&request.job_id))?;
        let replayed = mainstay_db::retrying(|| self.replay(&ctx, &scope, id)).await;
        match replayed.map_err(failure::database)? {
            Requeued::Now(kind) | Requeued::Before(kind) => {
                self.wake.wake();
                Ok(Response::new(ReplayQueueDeadLetterResponse { kind }))
            }
            Requeued::Superseded(kind) => Err(Problem::new(
                ErrorReason::DeadLetterSuperseded,
                format!("Another {kind} for the same work is queued already."),
            )
            .into()),
            Requeued::Unknown => Err(Problem::not_found("dead letter").into()),
        }
    }

    async fn summarize_queue(
        &self,
        request: Request<SummarizeQueueRequest>,
    ) -> Result<Response<SummarizeQueueResponse>, Status> {
        let (ctx, request) = open(request)?;
        let scope = scope(&ctx, &request.agency_id)?;
        let now = self.clock.now();
        let counted = async {
            let mut connection = self.database.worker().connection().await?;
            let mut kinds = BTreeMap::new();
            for queue in &self.queues {
                let counted = queue
                    .summarize(connection.conn(), scope.agency, now, MOST)
                    .await?;
                for kind in counted {
                    add(&mut kinds, kind);
                }
            }
            Ok(kinds)
        };
        let kinds: BTreeMap<String, OfKind> = counted.await.map_err(failure::database)?;
        Ok(Response::new(SummarizeQueueResponse {
            kinds: kinds.into_values().map(|kind| numbers(kind, now)).collect(),
        }))
    }
}

impl QueueRpc {
    async fn replay(
        &self,
        ctx: &Context,
        scope: &AgencyScope,
        id: JobId,
    ) -> mainstay_db::Result<Requeued> {
        let now = self.clock.now();
        let mut tx = self.database.worker().agency(scope).await?;
        let replayed = dead_letter::requeue(tx.conn(), scope.agency, id, now).await?;
        if let Requeued::Now(kind) = &replayed {
            let record = AuditRecord {
                agency: scope.agency,
                client: None,
                actor: &ctx.principal(),
                action: REPLAY,
                target_type: "job",
                target_id: &id.to_string(),
                before: None,
                after: Some(serde_json::json!({"kind": kind})),
                request_id: Some(&ctx.request_id),
                occurred_at: now,
            };
            audit::record(tx.conn(), &record).await?;
        }
        tx.commit().await?;
        Ok(replayed)
    }
}

fn scope(ctx: &Context, agency: &str) -> Result<AgencyScope, Problem> {
    ctx.service_agency(id("agency_id", AgencyId::parse(agency))?)
}

fn id<T, E: std::fmt::Display>(field: &str, parsed: Result<T, E>) -> Result<T, Problem> {
    let mut faults = Violations::new();
    let id = faults.check(field, parsed);
    faults.finish()?;
    id.ok_or_else(|| Problem::internal("an id without a fault"))
}

fn read_place(place: &QueuePlace) -> Result<(DateTime<Utc>, Uuid), Problem> {
    let at = DateTime::from_timestamp_micros(place.dead_at_us).ok_or("is no time");
    let job = id("before.job_id", JobId::parse(&place.job_id))?;
    Ok((id("before.dead_at_us", at)?, job.uuid()))
}

fn told(letter: Buried) -> QueueDeadLetter {
    QueueDeadLetter {
        place: Some(QueuePlace {
            dead_at_us: letter.created_at.timestamp_micros(),
            job_id: letter.id.to_string(),
        }),
        kind: letter.kind,
        client_id: letter.client.map(|client| client.to_string()),
        attempts: letter.attempt,
        error: letter.last_error,
        traceparent: letter.traceparent,
        enqueued_at: Some(timestamp(letter.enqueued_at)),
    }
}

/// One kind may stand in two queues: a dead letter that is queued again waits in `job`, whatever it came from.
fn add(kinds: &mut BTreeMap<String, OfKind>, more: OfKind) {
    match kinds.entry(more.kind.clone()) {
        Entry::Vacant(place) => {
            place.insert(more);
        }
        Entry::Occupied(mut place) => {
            let kind = place.get_mut();
            kind.ready += more.ready;
            kind.running += more.running;
            kind.scheduled += more.scheduled;
            kind.retrying += more.retrying;
            kind.dead += more.dead;
            kind.oldest_ready = [kind.oldest_ready, more.oldest_ready]
                .into_iter()
                .flatten()
                .min();
        }
    }
}

fn numbers(kind: OfKind, now: DateTime<Utc>) -> QueueKind {
    let number = |count: i64| i32::try_from(count).unwrap_or(i32::MAX);
    QueueKind {
        ready: number(kind.ready),
        running: number(kind.running),
        scheduled: number(kind.scheduled),
        retrying: number(kind.retrying),
        dead: number(kind.dead),
        oldest_ready_seconds: kind
            .oldest_ready
            .map(|oldest| (now - oldest).num_seconds().max(0)),
        kind: kind.kind,
    }
}
