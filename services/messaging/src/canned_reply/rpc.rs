//! `CannedReplyService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::messaging::v1::{
    self as proto, canned_reply_service_server::CannedReplyService,
};
use mainstay_rpc::{Violations, field, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status as Refused};

use super::{CannedReply, Edit, etag};
use crate::Messaging;
use crate::wire::page_problem;

#[tonic::async_trait]
impl CannedReplyService for Messaging {
    async fn create_canned_reply(
        &self,
        request: Request<proto::CreateCannedReplyRequest>,
    ) -> Result<Response<proto::CannedReply>, Refused> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let mut faults = Violations::new();
        let shortcut = faults.required("shortcut", request.shortcut);
        let body = faults.required("body", request.body);
        check(body.as_deref(), &mut faults);
        faults.finish()?;
        let new = (shortcut.unwrap_or_default(), body.unwrap_or_default());
        let answer = |made: &CannedReply| whole(ctx.tenant().client, made);
        let made = super::create(self, &ctx, new, &once, answer).await?;
        Ok(Response::new(made))
    }

    async fn get_canned_reply(
        &self,
        request: Request<proto::GetCannedReplyRequest>,
    ) -> Result<Response<proto::CannedReply>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = field::id("canned_reply_id", &request.canned_reply_id)?;
        let found = super::get(self, tenant, id).await?;
        Ok(Response::new(whole(tenant.client, &found)))
    }

    async fn list_canned_replies(
        &self,
        request: Request<proto::ListCannedRepliesRequest>,
    ) -> Result<Response<proto::ListCannedRepliesResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let page = PageRequest::new(
            "messaging.canned_replies",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::list(self, tenant, page).await?;
        let data = page.rows.iter().map(|row| whole(tenant.client, row));
        Ok(Response::new(proto::ListCannedRepliesResponse {
            data: data.collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_canned_reply(
        &self,
        request: Request<proto::UpdateCannedReplyRequest>,
    ) -> Result<Response<proto::CannedReply>, Refused> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let id = field::id("canned_reply_id", &request.canned_reply_id)?;
        let mut faults = Violations::new();
        check(request.body.as_deref(), &mut faults);
        faults.finish()?;
        let edit = Edit {
            shortcut: request.shortcut,
            body: request.body,
        };
        let answer = |after: &CannedReply| whole(ctx.tenant().client, after);
        let what = (edit, request.etag.as_deref(), answer);
        let after = super::update(self, &ctx, &once, id, what).await?;
        Ok(Response::new(after))
    }

    async fn delete_canned_reply(
        &self,
        request: Request<proto::DeleteCannedReplyRequest>,
    ) -> Result<Response<proto::DeleteCannedReplyResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("canned_reply_id", &request.canned_reply_id)?;
        super::delete(self, &ctx, ctx.tenant(), id).await?;
        Ok(Response::new(proto::DeleteCannedReplyResponse {}))
    }
}

fn check(body: Option<&str>, faults: &mut Violations) {
    if let Some(body) = body {
        faults.check("body", super::check(body));
    }
}

fn whole(client: ClientId, reply: &CannedReply) -> proto::CannedReply {
    proto::CannedReply {
        id: Some(reply.id.to_string()),
        client_id: Some(client.to_string()),
        shortcut: Some(reply.shortcut.clone()),
        body: Some(reply.body.clone()),
        etag: Some(etag(reply.revision)),
        created_at: Some(field::timestamp(reply.created_at)),
        updated_at: Some(field::timestamp(reply.updated_at)),
    }
}
