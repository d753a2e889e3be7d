//! `AppointmentService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::messaging::v1::{
    self as proto, appointment_service_server::AppointmentService,
};
use mainstay_rpc::{Problem, Violations, field, open};
use mainstay_types::ClientId;
use mainstay_types::format::parse_time_zone;
use tonic::{Request, Response, Status as Refused};

use super::{Appointment, Edit, Filter, New, State, etag};
use crate::Messaging;
use crate::wire::page_problem;

#[tonic::async_trait]
impl AppointmentService for Messaging {
    async fn create_appointment(
        &self,
        request: Request<proto::CreateAppointmentRequest>,
    ) -> Result<Response<proto::Appointment>, Refused> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let mut faults = Violations::new();
        let lead = faults.required("lead_id", request.lead_id.as_deref());
        let title = faults.required("title", request.title);
        let starts_at = field::time_given("starts_at", request.starts_at.as_ref(), &mut faults);
        let zone = request.time_zone.as_deref().and_then(parse_time_zone);
        if starts_at.is_none() {
            faults.add("starts_at", "is needed");
        }
        if zone.is_none() {
            faults.add("time_zone", "must be an IANA time zone");
        }
        faults.finish()?;
        let missing = || Problem::not_found("appointment");
        let new = New {
            lead: field::id("lead_id", lead.unwrap_or_default())?,
            title: title.unwrap_or_default(),
            location: request.location,
            starts_at: starts_at.ok_or_else(missing)?,
            time_zone: zone.ok_or_else(missing)?,
        };
        let answer = |made: &Appointment| whole(ctx.tenant().client, made);
        let made = super::create(self, &ctx, new, &once, answer).await?;
        Ok(Response::new(made))
    }

    async fn get_appointment(
        &self,
        request: Request<proto::GetAppointmentRequest>,
    ) -> Result<Response<proto::Appointment>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = field::id("appointment_id", &request.appointment_id)?;
        let found = super::get(self, tenant, id).await?;
        Ok(Response::new(whole(tenant.client, &found)))
    }

    async fn list_appointments(
        &self,
        request: Request<proto::ListAppointmentsRequest>,
    ) -> Result<Response<proto::ListAppointmentsResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let lead = request.lead_id.as_deref();
        let filter = Filter {
            lead: lead.map(|id| field::id("lead_id", id)).transpose()?,
            state: request.state.and_then(state),
        };
        let page = PageRequest::new(
            "messaging.appointments",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::list(self, tenant, filter, page).await?;
        let data = page.rows.iter().map(|row| whole(tenant.client, row));
        Ok(Response::new(proto::ListAppointmentsResponse {
            data: data.collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_appointment(
        &self,
        request: Request<proto::UpdateAppointmentRequest>,
    ) -> Result<Response<proto::Appointment>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("appointment_id", &request.appointment_id)?;
        let mut faults = Violations::new();
        let starts_at = field::time_given("starts_at", request.starts_at.as_ref(), &mut faults);
        faults.finish()?;
        let edit = Edit {
            title: request.title,
            location: request.location,
            starts_at,
            time_zone: request.time_zone.as_deref().and_then(parse_time_zone),
        };
        let after = super::update(self, &ctx, id, edit, request.etag).await?;
        Ok(Response::new(whole(ctx.tenant().client, &after)))
    }

    async fn cancel_appointment(
        &self,
        request: Request<proto::CancelAppointmentRequest>,
    ) -> Result<Response<proto::Appointment>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("appointment_id", &request.appointment_id)?;
        let after = super::end(self, &ctx, id, State::Canceled).await?;
        Ok(Response::new(whole(ctx.tenant().client, &after)))
    }

    async fn end_appointment(
        &self,
        request: Request<proto::EndAppointmentRequest>,
    ) -> Result<Response<proto::Appointment>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("appointment_id", &request.appointment_id)?;
        let mut faults = Violations::new();
        let ended = request
            .state
            .and_then(state)
            .filter(|state| matches!(state, State::Kept | State::NoShow));
        if ended.is_none() {
            faults.add("state", "must be `kept` or `no_show`");
        }
        faults.finish()?;
        let ended = ended.unwrap_or(State::Kept);
        let after = super::end(self, &ctx, id, ended).await?;
        Ok(Response::new(whole(ctx.tenant().client, &after)))
    }
}

fn state(given: i32) -> Option<State> {
    match proto::AppointmentState::try_from(given) {
        Ok(proto::AppointmentState::Booked) => Some(State::Booked),
        Ok(proto::AppointmentState::Canceled) => Some(State::Canceled),
        Ok(proto::AppointmentState::Kept) => Some(State::Kept),
        Ok(proto::AppointmentState::NoShow) => Some(State::NoShow),
        Ok(proto::AppointmentState::Unspecified) | Err(_) => None,
    }
}

fn whole(client: ClientId, appointment: &Appointment) -> proto::Appointment {
    let state = match appointment.state {
        State::Booked => proto::AppointmentState::Booked,
        State::Canceled => proto::AppointmentState::Canceled,
        State::Kept => proto::AppointmentState::Kept,
        State::NoShow => proto::AppointmentState::NoShow,
    };
    proto::Appointment {
        id: Some(appointment.id.to_string()),
        client_id: Some(client.to_string()),
        lead_id: Some(appointment.lead.to_string()),
        title: Some(appointment.title.clone()),
        location: appointment.location.clone(),
        starts_at: Some(field::timestamp(appointment.starts_at)),
        time_zone: Some(appointment.time_zone.name().to_owned()),
        state: Some(state.into()),
        etag: Some(etag(appointment.revision)),
        created_at: Some(field::timestamp(appointment.created_at)),
    }
}
