//! `NoticeService`, from the services that write to staff: protobuf to a notice, and how its message stands back.
//! Deliberately absent: logging what is said.

use mainstay_jobs::record::By;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::notice_service_server::NoticeService;
use mainstay_rpc::{Context, Problem, Violations, field, open};
use tonic::{Request, Response, Status};

use super::Notice;
use crate::Messaging;
use crate::gate::{Channel, Purpose};
use crate::message;
use crate::wire;

#[tonic::async_trait]
impl NoticeService for Messaging {
    async fn send_notice(
        &self,
        request: Request<proto::SendNoticeRequest>,
    ) -> Result<Response<proto::SendNoticeResponse>, Status> {
        let (ctx, request) = open(request)?;
        let notice = notice(&ctx, request)?;
        let by = By::service(&ctx, notice.agency, self.clock.now());
        let (id, status) = super::take(self, &by, notice)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(proto::SendNoticeResponse {
            message_id: id.to_string(),
            status: message::proto_status(status).into(),
        }))
    }
}

fn notice(ctx: &Context, request: proto::SendNoticeRequest) -> Result<Notice, Problem> {
    let agency = field::id("agency_id", &request.agency_id)?;
    let agency = ctx.service_agency(agency)?.agency;
    let mut faults = Violations::new();
    let purpose = match request.purpose.map(proto::Purpose::try_from) {
        Some(Ok(proto::Purpose::SecurityCode)) => Some(Purpose::SecurityCode),
        Some(Ok(proto::Purpose::StaffNotice)) => Some(Purpose::StaffNotice),
        _ => {
            faults.add("purpose", "must be `security_code` or `staff_notice`");
            None
        }
    };
    let channel = wire::channel("channel", request.channel, &mut faults);
    let channel = faults.required("channel", channel);
    let address = wire::address(request.address.as_deref(), &mut faults);
    wire::reaches(address.as_ref(), channel, &mut faults);
    match (channel, request.subject.as_deref()) {
        (Some(Channel::Whatsapp | Channel::Voice), _) => {
            faults.add("channel", "must be `sms` or `email`");
        }
        (Some(Channel::Email), None) => faults.add("subject", "is required for mail"),
        (Some(Channel::Sms), Some(_)) => faults.add("subject", "a text message has none"),
        (_, Some(subject)) if subject.chars().any(char::is_control) => {
            faults.add("subject", "must be one line");
        }
        _ => {}
    }
    let body = faults.required("body", request.body);
    let once_key = faults.required("once_key", request.once_key);
    let expires_at = field::time_given("expires_at", request.expires_at.as_ref(), &mut faults);
    faults.finish()?;
    match (purpose, channel, address, body, once_key) {
        (Some(purpose), Some(channel), Some(address), Some(body), Some(once_key)) => Ok(Notice {
            agency,
            purpose,
            channel,
            address,
            subject: request.subject,
            body,
            // What one service calls its own is no other's.
            once_key: format!("notice:{}:{once_key}", ctx.caller),
            expires_at,
        }),
        _ => Err(Problem::invalid(Vec::new())),
    }
}
