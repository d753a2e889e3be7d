//! Who could take what: asked of identity, which has the one list of members (IDN-01).
//! Deliberately absent: a copy of that list.

use std::time::Duration;

use mainstay_proto::identity::v1 as proto;
use mainstay_proto::identity::v1::member_directory_service_client::MemberDirectoryServiceClient;
use mainstay_rpc::{Channels, Problem, ServiceChannel};
use mainstay_types::{AgencyId, ClientId, MemberId, ServiceName, Tenant};
use tonic::{Code, Request, Status};

use crate::ladder::Member;

/// What a member must be allowed to be called.
pub(crate) const WORK: &str = "escalation.escalations.work";
/// What a member must be allowed to hear of alerts.
const SEE_ALERTS: &str = "escalation.alerts.read";
/// How long identity may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Identity did not say.
#[derive(Debug, thiserror::Error)]
#[error("identity did not say who serves the client: {0}")]
pub struct Error(Status);

impl From<Error> for Problem {
    fn from(Error(status): Error) -> Problem {
        Problem::unavailable(Problem::from_status(&status))
    }
}

/// Asks identity.
#[derive(Debug, Clone)]
pub struct Members(MemberDirectoryServiceClient<ServiceChannel>);

impl Members {
    /// Through these channels.
    pub fn new(channels: &Channels) -> Self {
        Members(MemberDirectoryServiceClient::new(
            channels.channel(ServiceName::Identity),
        ))
    }

    /// What people call a member who is active and serves the client; none otherwise.
    pub(crate) async fn serving(
        &self,
        tenant: Tenant,
        member: MemberId,
    ) -> Result<Option<String>, Error> {
        let mut request = Request::new(proto::LookupMemberRequest {
            agency_id: tenant.agency.to_string(),
            client_id: tenant.client.to_string(),
            member_id: member.to_string(),
        });
        request.set_timeout(PATIENCE);
        match self.0.clone().lookup_member(request).await {
            Ok(answer) => Ok(Some(answer.into_inner().name)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(Error(status)),
        }
    }

    /// Everybody who is active, serves the client and may take escalations.
    pub(crate) async fn all(&self, tenant: Tenant) -> Result<Vec<Member>, Error> {
        self.list(tenant.agency, Some(tenant.client), WORK).await
    }

    /// Everybody who is active and may see an alert about a client, or about the agency.
    pub(crate) async fn seeing_alerts(
        &self,
        agency: AgencyId,
        client: Option<ClientId>,
    ) -> Result<Vec<Member>, Error> {
        self.list(agency, client, SEE_ALERTS).await
    }

    async fn list(
        &self,
        agency: AgencyId,
        client: Option<ClientId>,
        permission: &str,
    ) -> Result<Vec<Member>, Error> {
        let mut request = Request::new(proto::ListServingMembersRequest {
            agency_id: agency.to_string(),
            client_id: client.map(|client| client.to_string()),
            permission: permission.to_owned(),
        });
        request.set_timeout(PATIENCE);
        let answer = self.0.clone().list_serving_members(request).await;
        let members = answer.map_err(Error)?.into_inner().members;
        let member = |told: proto::ServingMember| {
            Some(Member {
                id: told.member_id.parse().ok()?,
                name: told.name,
                role: told.role,
                email: told.email,
                phone: told.phone,
            })
        };
        Ok(members.into_iter().filter_map(member).collect())
    }
}
