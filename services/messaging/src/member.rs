//! Members of the agency, as identity knows them: whether one may be given something of a client's to look after.
//! Deliberately absent: a copy. Who serves a client is asked when somebody is named.

use mainstay_proto::identity::v1::LookupMemberRequest;
use mainstay_types::{MemberId, Tenant};
use tonic::{Code, Status};

use crate::Messaging;

/// What is said of one who does not.
pub(crate) const NOT_SERVING: &str = "is no active member who serves this client";

/// Whether the agency has this member, active, in a role that reaches the client. Asked before a transaction, not within.
///
/// # Errors
/// Identity's, when it cannot say.
pub(crate) async fn serves(
    messaging: &Messaging,
    tenant: Tenant,
    member: MemberId,
) -> Result<bool, Status> {
    let question = LookupMemberRequest {
        agency_id: tenant.agency.to_string(),
        client_id: tenant.client.to_string(),
        member_id: member.to_string(),
    };
    match messaging.members.clone().lookup_member(question).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(status),
    }
}
