//! Fields that several slices read and write alike: addresses, channels, grounds, pages.
//! Deliberately absent: a command. Each slice makes its own from these.

pub(crate) use mainstay_jobs::failure::page as page_problem;
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::{Context, Violations};

use crate::address::Address;
use crate::gate::{Basis, Channel, Purpose};

/// Whether the actor may do this for the client of the call as well.
pub(crate) fn holds(ctx: &Context, permission: &str) -> bool {
    let client = ctx.tenant().client;
    let mut grants = ctx.grants().iter();
    grants.any(|grant| grant.holds(permission) && grant.reaches(client))
}

/// The address of a request; one that is missing or unreadable is noted as a fault.
pub(crate) fn address(given: Option<&str>, faults: &mut Violations) -> Option<Address> {
    let text = faults.required("address", given)?;
    faults.check("address", Address::parse(text))
}

/// The channel of a request, if it names one; one that does not exist is noted as a fault.
pub(crate) fn channel(field: &str, given: Option<i32>, faults: &mut Violations) -> Option<Channel> {
    match proto::Channel::try_from(given?) {
        Ok(proto::Channel::Sms) => Some(Channel::Sms),
        Ok(proto::Channel::Whatsapp) => Some(Channel::Whatsapp),
        Ok(proto::Channel::Email) => Some(Channel::Email),
        Ok(proto::Channel::Voice) => Some(Channel::Voice),
        Ok(proto::Channel::Unspecified) | Err(_) => {
            faults.add(field, "must be `sms`, `whatsapp`, `email` or `voice`");
            None
        }
    }
}

/// Notes a channel that cannot reach the address.
pub(crate) fn reaches(
    address: Option<&Address>,
    channel: Option<Channel>,
    faults: &mut Violations,
) {
    if let (Some(address), Some(channel)) = (address, channel)
        && !address.channels().contains(&channel)
    {
        faults.add("channel", "does not reach an address of this kind");
    }
}

/// The grounds of a request, if it names any; those that do not exist are noted as a fault.
pub(crate) fn basis(field: &str, given: Option<i32>, faults: &mut Violations) -> Option<Basis> {
    match proto::ConsentBasis::try_from(given?) {
        Ok(proto::ConsentBasis::Inquiry) => Some(Basis::Inquiry),
        Ok(proto::ConsentBasis::ExistingRelationship) => Some(Basis::ExistingRelationship),
        Ok(proto::ConsentBasis::Express) => Some(Basis::Express),
        Ok(proto::ConsentBasis::ExpressWritten) => Some(Basis::ExpressWritten),
        Ok(proto::ConsentBasis::Unspecified) | Err(_) => {
            faults.add(
                field,
                "must be `inquiry`, `existing_relationship`, `express` or `express_written`",
            );
            None
        }
    }
}

/// A channel as answers have it.
pub(crate) fn proto_channel(channel: Channel) -> proto::Channel {
    match channel {
        Channel::Sms => proto::Channel::Sms,
        Channel::Whatsapp => proto::Channel::Whatsapp,
        Channel::Email => proto::Channel::Email,
        Channel::Voice => proto::Channel::Voice,
    }
}

/// A purpose as answers have it.
pub(crate) const fn proto_purpose(purpose: Purpose) -> proto::Purpose {
    match purpose {
        Purpose::Marketing => proto::Purpose::Marketing,
        Purpose::Conversational => proto::Purpose::Conversational,
        Purpose::Transactional => proto::Purpose::Transactional,
        Purpose::SecurityCode => proto::Purpose::SecurityCode,
        Purpose::StaffNotice => proto::Purpose::StaffNotice,
        Purpose::KeywordReply => proto::Purpose::KeywordReply,
    }
}

/// Grounds as answers have them.
pub(crate) fn proto_basis(basis: Basis) -> proto::ConsentBasis {
    match basis {
        Basis::Inquiry => proto::ConsentBasis::Inquiry,
        Basis::ExistingRelationship => proto::ConsentBasis::ExistingRelationship,
        Basis::Express => proto::ConsentBasis::Express,
        Basis::ExpressWritten => proto::ConsentBasis::ExpressWritten,
    }
}
