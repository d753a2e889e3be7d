//! Decisions about leads. Pure.
//! Deliberately absent: "do not contact" as a status. Whether somebody may be written to is the gate's to say, however far
//! they have come.

use mainstay_types::{LeadId, MemberId};
use serde_json::{Map, Value};

use super::{Edit, Engagement, Identity, IdentityKind, Lead, Status};
use crate::address::Address;
use crate::gate::Channel;

/// Most addresses of a lead.
pub const MOST_IDENTITIES: usize = 20;
/// Most tags of a lead.
pub const MOST_TAGS: usize = 50;
/// Most custom fields of a lead.
pub const MOST_CUSTOM_FIELDS: usize = 50;

/// How far a status is. The two ends are equally far, so that neither is on the way to the other.
const fn rank(status: Status) -> u8 {
    match status {
        Status::New => 0,
        Status::Contacted => 1,
        Status::Engaged => 2,
        Status::Qualified => 3,
        Status::Booked => 4,
        Status::Won | Status::Lost => 5,
    }
}

/// The only way by which an automation, a distribution, an import or a merge moves a lead: where it stands after it, when
/// that is further on; none when it stays. Never back.
pub fn advance(from: Status, to: Status) -> Option<Status> {
    (rank(to) > rank(from)).then_some(to)
}

/// It would go back without a reason, or from one end to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backwards;

/// Where a lead stands after somebody said so: further on, or, when it is reopened with a reason, before; none when it
/// stands there already.
pub fn change(from: Status, to: Status, reopened: bool) -> Result<Option<Status>, Backwards> {
    if from == to {
        return Ok(None);
    }
    match advance(from, to) {
        Some(to) => Ok(Some(to)),
        None if reopened && rank(to) < rank(from) => Ok(Some(to)),
        None => Err(Backwards),
    }
}

/// Who looks after a lead: whoever somebody names, else whoever did before, be it this lead's own or, of one that was
/// merged into it, the other's; else nobody. Every owner there is was decided here.
pub fn owner(
    named: Option<MemberId>,
    own: Option<MemberId>,
    returning: Option<MemberId>,
) -> Option<MemberId> {
    named.or(own).or(returning)
}

/// What a caller sends back to say which revision it has read.
pub fn etag(revision: i64) -> String {
    format!("v{revision}")
}

/// Whether the caller has read the lead as it stands. Whoever sends none takes what there is.
pub fn is_current(lead: &Lead, sent: Option<&str>) -> bool {
    // If-Match arrives quoted, the body's etag does not.
    sent.is_none_or(|sent| sent.trim_matches('"') == etag(lead.revision))
}

/// The kinds of address that a channel reaches, the better one first. A number is one: whoever gave it for calls only is
/// still reached by WhatsApp there, if the gate says so.
pub const fn kinds(channel: Channel) -> &'static [IdentityKind] {
    match channel {
        Channel::Sms | Channel::Voice => &[IdentityKind::Phone, IdentityKind::Whatsapp],
        Channel::Whatsapp => &[IdentityKind::Whatsapp, IdentityKind::Phone],
        Channel::Email => &[IdentityKind::Email],
    }
}

/// The address that a channel writes to.
pub fn reached(identities: &[Identity], channel: Channel) -> Option<&Address> {
    kinds(channel)
        .iter()
        .find_map(|kind| primary(identities, *kind))
}

/// The first address of a kind.
pub fn primary(identities: &[Identity], kind: IdentityKind) -> Option<&Address> {
    identities
        .iter()
        .find(|identity| identity.primary && identity.kind == kind)
        .map(|identity| &identity.address)
}

/// A field of which there would be too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch {
    /// The field.
    pub field: &'static str,
    /// What would be right.
    pub message: &'static str,
}

/// The lead after the edit; none when nothing would change.
pub fn edit(lead: &Lead, edit: Edit) -> Result<Option<Lead>, TooMuch> {
    let mut after = lead.clone();
    after.name = edit.name.or(after.name);
    after.external_id = edit.external_id.or(after.external_id);
    after.time_zone = edit.time_zone.or(after.time_zone);
    after.state = edit.state.or(after.state);
    after.industry = edit.industry.or(after.industry);
    after.engagement = edit.engagement.unwrap_or(after.engagement);
    after.task_priority = edit.task_priority.unwrap_or(after.task_priority);
    after.owner = owner(edit.owner, after.owner, None);
    for (kind, address) in edit.addresses {
        put_first(&mut after.identities, kind, address);
    }
    if let Some(tags) = edit.tags {
        after.tags = tags;
    }
    for (name, value) in edit.custom_fields {
        match value {
            Value::Null => after.custom_fields.remove(&name),
            value => after.custom_fields.insert(name, value),
        };
    }
    tidy(&mut after)?;
    Ok((after != *lead).then_some(after))
}

/// The lead as an import finds it and leaves it: what the row says is set, but tags are added to those there are, and
/// whoever looks after it goes on doing so.
pub fn import(lead: &Lead, row: Edit) -> Result<Option<Lead>, TooMuch> {
    let tags = row
        .tags
        .map(|more| lead.tags.iter().cloned().chain(more).collect());
    let owner = owner(None, lead.owner, row.owner);
    edit(lead, Edit { tags, owner, ..row })
}

/// Puts an address before the others of its kind. The one before stays the lead's.
fn put_first(identities: &mut Vec<Identity>, kind: IdentityKind, address: Address) {
    // WhatsApp at the number that is called as well is one address, which WhatsApp falls back to.
    let is_phone = identities.iter().any(|known| {
        known.address == address && known.kind == IdentityKind::Phone && known.primary
    });
    for known in identities.iter_mut().filter(|known| known.kind == kind) {
        known.primary = false;
    }
    if kind == IdentityKind::Whatsapp && is_phone {
        return;
    }
    let first = Identity {
        kind,
        address,
        primary: true,
    };
    match identities
        .iter_mut()
        .find(|known| known.address == first.address)
    {
        Some(known) => *known = first,
        None => identities.push(first),
    }
}

/// Everything that is a set, in its one order, and no more of it than a lead may have.
fn tidy(lead: &mut Lead) -> Result<(), TooMuch> {
    lead.identities.sort_unstable();
    lead.tags.sort_unstable();
    lead.tags.dedup();
    for (count, most, field, message) in [
        (
            lead.identities.len(),
            MOST_IDENTITIES,
            "identities",
            "a lead has at most 20 addresses",
        ),
        (
            lead.tags.len(),
            MOST_TAGS,
            "tags",
            "a lead has at most 50 tags",
        ),
        (
            lead.custom_fields.len(),
            MOST_CUSTOM_FIELDS,
            "custom_fields",
            "a lead has at most 50 custom fields",
        ),
    ] {
        if count > most {
            return Err(TooMuch { field, message });
        }
    }
    Ok(())
}

/// Both leads after one was merged into the other. What both have is the other's; how far it has come moves on and never
/// back, and one that was lost does not close one that lives.
pub fn merge(from: &Lead, into: &Lead) -> Result<(Lead, Lead), &'static str> {
    if from.id == into.id {
        return Err("A lead is not merged into itself.");
    }
    let mut gone = from.clone();
    gone.identities = Vec::new();
    gone.merged_into = Some(into.id);

    let mut one = into.clone();
    one.name = one.name.or_else(|| from.name.clone());
    one.time_zone = one.time_zone.or_else(|| from.time_zone.clone());
    one.state = one.state.or_else(|| from.state.clone());
    one.industry = one.industry.or(from.industry);
    one.owner = owner(None, into.owner, from.owner);
    // The warmer, and the more urgent.
    one.engagement = one.engagement.min(from.engagement);
    one.task_priority = one.task_priority.min(from.task_priority);
    one.tags.extend(from.tags.iter().cloned());
    for (name, value) in &from.custom_fields {
        if !one.custom_fields.contains_key(name) {
            one.custom_fields.insert(name.clone(), value.clone());
        }
    }
    for moved in &from.identities {
        let primary = moved.primary && primary(&into.identities, moved.kind).is_none();
        one.identities.push(Identity {
            primary,
            ..moved.clone()
        });
    }
    tidy(&mut one).map_err(|much| much.message)?;
    Ok((gone, one))
}

/// The lead after somebody said more about themselves; none when that is nothing new. What is known stays, and an address is
/// the first of its kind only where there is none.
pub fn joined(
    lead: &Lead,
    name: Option<String>,
    time_zone: Option<String>,
    addresses: Vec<(IdentityKind, Address)>,
) -> Option<Lead> {
    let mut after = lead.clone();
    after.name = after.name.or(name);
    after.time_zone = after.time_zone.or(time_zone);
    for (kind, address) in addresses {
        let primary = primary(&after.identities, kind).is_none();
        after.identities.push(Identity {
            kind,
            address,
            primary,
        });
    }
    after.identities.sort_unstable();
    (after != *lead).then_some(after)
}

/// How far the one has come that another was merged into, when that is further than before.
pub fn merged_status(from: Status, into: Status) -> Option<Status> {
    match from {
        Status::Lost => None,
        from => advance(into, from),
    }
}

/// A lead of which nothing is known yet.
pub fn blank(id: LeadId, source: super::Source, now: chrono::DateTime<chrono::Utc>) -> Lead {
    Lead {
        id,
        name: None,
        external_id: None,
        status: Status::New,
        source,
        industry: None,
        time_zone: None,
        state: None,
        tags: Vec::new(),
        custom_fields: Map::new(),
        owner: None,
        engagement: Engagement::Cold,
        task_priority: super::TaskPriority::Medium,
        identities: Vec::new(),
        merged_into: None,
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

#[cfg(test)]
mod tests;
