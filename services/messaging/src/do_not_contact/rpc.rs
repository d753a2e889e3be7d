//! `DoNotContactService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_proto::messaging::v1::{
    self as proto, do_not_contact_service_server::DoNotContactService,
};
use mainstay_rpc::{Context, Problem, Violations, field, open};
use tonic::{Request, Response, Status};

use super::{Line, List, Listing};
use crate::Messaging;
use crate::address::Address;
use crate::wire::{self, page_problem};

#[tonic::async_trait]
impl DoNotContactService for Messaging {
    async fn add_agency_do_not_contact(
        &self,
        request: Request<proto::AddAgencyDoNotContactRequest>,
    ) -> Result<Response<proto::DoNotContactEntry>, Status> {
        let (ctx, request) = open(request)?;
        let list = List::Agency(ctx.agency_scope());
        let entry = (request.address, request.reason);
        Ok(Response::new(self.listed(&ctx, list, entry).await?))
    }

    async fn list_agency_do_not_contact(
        &self,
        request: Request<proto::ListAgencyDoNotContactRequest>,
    ) -> Result<Response<proto::ListAgencyDoNotContactResponse>, Status> {
        let (ctx, request) = open(request)?;
        let list = List::Agency(ctx.agency_scope());
        let wanted = (request.page_size, request.page_token);
        let (data, next_page_token) = self.lines(list, wanted).await?;
        Ok(Response::new(proto::ListAgencyDoNotContactResponse {
            data,
            next_page_token,
        }))
    }

    async fn remove_agency_do_not_contact(
        &self,
        request: Request<proto::RemoveAgencyDoNotContactRequest>,
    ) -> Result<Response<proto::RemoveAgencyDoNotContactResponse>, Status> {
        let (ctx, request) = open(request)?;
        let list = List::Agency(ctx.agency_scope());
        super::remove(self, &ctx, &list, &to_remove(&request.address)?).await?;
        Ok(Response::new(proto::RemoveAgencyDoNotContactResponse {}))
    }

    async fn add_client_do_not_contact(
        &self,
        request: Request<proto::AddClientDoNotContactRequest>,
    ) -> Result<Response<proto::DoNotContactEntry>, Status> {
        let (ctx, request) = open(request)?;
        let list = List::Client(ctx.tenant());
        let entry = (request.address, request.reason);
        Ok(Response::new(self.listed(&ctx, list, entry).await?))
    }

    async fn list_client_do_not_contact(
        &self,
        request: Request<proto::ListClientDoNotContactRequest>,
    ) -> Result<Response<proto::ListClientDoNotContactResponse>, Status> {
        let (ctx, request) = open(request)?;
        let list = List::Client(ctx.tenant());
        let wanted = (request.page_size, request.page_token);
        let (data, next_page_token) = self.lines(list, wanted).await?;
        Ok(Response::new(proto::ListClientDoNotContactResponse {
            data,
            next_page_token,
        }))
    }

    async fn remove_client_do_not_contact(
        &self,
        request: Request<proto::RemoveClientDoNotContactRequest>,
    ) -> Result<Response<proto::RemoveClientDoNotContactResponse>, Status> {
        let (ctx, request) = open(request)?;
        let list = List::Client(ctx.tenant());
        super::remove(self, &ctx, &list, &to_remove(&request.address)?).await?;
        Ok(Response::new(proto::RemoveClientDoNotContactResponse {}))
    }
}

impl Messaging {
    async fn listed(
        &self,
        ctx: &Context,
        list: List,
        (address, reason): (Option<String>, Option<String>),
    ) -> Result<proto::DoNotContactEntry, Status> {
        let mut faults = Violations::new();
        let address = wire::address(address.as_deref(), &mut faults);
        let reason = faults.required("reason", reason);
        faults.finish()?;
        let address = address.ok_or_else(|| Problem::not_found("address"))?;
        let reason = reason.unwrap_or_default();
        let listing = super::add(self, ctx, &list, &address, reason).await?;
        Ok(entry(address.as_str(), listing))
    }

    async fn lines(
        &self,
        list: List,
        (size, token): (Option<i32>, Option<String>),
    ) -> Result<(Vec<proto::DoNotContactEntry>, Option<String>), Status> {
        let name = match list {
            List::Client(_) => "messaging.do_not_contact",
            List::Agency(_) => "messaging.agency_do_not_contact",
        };
        let page = PageRequest::new(name, size, token.as_deref()).map_err(page_problem)?;
        let page = super::page(self, &list, page).await?;
        let data = page
            .rows
            .into_iter()
            .map(|Line { address, listing }| entry(&address, listing));
        Ok((data.collect(), page.next_page_token))
    }
}

/// What is no address is on no list.
fn to_remove(text: &str) -> Result<Address, Problem> {
    Address::parse(text).map_err(|_| Problem::not_found("address"))
}

fn entry(address: &str, listing: Listing) -> proto::DoNotContactEntry {
    proto::DoNotContactEntry {
        address: Some(address.to_owned()),
        reason: Some(listing.reason),
        listed_by: Some(listing.listed_by),
        listed_at: Some(field::timestamp(listing.listed_at)),
    }
}
