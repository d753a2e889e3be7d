//! `EscalationService` and `ClaimLinkService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs; what is one's own, the commands know.

use mainstay_db::page::PageRequest;
use mainstay_jobs::failure;
use mainstay_jobs::once::Once;
use mainstay_proto::escalation::v1::{
    self as proto, claim_link_service_server::ClaimLinkService,
    escalation_service_server::EscalationService,
};
use mainstay_rpc::{field, open};
use tonic::{Request, Response, Status as Refused};

use super::act::{self, Seen};
use super::{Cause, Entry, Escalation, New, Priority, State};
use crate::Escalating;

#[tonic::async_trait]
impl EscalationService for Escalating {
    async fn raise_escalation(
        &self,
        request: Request<proto::RaiseEscalationRequest>,
    ) -> Result<Response<proto::Escalation>, Refused> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let summary = request.summary.unwrap_or_default();
        // Only messaging knows whose a lead is.
        let lead = match request.lead_id.as_deref() {
            None => None,
            Some(text) => {
                let id = field::id("lead_id", text)?;
                Some(self.leads.find(ctx.tenant(), id).await?)
            }
        };
        let about = lead.as_ref().map(|lead| lead.id.to_string());
        let subject = request.subject.or(about);
        let subject = subject.unwrap_or_else(|| summary.chars().take(200).collect());
        let new = New {
            cause: Cause::given(request.reason).unwrap_or(Cause::Manual),
            subject,
            lead: lead.as_ref().map(|lead| lead.id),
            conversation: lead.and_then(|lead| lead.conversation),
            summary,
            priority: Priority::given(request.priority).unwrap_or(Priority::Normal),
        };
        let raised = super::create(self, &ctx, new, &once, whole).await?;
        Ok(Response::new(raised))
    }

    async fn list_escalations(
        &self,
        request: Request<proto::ListEscalationsRequest>,
    ) -> Result<Response<proto::ListEscalationsResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::new(
            "escalation.escalations",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(failure::page)?;
        let page = super::list(self, ctx.tenant(), State::given(request.status), page).await?;
        Ok(Response::new(proto::ListEscalationsResponse {
            data: page.rows.iter().map(whole).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_escalation(
        &self,
        request: Request<proto::GetEscalationRequest>,
    ) -> Result<Response<proto::Escalation>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("escalation_id", &request.escalation_id)?;
        let (found, history) = super::read(self, &ctx.agency_scope(), id).await?;
        let mut answer = whole(&found);
        answer.history = history.into_iter().map(line).collect();
        Ok(Response::new(answer))
    }

    async fn claim_escalation(
        &self,
        request: Request<proto::ClaimEscalationRequest>,
    ) -> Result<Response<proto::Escalation>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("escalation_id", &request.escalation_id)?;
        let named = request.member_id.as_deref();
        let named = named.map(|id| field::id("member_id", id)).transpose()?;
        let after = act::claim(self, &ctx, id, named).await?;
        Ok(Response::new(whole(&after)))
    }

    async fn release_escalation(
        &self,
        request: Request<proto::ReleaseEscalationRequest>,
    ) -> Result<Response<proto::Escalation>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("escalation_id", &request.escalation_id)?;
        let after = act::release(self, &ctx, id, request.reason.as_deref()).await?;
        Ok(Response::new(whole(&after)))
    }

    async fn reassign_escalation(
        &self,
        request: Request<proto::ReassignEscalationRequest>,
    ) -> Result<Response<proto::Escalation>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("escalation_id", &request.escalation_id)?;
        let member = request.member_id.unwrap_or_default();
        let member = field::id("member_id", &member)?;
        let after = act::reassign(self, &ctx, id, member, request.reason.as_deref()).await?;
        Ok(Response::new(whole(&after)))
    }

    async fn resolve_escalation(
        &self,
        request: Request<proto::ResolveEscalationRequest>,
    ) -> Result<Response<proto::Escalation>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("escalation_id", &request.escalation_id)?;
        let after = act::resolve(self, &ctx, id, request.resolution).await?;
        Ok(Response::new(whole(&after)))
    }
}

#[tonic::async_trait]
impl ClaimLinkService for Escalating {
    async fn show_claim(
        &self,
        request: Request<proto::ShowClaimRequest>,
    ) -> Result<Response<proto::Claim>, Refused> {
        let (_, request) = open(request)?;
        Ok(Response::new(shown(act::show(self, &request.token).await?)))
    }

    async fn claim_by_link(
        &self,
        request: Request<proto::ClaimByLinkRequest>,
    ) -> Result<Response<proto::Claim>, Refused> {
        let (_, request) = open(request)?;
        let taken = act::claim_by_link(self, &request.token).await?;
        Ok(Response::new(shown(Seen::Yours(taken))))
    }
}

fn shown(seen: Seen) -> proto::Claim {
    let (state, found) = match &seen {
        Seen::Open(found) => (proto::ClaimState::Open, found),
        Seen::Yours(found) => (proto::ClaimState::Yours, found),
        Seen::Taken(found, _) => (proto::ClaimState::Taken, found),
        Seen::Ended(found) => (proto::ClaimState::Ended, found),
        Seen::Expired(found) => (proto::ClaimState::Expired, found),
    };
    // Whoever can no longer take it learns no more of it than who has it.
    let tells = matches!(seen, Seen::Open(_) | Seen::Yours(_));
    proto::Claim {
        state: Some(state.into()),
        summary: tells.then(|| found.summary.clone()),
        claimed_by_name: found.claim.as_ref().map(|claim| claim.name.clone()),
        escalation_id: Some(found.id.to_string()),
    }
}

fn line(entry: Entry) -> proto::EscalationEvent {
    proto::EscalationEvent {
        kind: Some(entry.kind),
        actor: Some(entry.actor),
        member_id: entry.member.map(|member| member.to_string()),
        reason: entry.reason,
        at: Some(field::timestamp(entry.at)),
    }
}

fn whole(escalation: &Escalation) -> proto::Escalation {
    let claim = escalation.claim.as_ref();
    proto::Escalation {
        id: Some(escalation.id.to_string()),
        client_id: Some(escalation.tenant.client.to_string()),
        reason: Some(escalation.cause.answer()),
        subject: Some(escalation.subject.clone()),
        lead_id: escalation.lead.map(|lead| lead.to_string()),
        conversation_id: escalation.conversation.map(|id| id.to_string()),
        summary: Some(escalation.summary.clone()),
        priority: Some(escalation.priority.answer()),
        status: Some(escalation.state.answer()),
        claimed_by: claim.map(|claim| proto::EscalationOwner {
            id: Some(claim.member.to_string()),
            name: Some(claim.name.clone()),
        }),
        claimed_at: claim.map(|claim| field::timestamp(claim.at)),
        occurrences: Some(escalation.occurrences),
        next_step_at: escalation.next_step_at.map(field::timestamp),
        resolution: escalation.resolution.clone(),
        ended_at: escalation.ended_at.map(field::timestamp),
        created_at: Some(field::timestamp(escalation.created_at)),
        history: Vec::new(),
    }
}
