//! `ConversationService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs; only a look at what was deleted takes a
//! second permission, which is asked for here.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::messaging::v1::{
    self as proto, conversation_service_server::ConversationService,
};
use mainstay_rpc::{Context, Problem, Violations, field, open};
use mainstay_types::{ClientId, ConversationId, MemberId};
use tonic::{Request, Response, Status as Refused};
use uuid::Uuid;

use super::{Act, Conversation, Edit, Filter, Place, rules};
use crate::wire::{self, page_problem};
use crate::{Messaging, message};

/// What a look at deleted ones takes.
const DELETE: &str = "messaging.conversations.delete";

#[tonic::async_trait]
impl ConversationService for Messaging {
    async fn list_conversations(
        &self,
        request: Request<proto::ListConversationsRequest>,
    ) -> Result<Response<proto::ListConversationsResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let page: PageRequest<Place> = PageRequest::new(
            "messaging.conversations",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let filter = filter(request)?;
        if filter.deleted && !wire::holds(&ctx, DELETE) {
            return Err(Problem::permission_denied(DELETE).into());
        }
        let page = super::page(self, tenant, &filter, page).await?;
        let data = page.rows.iter().map(|row| answer(tenant.client, row));
        Ok(Response::new(proto::ListConversationsResponse {
            data: data.collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_conversation(
        &self,
        request: Request<proto::GetConversationRequest>,
    ) -> Result<Response<proto::Conversation>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let found = super::get(self, tenant, id(&request.conversation_id)?).await?;
        Ok(Response::new(answer(tenant.client, &found)))
    }

    async fn update_conversation(
        &self,
        request: Request<proto::UpdateConversationRequest>,
    ) -> Result<Response<proto::Conversation>, Refused> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let id = id(&request.conversation_id)?;
        let mut faults = Violations::new();
        let member = member(request.assigned_to.as_deref(), &mut faults);
        let unassign = request.unassign.unwrap_or(false);
        if unassign && member.is_some() {
            faults.add("unassign", "cannot stand beside assigned_to");
        }
        let labels = request.labels.map(|labels| labels.values);
        let edit = Edit {
            assigned_to: member.map(Some).or(unassign.then_some(None)),
            labels: labels.map(|labels| rules::labels(&labels, &mut faults)),
        };
        faults.finish()?;
        let what = (edit, request.etag.as_deref());
        let after = super::update(self, &ctx, &once, id, what).await?;
        Ok(Response::new(after))
    }

    async fn list_conversation_messages(
        &self,
        request: Request<proto::ListConversationMessagesRequest>,
    ) -> Result<Response<proto::ListConversationMessagesResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = id(&request.conversation_id)?;
        let page: PageRequest<Uuid> = PageRequest::new(
            "messaging.messages",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = message::page(self, tenant, id, page).await?;
        let data = page.rows.iter();
        Ok(Response::new(proto::ListConversationMessagesResponse {
            data: data
                .map(|row| message::rpc::answer(tenant.client, row))
                .collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn read_conversation(
        &self,
        request: Request<proto::ReadConversationRequest>,
    ) -> Result<Response<proto::Conversation>, Refused> {
        let (ctx, request) = open(request)?;
        self.done(&ctx, &request.conversation_id, Act::Read).await
    }

    async fn take_over_conversation(
        &self,
        request: Request<proto::TakeOverConversationRequest>,
    ) -> Result<Response<proto::Conversation>, Refused> {
        let (ctx, request) = open(request)?;
        self.done(&ctx, &request.conversation_id, Act::TakeOver)
            .await
    }

    async fn hand_back_conversation(
        &self,
        request: Request<proto::HandBackConversationRequest>,
    ) -> Result<Response<proto::Conversation>, Refused> {
        let (ctx, request) = open(request)?;
        self.done(&ctx, &request.conversation_id, Act::HandBack)
            .await
    }

    async fn close_conversation(
        &self,
        request: Request<proto::CloseConversationRequest>,
    ) -> Result<Response<proto::Conversation>, Refused> {
        let (ctx, request) = open(request)?;
        let (tenant, ask_rating) = (ctx.tenant(), request.ask_rating.unwrap_or(false));
        let id = id(&request.conversation_id)?;
        let after = super::close(self, &ctx, tenant, id, ask_rating).await?;
        Ok(Response::new(answer(tenant.client, &after)))
    }

    async fn delete_conversation(
        &self,
        request: Request<proto::DeleteConversationRequest>,
    ) -> Result<Response<proto::DeleteConversationResponse>, Refused> {
        let (ctx, request) = open(request)?;
        self.done(&ctx, &request.conversation_id, Act::Delete)
            .await?;
        Ok(Response::new(proto::DeleteConversationResponse {}))
    }

    async fn restore_conversation(
        &self,
        request: Request<proto::RestoreConversationRequest>,
    ) -> Result<Response<proto::Conversation>, Refused> {
        let (ctx, request) = open(request)?;
        self.done(&ctx, &request.conversation_id, Act::Restore)
            .await
    }
}

impl Messaging {
    async fn done(
        &self,
        ctx: &Context,
        conversation_id: &str,
        act: Act,
    ) -> Result<Response<proto::Conversation>, Refused> {
        let tenant = ctx.tenant();
        let after = super::act(self, ctx, tenant, id(conversation_id)?, act).await?;
        Ok(Response::new(answer(tenant.client, &after)))
    }
}

fn id(text: &str) -> Result<ConversationId, Problem> {
    field::id("conversation_id", text)
}

fn member(given: Option<&str>, faults: &mut Violations) -> Option<MemberId> {
    faults.check("assigned_to", MemberId::parse(given?))
}

fn filter(request: proto::ListConversationsRequest) -> Result<Filter, Problem> {
    let mut faults = Violations::new();
    let lead = request.lead_id.as_deref();
    let filter = Filter {
        lead: lead.map(|id| field::id("lead_id", id)).transpose()?,
        open: match request.state.map(proto::ConversationState::try_from) {
            Some(Ok(proto::ConversationState::Open)) => Some(true),
            Some(Ok(proto::ConversationState::Closed)) => Some(false),
            Some(Ok(proto::ConversationState::Unspecified) | Err(_)) | None => None,
        },
        unread: request.unread.unwrap_or(false),
        assigned_to: member(request.assigned_to.as_deref(), &mut faults),
        unassigned: request.unassigned.unwrap_or(false),
        label: request.label.as_deref().map(rules::label),
        asked: request.q,
        deleted: request.deleted.unwrap_or(false),
    };
    if filter.unassigned && filter.assigned_to.is_some() {
        faults.add("unassigned", "cannot stand beside assigned_to");
    }
    faults.finish()?;
    Ok(filter)
}

/// A conversation as answers have it.
pub(super) fn answer(client: ClientId, conversation: &Conversation) -> proto::Conversation {
    let state = match conversation.open {
        true => proto::ConversationState::Open,
        false => proto::ConversationState::Closed,
    };
    proto::Conversation {
        id: Some(conversation.id.to_string()),
        client_id: Some(client.to_string()),
        lead_id: Some(conversation.lead.to_string()),
        channel: Some(wire::proto_channel(conversation.channel).into()),
        sender: Some(conversation.sender.clone()),
        address: Some(conversation.address.clone()),
        state: Some(state.into()),
        unread: Some(conversation.unread),
        last_activity_at: Some(field::timestamp(conversation.last_activity_at)),
        taken_over_by: conversation.taken_over_by.clone(),
        lead_name: conversation.lead_name.clone(),
        assigned_to: conversation.assigned_to.map(|member| member.to_string()),
        labels: conversation.labels.clone(),
        rating_asked_at: conversation.rating_asked_at.map(field::timestamp),
        rating: conversation.rating.map(i32::from),
        closed_at: conversation.closed_at.map(field::timestamp),
        deleted_at: conversation.deleted_at.map(field::timestamp),
        etag: Some(rules::etag(conversation.revision)),
    }
}
