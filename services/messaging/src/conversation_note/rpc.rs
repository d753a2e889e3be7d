//! `ConversationNoteService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::messaging::v1::{
    self as proto, conversation_note_service_server::ConversationNoteService,
};
use mainstay_rpc::{Violations, field, open};
use tonic::{Request, Response, Status as Refused};

use super::Note;
use crate::Messaging;
use crate::wire::page_problem;

#[tonic::async_trait]
impl ConversationNoteService for Messaging {
    async fn create_conversation_note(
        &self,
        request: Request<proto::CreateConversationNoteRequest>,
    ) -> Result<Response<proto::ConversationNote>, Refused> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let conversation = field::id("conversation_id", &request.conversation_id)?;
        let mut faults = Violations::new();
        let body = request.body.unwrap_or_default();
        if body.trim().is_empty() {
            faults.add("body", "must say something");
        }
        faults.finish()?;
        let made = super::create(self, &ctx, (conversation, body), &once, answer).await?;
        Ok(Response::new(made))
    }

    async fn list_conversation_notes(
        &self,
        request: Request<proto::ListConversationNotesRequest>,
    ) -> Result<Response<proto::ListConversationNotesResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let conversation = field::id("conversation_id", &request.conversation_id)?;
        let page = PageRequest::new(
            "messaging.conversation_notes",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::page(self, ctx.tenant(), conversation, page).await?;
        Ok(Response::new(proto::ListConversationNotesResponse {
            data: page.rows.iter().map(answer).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_conversation_note(
        &self,
        request: Request<proto::DeleteConversationNoteRequest>,
    ) -> Result<Response<proto::DeleteConversationNoteResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let conversation = field::id("conversation_id", &request.conversation_id)?;
        let id = field::id("note_id", &request.note_id)?;
        super::delete(self, &ctx, (conversation, id)).await?;
        Ok(Response::new(proto::DeleteConversationNoteResponse {}))
    }
}

fn answer(note: &Note) -> proto::ConversationNote {
    proto::ConversationNote {
        id: Some(note.id.to_string()),
        conversation_id: Some(note.conversation.to_string()),
        author: Some(note.author.clone()),
        body: Some(note.body.clone()),
        created_at: Some(field::timestamp(note.created_at)),
    }
}
