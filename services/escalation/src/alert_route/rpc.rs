//! `AlertRouteService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::failure;
use mainstay_jobs::once::Once;
use mainstay_proto::escalation::v1::{
    self as proto, AlertChannel, alert_route_service_server::AlertRouteService,
};
use mainstay_rpc::{Problem, Violations, field, open};
use mainstay_types::{AlertRouteId, ClientId, MemberId};
use tonic::{Request, Response, Status};

use super::{AlertRoute, Edit, To, etag};
use crate::Escalating;
use crate::alert::{Kind, Severity};
use crate::ladder::Channel;

#[tonic::async_trait]
impl AlertRouteService for Escalating {
    async fn create_alert_route(
        &self,
        request: Request<proto::CreateAlertRouteRequest>,
    ) -> Result<Response<proto::AlertRoute>, Status> {
        let (ctx, request) = open(request)?;
        let now = self.clock.now();
        let once = Once::for_agency(&ctx, &request, now);
        let client = client(request.client_id.as_deref())?;
        let mut faults = Violations::new();
        let name = faults.required("name", request.name);
        let channel = faults.required("channel", channel(request.channel));
        let to = to(request.member_ids, request.address, &mut faults);
        if to.is_none() && faults.is_empty() {
            faults.add("member_ids", "or `address` must say who is told");
        }
        faults.finish()?;
        let (Some(name), Some(channel), Some(to)) = (name, channel, to) else {
            return Err(Problem::invalid(Vec::new()).into());
        };
        let route = AlertRoute {
            id: AlertRouteId::generate(),
            name,
            kinds: request.kinds.map(kinds).unwrap_or_default(),
            least_severity: Severity::given(request.least_severity).unwrap_or(Severity::Warning),
            client,
            channel,
            to,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        Ok(Response::new(
            super::create(self, &ctx, route, &once).await?,
        ))
    }

    async fn list_alert_routes(
        &self,
        request: Request<proto::ListAlertRoutesRequest>,
    ) -> Result<Response<proto::ListAlertRoutesResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::new(
            "escalation.alert_routes",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(failure::page)?;
        let page = super::list(self, &ctx.agency_scope(), page).await?;
        Ok(Response::new(proto::ListAlertRoutesResponse {
            data: page.rows.iter().map(whole).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_alert_route(
        &self,
        request: Request<proto::GetAlertRouteRequest>,
    ) -> Result<Response<proto::AlertRoute>, Status> {
        let (ctx, request) = open(request)?;
        let id = field::id("alert_route_id", &request.alert_route_id)?;
        let found = super::get(self, &ctx.agency_scope(), id).await?;
        Ok(Response::new(whole(&found)))
    }

    async fn update_alert_route(
        &self,
        request: Request<proto::UpdateAlertRouteRequest>,
    ) -> Result<Response<proto::AlertRoute>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let id = field::id("alert_route_id", &request.alert_route_id)?;
        let mut faults = Violations::new();
        let client = match (client(request.client_id.as_deref())?, request.any_client) {
            (Some(_), Some(true)) => {
                faults.add("any_client", "cannot be true beside `client_id`");
                None
            }
            (Some(client), _) => Some(Some(client)),
            (None, Some(true)) => Some(None),
            (None, _) => None,
        };
        let to = to(request.member_ids, request.address, &mut faults);
        faults.finish()?;
        let edit = Edit {
            name: request.name,
            kinds: request.kinds.map(kinds),
            least_severity: Severity::given(request.least_severity),
            client,
            channel: channel(request.channel),
            to,
        };
        let wanted = request.etag.as_deref();
        let route = super::update(self, &ctx, id, edit, wanted, &once).await?;
        Ok(Response::new(route))
    }

    async fn delete_alert_route(
        &self,
        request: Request<proto::DeleteAlertRouteRequest>,
    ) -> Result<Response<proto::DeleteAlertRouteResponse>, Status> {
        let (ctx, request) = open(request)?;
        let id = field::id("alert_route_id", &request.alert_route_id)?;
        super::delete(self, &ctx, id).await?;
        Ok(Response::new(proto::DeleteAlertRouteResponse {}))
    }
}

fn client(text: Option<&str>) -> Result<Option<ClientId>, Problem> {
    text.map(|text| field::id("client_id", text)).transpose()
}

fn channel(number: Option<i32>) -> Option<Channel> {
    match AlertChannel::try_from(number?) {
        Ok(AlertChannel::Email) => Some(Channel::Email),
        Ok(AlertChannel::Sms) => Some(Channel::Sms),
        Ok(AlertChannel::Unspecified) | Err(_) => None,
    }
}

fn kinds(given: proto::AlertKinds) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in given
        .values
        .into_iter()
        .filter_map(|number| Kind::given(Some(number)))
    {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// Whom, if it says so.
fn to(
    members: Option<proto::AlertMembers>,
    address: Option<String>,
    faults: &mut Violations,
) -> Option<To> {
    match (members, address) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            faults.add("address", "cannot be given beside `member_ids`");
            None
        }
        (None, Some(address)) => Some(To::Address(address)),
        (Some(given), None) => {
            let mut members = Vec::new();
            for (at, text) in given.values.iter().enumerate() {
                let id = faults.check(&format!("member_ids[{at}]"), MemberId::parse(text));
                members.extend(id.filter(|id| !members.contains(id)));
            }
            if given.values.is_empty() {
                faults.add("member_ids", "must name somebody");
            }
            Some(To::Members(members))
        }
    }
}

pub(super) fn whole(route: &AlertRoute) -> proto::AlertRoute {
    let (members, address) = match &route.to {
        To::Members(members) => {
            let values = members.iter().map(ToString::to_string).collect();
            (Some(proto::AlertMembers { values }), None)
        }
        To::Address(address) => (None, Some(address.clone())),
    };
    let channel = match route.channel {
        Channel::Email => AlertChannel::Email,
        Channel::Sms => AlertChannel::Sms,
    };
    let kinds = (!route.kinds.is_empty()).then(|| proto::AlertKinds {
        values: route.kinds.iter().map(|kind| kind.answer()).collect(),
    });
    proto::AlertRoute {
        id: Some(route.id.to_string()),
        name: Some(route.name.clone()),
        kinds,
        least_severity: Some(route.least_severity.answer()),
        client_id: route.client.map(|client| client.to_string()),
        channel: Some(channel.into()),
        member_ids: members,
        address,
        created_at: Some(field::timestamp(route.created_at)),
        updated_at: Some(field::timestamp(route.updated_at)),
        etag: Some(etag(route)),
    }
}
