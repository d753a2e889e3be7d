//! The one way out: whatever escalation says to people is a notice of messaging's, from the agency's house.
//! Deliberately absent: trying again. Whoever has something to say keeps it as a row, and says it under the same key.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::{ErrorReason, Problem, field};
use mainstay_types::{AgencyId, MessageId};
use tonic::Request;

use crate::Escalating;
use crate::ladder::Channel;

/// How long messaging may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be said to somebody.
pub(crate) struct Letter<'a> {
    /// Whose staff.
    pub agency: AgencyId,
    /// How.
    pub channel: Channel,
    /// Where.
    pub address: &'a str,
    /// Of mail.
    pub subject: String,
    /// Of mail and texts alike.
    pub body: String,
    /// What there can be only one of.
    pub once_key: String,
    /// After this it does not leave any more.
    pub expires_at: DateTime<Utc>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Messaging has it, now or from before.
    Taken(MessageId),
    /// It cannot be said there.
    Never(Problem),
    /// It cannot be said now.
    NotNow(Problem),
}

/// Says it, once for its key.
pub(crate) async fn send(escalating: &Escalating, letter: Letter<'_>) -> Sent {
    let mut request = Request::new(proto::SendNoticeRequest {
        agency_id: letter.agency.to_string(),
        purpose: Some(proto::Purpose::StaffNotice.into()),
        channel: Some(match letter.channel {
            Channel::Sms => proto::Channel::Sms.into(),
            Channel::Email => proto::Channel::Email.into(),
        }),
        address: Some(letter.address.to_owned()),
        subject: (letter.channel == Channel::Email).then_some(letter.subject),
        body: Some(letter.body),
        once_key: Some(letter.once_key),
        expires_at: Some(field::timestamp(letter.expires_at)),
    });
    request.set_timeout(PATIENCE);
    let problem = match escalating.notices.clone().send_notice(request).await {
        Ok(answer) => match answer.into_inner().message_id.parse() {
            Ok(message) => return Sent::Taken(message),
            Err(_) => return Sent::NotNow(Problem::internal("messaging named no message")),
        },
        Err(status) => Problem::from_status(&status),
    };
    match problem.reason() {
        ErrorReason::BlockedByConsent
        | ErrorReason::LeadUnreachable
        | ErrorReason::NoSender
        | ErrorReason::InvalidRequest => Sent::Never(problem),
        _ => Sent::NotNow(problem),
    }
}
