//! The webhook inbox over gRPC, for operators: the list, one webhook, and replays.
//! Deliberately absent: decisions. What is replayed, and when not, is the replay slice's.

use mainstay_db::{Database, PageRequest};
use mainstay_jobs::Wake;
use mainstay_jobs::record::By;
use mainstay_proto::integrations::v1::webhook_event_service_server::WebhookEventService;
use mainstay_proto::integrations::v1::{self as proto, WebhookEventState, WebhookReplayState};
use mainstay_rpc::field::{self, timestamp};
use mainstay_rpc::{Problem, Violations, open};
use mainstay_runtime::{Clock, telemetry};
use mainstay_types::{WebhookEventId, WebhookReplayId};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Filter, State, WebhookEvent};
use crate::replay::{self, Range, Replay};

/// Shows the inbox to operators, and replays it for them.
#[derive(Debug, Clone)]
pub struct Events {
    /// Where it is stored.
    pub database: Database,
    /// The platform's time.
    pub clock: Clock,
    /// Who hands on what is replayed.
    pub wake: Wake,
    /// Who replays ranges.
    pub jobs: Wake,
}

#[tonic::async_trait]
impl WebhookEventService for Events {
    async fn list_webhook_events(
        &self,
        request: Request<proto::ListWebhookEventsRequest>,
    ) -> Result<Response<proto::ListWebhookEventsResponse>, Status> {
        let (context, message) = open(request)?;
        let mut faults = Violations::new();
        let page = faults.check(
            "page_token",
            PageRequest::<Uuid>::new(
                "integrations.webhook_events",
                message.page_size,
                message.page_token.as_deref(),
            ),
        );
        let filter = Filter {
            provider: message.provider.clone(),
            state: asked_state(message.state),
            kind: message.r#type,
        };
        faults.finish()?;
        let page = page.ok_or_else(|| Problem::internal("a page without a fault"))?;
        let rows = super::list(&self.database, &context.agency_scope(), &filter, &page)
            .await
            .map_err(Problem::from)?;
        let page = page.page(rows, |last| last.id.uuid());
        let data: Result<Vec<_>, Problem> = page.rows.into_iter().map(show).collect();
        Ok(Response::new(proto::ListWebhookEventsResponse {
            data: data?,
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_webhook_event(
        &self,
        request: Request<proto::GetWebhookEventRequest>,
    ) -> Result<Response<proto::WebhookEvent>, Status> {
        let (context, message) = open(request)?;
        let id: WebhookEventId = field::id("webhook_event_id", &message.webhook_event_id)?;
        let event = super::get(&self.database, &context.agency_scope(), id)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(show(event)?))
    }

    async fn replay_webhook_event(
        &self,
        request: Request<proto::ReplayWebhookEventRequest>,
    ) -> Result<Response<proto::WebhookEvent>, Status> {
        let (context, message) = open(request)?;
        let id: WebhookEventId = field::id("webhook_event_id", &message.webhook_event_id)?;
        let by = By::actor(&context, self.clock.now());
        let event = replay::one(&self.database, &by, id)
            .await
            .map_err(Problem::from)?;
        self.wake.wake();
        Ok(Response::new(show(event)?))
    }

    async fn replay_webhook_events(
        &self,
        request: Request<proto::ReplayWebhookEventsRequest>,
    ) -> Result<Response<proto::WebhookReplay>, Status> {
        let (context, message) = open(request)?;
        let mut faults = Violations::new();
        let range = Range {
            provider: message.provider.clone(),
            kind: message.r#type.clone(),
            states: replay::rules::states(asked_state(message.state)),
            from: field::time_given(
                "received_from_at",
                message.received_from_at.as_ref(),
                &mut faults,
            ),
            to: field::time_given(
                "received_to_at",
                message.received_to_at.as_ref(),
                &mut faults,
            ),
        };
        if let (Some(from), Some(to)) = (range.from, range.to)
            && from >= to
        {
            faults.add("received_to_at", "must be later than received_from_at");
        }
        faults.finish()?;
        let by = By::actor(&context, self.clock.now());
        if message.dry_run.unwrap_or(false) {
            let matched = replay::count(&self.database, by.agency, &range)
                .await
                .map_err(Problem::from)?;
            return Ok(Response::new(proto::WebhookReplay {
                matched: Some(matched),
                ..Default::default()
            }));
        }
        let begun = replay::begin(&self.database, &by, &range)
            .await
            .map_err(Problem::from)?;
        self.jobs.wake();
        let mut response = Response::new(show_replay(begun));
        response
            .metadata_mut()
            .insert("x-mainstay-accepted", MetadataValue::from_static("1"));
        Ok(response)
    }

    async fn get_webhook_replay(
        &self,
        request: Request<proto::GetWebhookReplayRequest>,
    ) -> Result<Response<proto::WebhookReplay>, Status> {
        let (context, message) = open(request)?;
        let id: WebhookReplayId = field::id("webhook_replay_id", &message.webhook_replay_id)?;
        let found = replay::get(&self.database, context.agency, id)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(show_replay(found)))
    }
}

fn show_replay(replay: Replay) -> proto::WebhookReplay {
    let state = if replay.running {
        WebhookReplayState::Running
    } else {
        WebhookReplayState::Completed
    };
    proto::WebhookReplay {
        id: Some(replay.id.to_string()),
        state: Some(state.into()),
        matched: Some(replay.matched),
        replayed: Some(replay.replayed),
        passed_over: Some(replay.passed_over),
        requested_by: Some(replay.requested_by),
        created_at: Some(timestamp(replay.created_at)),
        ended_at: replay.ended_at.map(timestamp),
    }
}

/// The state asked for. Numbers that are no state were refused by the server stack.
fn asked_state(asked: Option<i32>) -> Option<State> {
    match asked.and_then(|number| WebhookEventState::try_from(number).ok())? {
        WebhookEventState::Unspecified => None,
        WebhookEventState::Received => Some(State::Received),
        WebhookEventState::Processed => Some(State::Processed),
        WebhookEventState::Failed => Some(State::Failed),
        WebhookEventState::Dead => Some(State::Dead),
    }
}

fn show(event: WebhookEvent) -> Result<proto::WebhookEvent, Problem> {
    let state = State::try_from(event.state.as_str()).map_err(super::WebhookError::from)?;
    let state = match state {
        State::Received => WebhookEventState::Received,
        State::Processed => WebhookEventState::Processed,
        State::Failed => WebhookEventState::Failed,
        State::Dead => WebhookEventState::Dead,
    };
    Ok(proto::WebhookEvent {
        id: Some(event.id.to_string()),
        provider: Some(event.provider),
        event_id: Some(event.event_key),
        r#type: Some(event.kind),
        state: Some(state.into()),
        attempts: Some(event.attempts),
        received_at: Some(timestamp(event.received_at)),
        processed_at: event.processed_at.map(timestamp),
        error: event.error,
        trace_id: event
            .traceparent
            .as_deref()
            .and_then(telemetry::trace_id_of),
        client_id: event.client.map(|client| client.to_string()),
        outcome: event.outcome,
        replays: Some(event.replays),
        replayed_at: event.replayed_at.map(timestamp),
    })
}
