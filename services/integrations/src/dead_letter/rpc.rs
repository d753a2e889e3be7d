//! Dead letters and queues over gRPC: every service is asked at once, on behalf of who asks here.
//! Deliberately absent: a way to see those of no agency. They are machinery's; health counts them, the log tells them.

use futures_util::future::{join_all, try_join_all};
use mainstay_db::PageRequest;
use mainstay_proto::integrations::v1::dead_letter_service_server::DeadLetterService;
use mainstay_proto::integrations::v1::{
    self as proto, GetJobsSummaryRequest, GetJobsSummaryResponse, JobsOfKind,
    ListDeadLettersRequest, ListDeadLettersResponse, ReplayDeadLetterRequest,
    ReplayDeadLetterResponse,
};
use mainstay_proto::jobs::v1::job_queue_service_client::JobQueueServiceClient;
use mainstay_proto::jobs::v1::{
    ListQueueDeadLettersRequest, QueueDeadLetter, QueuePlace, ReplayQueueDeadLetterRequest,
    SummarizeQueueRequest,
};
use mainstay_rpc::field::{self, timestamp};
use mainstay_rpc::{
    Channels, Context, Problem, ServiceChannel, ServiceName, Violations, on_behalf, open,
};
use mainstay_runtime::telemetry;
use mainstay_types::JobId;
use tonic::{Request, Response, Status};

use super::rules::{merged, owner, unanswered};
use super::{DeadLetter, Place};

/// Asks all queues.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    channels: Channels,
}

impl DeadLetters {
    /// Through these channels, one's own service among them: there is one way to ask a queue.
    pub fn new(channels: &Channels) -> Self {
        Self {
            channels: channels.clone(),
        }
    }

    fn queue(&self, service: ServiceName) -> JobQueueServiceClient<ServiceChannel> {
        JobQueueServiceClient::new(self.channels.channel(service))
    }

    async fn listed(
        &self,
        ctx: &Context,
        service: ServiceName,
        question: ListQueueDeadLettersRequest,
    ) -> Result<Vec<DeadLetter>, Problem> {
        let answer = self
            .queue(service)
            .list_queue_dead_letters(on_behalf(ctx, question))
            .await
            .map_err(|status| unanswered(service, Problem::from_status(&status)))?;
        let letters = answer.into_inner().dead_letters.into_iter();
        letters.map(|letter| read(service, letter)).collect()
    }
}

#[tonic::async_trait]
impl DeadLetterService for DeadLetters {
    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let (ctx, request) = open(request)?;
        let mut faults = Violations::new();
        let page = faults.check(
            "page_token",
            PageRequest::<Place>::new(
                "integrations.dead_letters",
                request.page_size,
                request.page_token.as_deref(),
            ),
        );
        let services = asked(request.service.as_deref(), &mut faults);
        faults.finish()?;
        let page = page.ok_or_else(|| Problem::internal("a page without a fault"))?;
        let question = ListQueueDeadLettersRequest {
            agency_id: ctx.agency.to_string(),
            limit: i32::try_from(page.limit()).unwrap_or(i32::MAX),
            before: page.after().map(|place| QueuePlace {
                dead_at_us: place.dead_at_us,
                job_id: JobId::from_uuid(place.job).to_string(),
            }),
            kind: request.kind,
        };
        let parts = services
            .iter()
            .map(|service| self.listed(&ctx, *service, question.clone()));
        let limit = usize::try_from(page.limit()).unwrap_or(usize::MAX);
        let letters = merged(try_join_all(parts).await?, limit);
        let page = page.page(letters, |last| last.place);
        Ok(Response::new(ListDeadLettersResponse {
            data: page.rows.into_iter().map(show).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn replay_dead_letter(
        &self,
        request: Request<ReplayDeadLetterRequest>,
    ) -> Result<Response<ReplayDeadLetterResponse>, Status> {
        let (ctx, request) = open(request)?;
        let id: JobId = field::id("dead_letter_id", &request.dead_letter_id)?;
        // An id is of one job in one queue; which, only the queues know.
        let answers = ServiceName::CONTEXTS.map(|service| {
            let question = ReplayQueueDeadLetterRequest {
                agency_id: ctx.agency.to_string(),
                job_id: id.to_string(),
            };
            let call = on_behalf(&ctx, question);
            async move {
                let answer = self.queue(service).replay_queue_dead_letter(call).await;
                let answer = answer
                    .map(|replayed| replayed.into_inner().kind)
                    .map_err(|status| Problem::from_status(&status));
                (service, answer)
            }
        });
        let (service, kind) = owner(join_all(answers).await)?;
        Ok(Response::new(ReplayDeadLetterResponse {
            id: Some(id.to_string()),
            service: Some(service.to_string()),
            kind: Some(kind),
        }))
    }

    async fn get_jobs_summary(
        &self,
        request: Request<GetJobsSummaryRequest>,
    ) -> Result<Response<GetJobsSummaryResponse>, Status> {
        let (ctx, request) = open(request)?;
        let mut faults = Violations::new();
        let services = asked(request.service.as_deref(), &mut faults);
        faults.finish()?;
        let parts = services.iter().map(|service| async {
            let question = SummarizeQueueRequest {
                agency_id: ctx.agency.to_string(),
            };
            let answer = self
                .queue(*service)
                .summarize_queue(on_behalf(&ctx, question))
                .await
                .map_err(|status| unanswered(*service, Problem::from_status(&status)))?;
            let kinds = answer.into_inner().kinds.into_iter();
            let kinds: Vec<JobsOfKind> = kinds
                .map(|kind| JobsOfKind {
                    service: Some(service.to_string()),
                    kind: Some(kind.kind),
                    ready: Some(kind.ready),
                    running: Some(kind.running),
                    scheduled: Some(kind.scheduled),
                    retrying: Some(kind.retrying),
                    dead: Some(kind.dead),
                    oldest_ready_seconds: kind.oldest_ready_seconds,
                })
                .collect();
            Ok::<_, Problem>(kinds)
        });
        let data = try_join_all(parts).await?.into_iter().flatten().collect();
        Ok(Response::new(GetJobsSummaryResponse { data }))
    }
}

/// The services that a question is for: one, or all that have a queue.
fn asked(service: Option<&str>, faults: &mut Violations) -> Vec<ServiceName> {
    let Some(name) = service else {
        return ServiceName::CONTEXTS.to_vec();
    };
    faults.check("service", name.parse()).into_iter().collect()
}

fn read(service: ServiceName, letter: QueueDeadLetter) -> Result<DeadLetter, Problem> {
    let place = letter
        .place
        .ok_or_else(|| Problem::internal("a dead letter without its place"))?;
    let job: JobId = field::id("job_id", &place.job_id).map_err(Problem::internal)?;
    Ok(DeadLetter {
        service,
        place: Place {
            dead_at_us: place.dead_at_us,
            job: job.uuid(),
        },
        kind: letter.kind,
        client: letter.client_id,
        attempts: letter.attempts,
        error: letter.error,
        traceparent: letter.traceparent,
        enqueued_at: letter.enqueued_at,
    })
}

fn show(letter: DeadLetter) -> proto::DeadLetter {
    proto::DeadLetter {
        id: Some(JobId::from_uuid(letter.place.job).to_string()),
        service: Some(letter.service.to_string()),
        dead_at: letter.dead_at().map(timestamp),
        kind: Some(letter.kind),
        client_id: letter.client,
        attempts: Some(letter.attempts),
        error: Some(letter.error),
        trace_id: letter
            .traceparent
            .as_deref()
            .and_then(telemetry::trace_id_of),
        enqueued_at: letter.enqueued_at,
    }
}
