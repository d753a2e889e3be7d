//! `ConsentService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::messaging::v1::{self as proto, consent_service_server::ConsentService};
use mainstay_rpc::{Violations, field, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Contact, Entry, Kind, Said, Standing};
use crate::Messaging;
use crate::address::Address;
use crate::gate::rules::Consent;
use crate::wire::{self, page_problem};

#[tonic::async_trait]
impl ConsentService for Messaging {
    async fn record_consent(
        &self,
        request: Request<proto::RecordConsentRequest>,
    ) -> Result<Response<proto::ContactConsent>, Status> {
        let (ctx, request) = open(request)?;
        let (tenant, now) = (ctx.tenant(), self.clock.now());
        let once = Once::for_client(&ctx, &request, now);
        let mut faults = Violations::new();
        let address = wire::address(request.address.as_deref(), &mut faults);
        let channel = wire::channel("channel", request.channel, &mut faults);
        let channel = faults.required("channel", channel);
        wire::reaches(address.as_ref(), channel, &mut faults);
        let basis = wire::basis("basis", request.basis, &mut faults);
        let basis = faults.required("basis", basis);
        let given_at = field::time_given("given_at", request.given_at.as_ref(), &mut faults);
        let given_at = given_at.unwrap_or(now);
        // Clocks differ; a day is no clock.
        if given_at > now + chrono::TimeDelta::minutes(5) {
            faults.add("given_at", "must not be in the future");
        }
        faults.finish()?;
        let (Some(address), Some(channel), Some(basis)) = (address, channel, basis) else {
            return Err(mainstay_rpc::Problem::invalid(Vec::new()).into());
        };
        let consent = Consent { basis, given_at };
        let said = said(request.source, request.text);
        let answer = |contact: &Contact| answer(tenant.client, contact);
        let recorded = super::record(
            self,
            &ctx,
            tenant,
            (address, channel),
            (consent, said),
            &once,
            answer,
        );
        Ok(Response::new(recorded.await?))
    }

    async fn get_consent(
        &self,
        request: Request<proto::GetConsentRequest>,
    ) -> Result<Response<proto::ContactConsent>, Status> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        // A path that names no address names nothing.
        let address = Address::parse(&request.address)
            .map_err(|_| mainstay_rpc::Problem::not_found("address"))?;
        let contact = super::get(self, tenant, address).await?;
        Ok(Response::new(answer(tenant.client, &contact)))
    }

    async fn opt_out(
        &self,
        request: Request<proto::OptOutRequest>,
    ) -> Result<Response<proto::ContactConsent>, Status> {
        let (ctx, request) = open(request)?;
        let said = said(request.source, request.text);
        let who = (request.address, request.channel);
        self.opted(&ctx, who, (Kind::OptOut, said)).await
    }

    async fn opt_in(
        &self,
        request: Request<proto::OptInRequest>,
    ) -> Result<Response<proto::ContactConsent>, Status> {
        let (ctx, request) = open(request)?;
        let said = said(request.source, request.text);
        let who = (request.address, request.channel);
        self.opted(&ctx, who, (Kind::OptIn, said)).await
    }

    async fn list_consent_events(
        &self,
        request: Request<proto::ListConsentEventsRequest>,
    ) -> Result<Response<proto::ListConsentEventsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let mut faults = Violations::new();
        let given = request.address.as_deref();
        let address = given.and_then(|text| wire::address(Some(text), &mut faults));
        faults.finish()?;
        let page: PageRequest<Uuid> = PageRequest::new(
            "messaging.consent_events",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::history(self, ctx.tenant(), address, page).await?;
        Ok(Response::new(proto::ListConsentEventsResponse {
            data: page.rows.iter().map(event).collect(),
            next_page_token: page.next_page_token,
        }))
    }
}

impl Messaging {
    async fn opted(
        &self,
        ctx: &mainstay_rpc::Context,
        (address, channel): (Option<String>, Option<i32>),
        what: (Kind, Said),
    ) -> Result<Response<proto::ContactConsent>, Status> {
        let tenant = ctx.tenant();
        let mut faults = Violations::new();
        let address = wire::address(address.as_deref(), &mut faults);
        let channel = wire::channel("channel", channel, &mut faults);
        wire::reaches(address.as_ref(), channel, &mut faults);
        faults.finish()?;
        let address = address.ok_or_else(|| mainstay_rpc::Problem::not_found("address"))?;
        let channels = match &channel {
            Some(channel) => std::slice::from_ref(channel),
            None => address.channels(),
        };
        let contact = super::change(self, ctx, tenant, (address, channels), what).await?;
        Ok(Response::new(answer(tenant.client, &contact)))
    }
}

fn said(source: Option<String>, text: Option<String>) -> Said {
    Said {
        source: source.unwrap_or_default(),
        text: text.filter(|text| !text.is_empty()),
    }
}

/// How an address stands, as answers have it.
pub(crate) fn answer(client: ClientId, contact: &Contact) -> proto::ContactConsent {
    proto::ContactConsent {
        client_id: Some(client.to_string()),
        address: Some(contact.address.as_str().to_owned()),
        do_not_contact: Some(contact.do_not_contact),
        channels: contact.channels.iter().map(standing).collect(),
    }
}

fn standing(standing: &Standing) -> proto::ChannelConsent {
    let consent = standing.consent;
    proto::ChannelConsent {
        channel: Some(wire::proto_channel(standing.channel).into()),
        opted_out: Some(standing.opted_out_at.is_some()),
        opted_out_at: standing.opted_out_at.map(field::timestamp),
        basis: consent.map(|consent| wire::proto_basis(consent.basis).into()),
        given_at: consent.map(|consent| field::timestamp(consent.given_at)),
        lapses_at: consent
            .and_then(|consent| consent.lapses_at())
            .map(field::timestamp),
    }
}

fn event(entry: &Entry) -> proto::ConsentEvent {
    let (kind, basis) = match entry.kind {
        Kind::Consent(consent) => (proto::ConsentEventKind::Consent, Some(consent.basis)),
        Kind::OptOut => (proto::ConsentEventKind::OptOut, None),
        Kind::OptIn => (proto::ConsentEventKind::OptIn, None),
    };
    proto::ConsentEvent {
        kind: Some(kind.into()),
        address: Some(entry.address.clone()),
        channel: Some(wire::proto_channel(entry.channel).into()),
        basis: basis.map(|basis| wire::proto_basis(basis).into()),
        source: Some(entry.said.source.clone()),
        text: entry.said.text.clone(),
        recorded_by: Some(entry.recorded_by.clone()),
        occurred_at: Some(field::timestamp(entry.occurred_at)),
        recorded_at: Some(field::timestamp(entry.recorded_at)),
    }
}
