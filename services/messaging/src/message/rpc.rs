//! `MessageService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_jobs::once::Once;
use mainstay_proto::messaging::v1::{self as proto, message_service_server::MessageService};
use mainstay_rpc::{Problem, Violations, field, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status as Refused};

use super::rules::Status;
use super::{Entry, Granted, Message, Text, Told, Wanted};
use crate::Messaging;
use crate::fallback::Fallback;
use crate::gate::{Channel, Purpose};
use crate::wire;

#[tonic::async_trait]
impl MessageService for Messaging {
    async fn create_message(
        &self,
        request: Request<proto::CreateMessageRequest>,
    ) -> Result<Response<proto::Message>, Refused> {
        let (ctx, request) = open(request)?;
        let (tenant, now) = (ctx.tenant(), self.clock.now());
        let once = Once::for_client(&ctx, &request, now);
        let wanted = wanted(request, now)?;
        let answer = |told: &Told| answer(tenant.client, &told.message);
        let created = super::create(self, &ctx, tenant, wanted, &once, answer);
        Ok(Response::new(created.await?))
    }

    async fn get_message(
        &self,
        request: Request<proto::GetMessageRequest>,
    ) -> Result<Response<proto::Message>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = field::id("message_id", &request.message_id)?;
        let told = super::get(self, tenant, id).await?;
        Ok(Response::new(whole(tenant.client, &told)))
    }

    async fn cancel_message(
        &self,
        request: Request<proto::CancelMessageRequest>,
    ) -> Result<Response<proto::Message>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = field::id("message_id", &request.message_id)?;
        let told = super::cancel(self, &ctx, tenant, id).await?;
        Ok(Response::new(whole(tenant.client, &told)))
    }
}

fn wanted(
    request: proto::CreateMessageRequest,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Wanted, Problem> {
    let mut faults = Violations::new();
    let lead = faults.required("lead_id", request.lead_id.as_deref());
    let lead = lead.map(|id| field::id("lead_id", id)).transpose()?;
    let channel = wire::channel("channel", request.channel, &mut faults);
    let channel = faults.required("channel", channel);
    if matches!(channel, Some(Channel::Whatsapp | Channel::Voice)) {
        faults.add(
            "channel",
            "must be `sms` or `email`: nothing is sent on the others yet",
        );
    }
    let purpose = match request.purpose.map(proto::Purpose::try_from) {
        None => Purpose::Conversational,
        Some(Ok(proto::Purpose::Marketing)) => Purpose::Marketing,
        Some(Ok(proto::Purpose::Conversational)) => Purpose::Conversational,
        Some(Ok(proto::Purpose::Transactional)) => Purpose::Transactional,
        // The platform's own, which bind fewer rules: nobody outside says so of a message.
        Some(_) => {
            faults.add(
                "purpose",
                "must be `conversational`, `transactional` or `marketing`",
            );
            Purpose::Conversational
        }
    };
    let text = match (request.body, request.template) {
        (Some(body), None) => {
            if body.trim().is_empty() {
                faults.add("body", "must say something");
            }
            Text::Written(body)
        }
        (None, Some(shortcut)) => Text::Canned(shortcut),
        (Some(body), Some(_)) => {
            faults.add("template", "cannot stand beside body");
            Text::Written(body)
        }
        (None, None) => {
            faults.add("body", "is required, unless there is a template");
            Text::Written(String::new())
        }
    };
    let subject = request.subject.filter(|text| !text.trim().is_empty());
    match (channel, &subject) {
        (Some(Channel::Email), None) => faults.add("subject", "is required for mail"),
        (Some(Channel::Sms), Some(_)) => faults.add("subject", "a text message has none"),
        _ => {}
    }
    if subject
        .as_deref()
        .is_some_and(|text| text.chars().any(char::is_control))
    {
        faults.add("subject", "must be one line");
    }
    let fallback = request
        .fallback
        .and_then(|given| fallback(given, channel, &mut faults));
    let send_at = field::time_given("send_at", request.send_at.as_ref(), &mut faults);
    let expires_at = field::time_given("expires_at", request.expires_at.as_ref(), &mut faults);
    if send_at.is_some_and(|at| at > now + chrono::TimeDelta::days(366)) {
        faults.add("send_at", "must be within a year");
    }
    if expires_at.is_some_and(|at| at <= send_at.unwrap_or(now).max(now)) {
        faults.add(
            "expires_at",
            "must be after the time at which it is to leave",
        );
    }
    faults.finish()?;
    match (lead, channel) {
        (Some(lead), Some(channel)) => Ok(Wanted {
            lead,
            channel,
            purpose,
            subject,
            text,
            send_at,
            expires_at,
            fallback,
        }),
        _ => Err(Problem::invalid(Vec::new())),
    }
}

/// Another channel than the message's own, with a subject if that is mail.
fn fallback(
    given: proto::WantedFallback,
    own: Option<Channel>,
    faults: &mut Violations,
) -> Option<Fallback> {
    let channel = wire::channel("fallback.channel", given.channel, faults);
    let channel = faults.required("fallback.channel", channel)?;
    if Some(channel) == own || !matches!(channel, Channel::Sms | Channel::Email) {
        faults.add(
            "fallback.channel",
            "must be `sms` or `email`, and another than the message's own",
        );
    }
    let one_line = |text: &str| !text.trim().is_empty() && !text.chars().any(char::is_control);
    match (channel, given.subject.as_deref()) {
        (Channel::Email, Some(subject)) if one_line(subject) => {}
        (Channel::Email, _) => faults.add("fallback.subject", "is required for mail, as one line"),
        (_, Some(_)) => faults.add("fallback.subject", "a text message has none"),
        (_, None) => {}
    }
    Some(Fallback {
        channel,
        subject: given.subject,
        instead: None,
        reason: None,
    })
}

/// A message alone, as lists have it.
pub(crate) fn answer(client: ClientId, message: &Message) -> proto::Message {
    let direction = match message.inbound {
        true => proto::MessageDirection::Inbound,
        false => proto::MessageDirection::Outbound,
    };
    proto::Message {
        id: Some(message.id.to_string()),
        client_id: Some(client.to_string()),
        conversation_id: Some(message.conversation.to_string()),
        lead_id: Some(message.lead.to_string()),
        direction: Some(direction.into()),
        channel: Some(wire::proto_channel(message.channel).into()),
        sender: Some(message.sender.clone()),
        address: Some(message.address.clone()),
        purpose: message.purpose.map(|what| wire::proto_purpose(what).into()),
        caused_by: Some(message.caused_by.clone()),
        subject: message.subject.clone(),
        body: Some(message.body.clone()),
        status: Some(status(message.status).into()),
        error_code: message.error_code.clone(),
        error: message.error.clone(),
        send_at: message.send_at.map(field::timestamp),
        expires_at: message.expires_at.map(field::timestamp),
        attempts: Some(message.attempts),
        provider: message.provider.clone(),
        provider_id: message.provider_id.clone(),
        sent_at: message.sent_at.map(field::timestamp),
        delivered_at: message.delivered_at.map(field::timestamp),
        created_at: Some(field::timestamp(message.created_at)),
        history: Vec::new(),
        permits: Vec::new(),
        fallback: None,
    }
}

fn whole(client: ClientId, told: &Told) -> proto::Message {
    proto::Message {
        history: told.history.iter().map(entry).collect(),
        permits: told.permits.iter().map(permit).collect(),
        fallback: told.fallback.as_ref().map(|found| proto::MessageFallback {
            channel: Some(wire::proto_channel(found.channel).into()),
            subject: found.subject.clone(),
            message_id: found.instead.map(|id| id.to_string()),
            reason: found.reason.clone(),
        }),
        ..answer(client, &told.message)
    }
}

fn entry(entry: &Entry) -> proto::MessageEvent {
    proto::MessageEvent {
        status: Some(status(entry.status).into()),
        detail: entry.detail.clone(),
        at: Some(field::timestamp(entry.at)),
    }
}

fn permit(granted: &Granted) -> proto::SendPermit {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let checks = granted.evidence.as_array().into_iter().flatten();
    proto::SendPermit {
        attempt: Some(granted.attempt),
        rule_version: Some(granted.rule_version),
        checks: checks
            .map(|found| proto::SendCheck {
                rule: text(&found["rule"]),
                passed: Some(true),
                reason: None,
                found: text(&found["found"]),
                retry_at: None,
            })
            .collect(),
        decided_at: Some(field::timestamp(granted.decided_at)),
    }
}

pub(crate) fn status(status: Status) -> proto::MessageStatus {
    match status {
        Status::Received => proto::MessageStatus::Received,
        Status::Scheduled => proto::MessageStatus::Scheduled,
        Status::Queued => proto::MessageStatus::Queued,
        Status::Sending => proto::MessageStatus::Sending,
        Status::Ambiguous => proto::MessageStatus::Ambiguous,
        Status::Sent => proto::MessageStatus::Sent,
        Status::Delivered => proto::MessageStatus::Delivered,
        Status::Read => proto::MessageStatus::Read,
        Status::Undelivered => proto::MessageStatus::Undelivered,
        Status::Failed => proto::MessageStatus::Failed,
        Status::Canceled => proto::MessageStatus::Canceled,
        Status::Blocked => proto::MessageStatus::Blocked,
        Status::Expired => proto::MessageStatus::Expired,
    }
}
