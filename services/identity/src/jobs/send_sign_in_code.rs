//! Sends a code to whoever has the address that it was asked for with, if anybody has. It is here that known and unknown
//! addresses part, where nobody waits for an answer.
//! Deliberately absent: the code in the job. It follows from the challenge and a key.

use chrono::{DateTime, Utc};
use mainstay_jobs::queue::Priority;
use mainstay_jobs::{Handler, Job, JobError, NewJob};
use mainstay_proto::messaging::v1::notice_service_client::NoticeServiceClient;
use mainstay_proto::messaging::v1::{Channel, Purpose, SendNoticeRequest};
use mainstay_rpc::{Channels, ErrorReason, Problem, ServiceChannel};
use mainstay_types::{AgencyScope, ChallengeId, ServiceName, Visible};
use serde::{Deserialize, Serialize};

use crate::member::{self, Member, State};
use crate::{Identity, address, sign_in, wire};

/// The job's kind.
pub const KIND: &str = "send_sign_in_code";

/// How often it is tried: by then the code has expired.
const MOST_ATTEMPTS: u32 = 12;

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// What was asked for.
    pub challenge_id: ChallengeId,
}

/// The job for a challenge.
pub fn job(challenge: ChallengeId, now: DateTime<Utc>) -> NewJob {
    let payload = Payload {
        challenge_id: challenge,
    };
    NewJob::new(KIND, &payload, now)
        .priority(Priority::Urgent)
        .max_attempts(MOST_ATTEMPTS)
}

/// Runs the job.
#[derive(Clone)]
pub struct SendSignInCode {
    identity: Identity,
    notices: NoticeServiceClient<ServiceChannel>,
}

impl SendSignInCode {
    /// Through messaging.
    pub fn new(identity: Identity, channels: &Channels) -> Self {
        SendSignInCode {
            identity,
            notices: NoticeServiceClient::new(channels.channel(ServiceName::Messaging)),
        }
    }

    /// To whom, where and until when; none when there is nobody, or it is too late.
    async fn addressee(&self, id: ChallengeId) -> Result<Option<Addressee>, JobError> {
        let worker = self.identity.database.worker();
        let now = self.identity.clock.now();
        let mut tx = worker.tx().await?;
        let challenge = sign_in::sql::find(tx.conn(), id).await?;
        let Some(challenge) =
            challenge.filter(|found| found.used_at.is_none() && found.expires_at > now)
        else {
            return Ok(None);
        };
        let hash = &challenge.address_hash;
        let Some(reached) = address::sql::oldest(tx.conn(), hash, challenge.wanted).await? else {
            return Ok(None);
        };
        let said = sign_in::sql::send_for(tx.conn(), id, reached.agency, reached.member).await?;
        tx.commit().await?;
        // An earlier try said another: that membership has ended since, and so has the code.
        if said != Some((reached.agency, reached.member)) {
            return Ok(None);
        }
        let scope = AgencyScope {
            agency: reached.agency,
            visible: Visible::All,
        };
        let mut tx = worker.agency(&scope).await?;
        let member = member::sql::get(tx.conn(), reached.agency, reached.member).await?;
        tx.commit().await?;
        let member = member.filter(|member| member.state == State::Active);
        Ok(member.map(|member| Addressee {
            agency: scope,
            member,
            is_phone: reached.is_phone,
            expires_at: challenge.expires_at,
        }))
    }
}

/// Whom a code goes to.
struct Addressee {
    agency: AgencyScope,
    member: Member,
    is_phone: bool,
    expires_at: DateTime<Utc>,
}

#[tonic::async_trait]
impl Handler for SendSignInCode {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let Payload { challenge_id } = job.payload()?;
        let Some(to) = self.addressee(challenge_id).await? else {
            return Ok(());
        };
        let code = self.identity.sign_in.code(challenge_id);
        let (channel, address, subject) = match to.member.phone {
            Some(phone) if to.is_phone => (Channel::Sms, phone, None),
            _ => (
                Channel::Email,
                to.member.email,
                Some("Your code to sign in".to_owned()),
            ),
        };
        let notice = SendNoticeRequest {
            agency_id: to.agency.agency.to_string(),
            purpose: Some(Purpose::SecurityCode.into()),
            channel: Some(channel.into()),
            address: Some(address),
            subject,
            body: Some(format!(
                "{code} is your code to sign in. It is good for 10 minutes. Nobody of ours will ever ask you for it."
            )),
            once_key: Some(challenge_id.to_string()),
            expires_at: Some(wire::timestamp(to.expires_at)),
        };
        let sent = self.notices.clone().send_notice(notice).await;
        let problem = match sent {
            Ok(_) => return Ok(()),
            Err(status) => Problem::from_status(&status),
        };
        if problem.reason() == ErrorReason::NoSender {
            // A person has to look; trying again sends nothing either, and the code is soon of no use.
            tracing::error!(
                alert = "no_sender_for_codes",
                agency.id = %to.agency.agency,
                channel = channel.as_str_name(),
                "somebody cannot sign in: the agency has no sender that is for all its clients"
            );
            return Ok(());
        }
        Err(problem.into())
    }
}
