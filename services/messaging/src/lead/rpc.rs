//! `LeadService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs; only consent that comes with a new
//! lead takes a second permission, which is asked for here.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::messaging::v1::{self as proto, lead_service_server::LeadService};
use mainstay_rpc::{Context, Problem, Violations, field, open};
use mainstay_types::{LeadId, MemberId};
use tonic::{Request, Response, Status as Refusal};
use uuid::Uuid;

use super::fields::{self, Texts};
use super::{
    Edit, Engagement, Error, Filter, Industry, Source, Status, TaskPriority, edit, import, merge,
    rules, wishes,
};
use crate::consent::{self, Kind, Said};
use crate::gate::{Channel, Purpose};
use crate::sendability::{self, Question};
use crate::wire::{self, page_problem};
use crate::{Messaging, lead};

/// What recording consent takes.
const RECORD_CONSENT: &str = "messaging.consents.record";
/// How somebody said so, when the request does not tell.
const UNTOLD: &str = "api";

#[tonic::async_trait]
impl LeadService for Messaging {
    async fn create_lead(
        &self,
        request: Request<proto::CreateLeadRequest>,
    ) -> Result<Response<proto::Lead>, Refusal> {
        let (ctx, request) = open(request)?;
        let now = self.clock.now();
        let once = Once::for_client(&ctx, &request, now);
        if !request.consents.is_empty() && !wire::holds(&ctx, RECORD_CONSENT) {
            return Err(Error::Denied(RECORD_CONSENT).into());
        }
        let mut faults = Violations::new();
        let texts = Texts {
            external_id: request.external_id,
            name: request.name,
            phone: request.phone,
            email: request.email,
            whatsapp: request.whatsapp,
            time_zone: request.time_zone,
            state: request.state,
            tags: request.tags.map(|tags| tags.values),
            custom_fields: request.custom_fields,
        };
        let no_address = texts.phone.is_none() && texts.email.is_none() && texts.whatsapp.is_none();
        if no_address {
            faults.add("phone", fields::NO_ADDRESS);
        }
        let wanted = Edit {
            industry: Industry::given(request.industry),
            owner: member(request.owner_member_id.as_deref(), &mut faults),
            engagement: Engagement::given(request.engagement),
            task_priority: TaskPriority::given(request.task_priority),
            ..fields::edit(texts, &mut faults)
        };
        let given = fields::given(request.consents, &wanted, now, &mut faults);
        faults.finish()?;
        let source = Source::given(request.source).unwrap_or(Source::Api);
        let made = edit::create(self, &ctx, &once, (source, wanted, given)).await?;
        Ok(Response::new(made))
    }

    async fn get_lead(
        &self,
        request: Request<proto::GetLeadRequest>,
    ) -> Result<Response<proto::Lead>, Refusal> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let found = lead::get(self, tenant, id(&request.lead_id)?).await?;
        Ok(Response::new(fields::answer(tenant.client, &found)))
    }

    async fn list_leads(
        &self,
        request: Request<proto::ListLeadsRequest>,
    ) -> Result<Response<proto::ListLeadsResponse>, Refusal> {
        let (ctx, request) = open(request)?;
        let mut faults = Violations::new();
        let since = request.updated_since.as_ref();
        let filter = Filter {
            status: Status::given(request.status),
            tag: request.tag.as_deref().map(fields::tag),
            source: Source::given(request.source),
            owner: member(request.owner_member_id.as_deref(), &mut faults),
            updated_since: field::time_given("updated_since", since, &mut faults),
            text: request.q.as_deref().map(fields::tag),
        };
        faults.finish()?;
        let page: PageRequest<Uuid> = PageRequest::new(
            "messaging.leads",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let tenant = ctx.tenant();
        let page = lead::list(self, tenant, &filter, page).await?;
        let data = page.rows.iter();
        Ok(Response::new(proto::ListLeadsResponse {
            data: data
                .map(|lead| fields::answer(tenant.client, lead))
                .collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_lead(
        &self,
        request: Request<proto::UpdateLeadRequest>,
    ) -> Result<Response<proto::Lead>, Refusal> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let id = id(&request.lead_id)?;
        let mut faults = Violations::new();
        let texts = Texts {
            external_id: request.external_id,
            name: request.name,
            phone: request.phone,
            email: request.email,
            whatsapp: request.whatsapp,
            time_zone: request.time_zone,
            state: request.state,
            tags: request.tags.map(|tags| tags.values),
            custom_fields: request.custom_fields,
        };
        let wanted = Edit {
            industry: Industry::given(request.industry),
            owner: member(request.owner_member_id.as_deref(), &mut faults),
            engagement: Engagement::given(request.engagement),
            task_priority: TaskPriority::given(request.task_priority),
            ..fields::edit(texts, &mut faults)
        };
        faults.finish()?;
        let what = (wanted, request.etag.as_deref());
        let edited = edit::update(self, &ctx, &once, id, what).await?;
        Ok(Response::new(edited))
    }

    async fn set_lead_status(
        &self,
        request: Request<proto::SetLeadStatusRequest>,
    ) -> Result<Response<proto::Lead>, Refusal> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let id = id(&request.lead_id)?;
        let mut faults = Violations::new();
        let status = faults.required("status", Status::given(request.status));
        let Some(status) = status else {
            return Err(invalid(faults).into());
        };
        let what = (status, request.reopen, request.etag.as_deref());
        let moved = edit::set_status(self, &ctx, &once, id, what).await?;
        Ok(Response::new(moved))
    }

    async fn opt_out_lead(
        &self,
        request: Request<proto::OptOutLeadRequest>,
    ) -> Result<Response<proto::LeadConsent>, Refusal> {
        let (ctx, request) = open(request)?;
        let said = said(request.source, request.text);
        self.wished(&ctx, &request.lead_id, (Kind::OptOut, said))
            .await
    }

    async fn opt_in_lead(
        &self,
        request: Request<proto::OptInLeadRequest>,
    ) -> Result<Response<proto::LeadConsent>, Refusal> {
        let (ctx, request) = open(request)?;
        let said = said(request.source, request.text);
        self.wished(&ctx, &request.lead_id, (Kind::OptIn, said))
            .await
    }

    async fn check_lead_sendability(
        &self,
        request: Request<proto::CheckLeadSendabilityRequest>,
    ) -> Result<Response<proto::Sendability>, Refusal> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = id(&request.lead_id)?;
        let mut faults = Violations::new();
        let channel = wire::channel("channel", request.channel, &mut faults);
        let channel = channel.unwrap_or(Channel::Sms);
        let at = sendability::time(request.at.as_ref(), self.clock.now(), &mut faults);
        faults.finish()?;
        let found = lead::get(self, tenant, id).await?;
        let found = match found.merged_into {
            None => found,
            Some(into) => lead::get(self, tenant, into).await?,
        };
        let address = rules::reached(&found.identities, channel).cloned();
        let question = Question {
            address: address.ok_or(Error::Unreachable)?,
            channel,
            purpose: sendability::purpose(request.purpose).unwrap_or(Purpose::Marketing),
            zone: lead::zone(&found),
            state: found.state,
            at,
        };
        let explanation = sendability::explain(self, tenant, &question).await;
        Ok(Response::new(sendability::answer(&question, explanation)))
    }

    async fn merge_lead(
        &self,
        request: Request<proto::MergeLeadRequest>,
    ) -> Result<Response<proto::Lead>, Refusal> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let from = id(&request.lead_id)?;
        let into = request.into_lead_id.as_deref().unwrap_or_default();
        let into: LeadId = field::id("into_lead_id", into)?;
        let merged = merge::merge(self, &ctx, &once, (from, into)).await?;
        Ok(Response::new(merged))
    }

    async fn import_leads(
        &self,
        request: Request<proto::ImportLeadsRequest>,
    ) -> Result<Response<proto::ImportLeadsResponse>, Refusal> {
        let (ctx, request) = open(request)?;
        let mut faults = Violations::new();
        let owner = member(request.owner_member_id.as_deref(), &mut faults);
        faults.finish()?;
        let rows = request.rows.into_iter().map(fields::row).collect();
        let imported = import::import(self, &ctx, rows, owner).await?;
        Ok(Response::new(fields::report(&imported)))
    }
}

impl Messaging {
    async fn wished(
        &self,
        ctx: &Context,
        lead_id: &str,
        what: (Kind, Said),
    ) -> Result<Response<proto::LeadConsent>, Refusal> {
        let client = ctx.tenant().client;
        let (lead, contacts) = wishes::change(self, ctx, id(lead_id)?, what).await?;
        let contacts = contacts.iter();
        Ok(Response::new(proto::LeadConsent {
            lead_id: Some(lead.id.to_string()),
            contacts: contacts
                .map(|contact| consent::answer(client, contact))
                .collect(),
        }))
    }
}

fn id(text: &str) -> Result<LeadId, Problem> {
    field::id("lead_id", text)
}

fn member(given: Option<&str>, faults: &mut Violations) -> Option<MemberId> {
    faults.check("owner_member_id", MemberId::parse(given?))
}

fn invalid(faults: Violations) -> Problem {
    faults
        .finish()
        .err()
        .unwrap_or_else(|| Problem::invalid(Vec::new()))
}

fn said(source: Option<String>, text: Option<String>) -> Said {
    Said {
        source: source.unwrap_or_else(|| UNTOLD.to_owned()),
        text: text.filter(|text| !text.is_empty()),
    }
}
