//! What a route is, what it takes, and whom that tells. Pure.
//! Deliberately absent: the members. Identity says who they are when they are told.

use chrono::{DateTime, Utc};
use mainstay_types::{AlertRouteId, ClientId, MemberId};

use crate::alert::{Alert, Kind, Severity};
use crate::ladder::{Channel, Member};

/// The name of the role that every agency has and that owns it.
const OWNER: &str = "owner";

/// Who hears of which alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRoute {
    /// Its id.
    pub id: AlertRouteId,
    /// What people call it.
    pub name: String,
    /// What it takes; empty: all.
    pub kinds: Vec<Kind>,
    /// How bad it must be at least.
    pub least_severity: Severity,
    /// Only what is about this client.
    pub client: Option<ClientId>,
    /// How it tells.
    pub channel: Channel,
    /// Whom.
    pub to: To,
    /// Rises with each change.
    pub revision: i64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// Whom a route tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// These, each at their own address.
    Members(Vec<MemberId>),
    /// Whoever is there.
    Address(String),
}

/// What to change of one.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// What people call it.
    pub name: Option<String>,
    /// What it takes.
    pub kinds: Option<Vec<Kind>>,
    /// How bad it must be at least.
    pub least_severity: Option<Severity>,
    /// `Some(None)`: whatever it is about.
    pub client: Option<Option<ClientId>>,
    /// How it tells.
    pub channel: Option<Channel>,
    /// Whom.
    pub to: Option<To>,
}

/// Somebody who is to hear of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipient {
    /// By which route; none: as an owner, since no route takes it.
    pub route: Option<AlertRouteId>,
    /// How.
    pub channel: Channel,
    /// Where.
    pub address: String,
}

impl AlertRoute {
    /// Whether it takes an alert.
    pub fn takes(&self, alert: &Alert) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&alert.kind))
            && alert.severity.reaches(self.least_severity)
            && self
                .client
                .is_none_or(|client| alert.client == Some(client))
    }

    /// It as it is after a change; none when nothing changes.
    pub(super) fn edited(&self, edit: Edit, now: DateTime<Utc>) -> Option<AlertRoute> {
        let mut after = self.clone();
        after.name = edit.name.unwrap_or(after.name);
        after.kinds = edit.kinds.unwrap_or(after.kinds);
        after.least_severity = edit.least_severity.unwrap_or(after.least_severity);
        after.client = edit.client.unwrap_or(after.client);
        after.channel = edit.channel.unwrap_or(after.channel);
        after.to = edit.to.unwrap_or(after.to);
        if after == *self {
            return None;
        }
        after.revision += 1;
        after.updated_at = now;
        Some(after)
    }
}

/// Whether something can be told at an address; otherwise what would be right.
pub(super) fn check_address(channel: Channel, address: &str) -> Result<(), &'static str> {
    let good = match channel {
        Channel::Email => mainstay_types::format::is_email(address),
        Channel::Sms => mainstay_types::format::is_phone(address),
    };
    match (good, channel) {
        (true, _) => Ok(()),
        (false, Channel::Email) => Err("must be an email address"),
        (false, Channel::Sms) => Err("must be a telephone number such as +15125550100"),
    }
}

/// Whom the routes tell of an alert, each address once. A member whom the channel does not reach is told by mail; one who may not
/// see the alert is passed over.
pub(crate) fn recipients(
    alert: &Alert,
    routes: &[AlertRoute],
    people: &[Member],
) -> Vec<Recipient> {
    let mut found: Vec<Recipient> = Vec::new();
    for route in routes.iter().filter(|route| route.takes(alert)) {
        match &route.to {
            To::Address(address) => found.push(Recipient {
                route: Some(route.id),
                channel: route.channel,
                address: address.clone(),
            }),
            To::Members(members) => {
                let named = people.iter().filter(|known| members.contains(&known.id));
                found.extend(named.map(|member| reached(member, route.channel, Some(route.id))));
            }
        }
    }
    once(found)
}

/// The agency's owners, by mail.
pub(crate) fn owners(people: &[Member]) -> Vec<Recipient> {
    let owners = people.iter().filter(|member| member.role == OWNER);
    once(
        owners
            .map(|member| reached(member, Channel::Email, None))
            .collect(),
    )
}

fn reached(member: &Member, wanted: Channel, route: Option<AlertRouteId>) -> Recipient {
    let (channel, address) = match member.address(wanted) {
        Some(address) => (wanted, address),
        None => (Channel::Email, member.email.as_str()),
    };
    Recipient {
        route,
        channel,
        address: address.to_owned(),
    }
}

fn once(found: Vec<Recipient>) -> Vec<Recipient> {
    let mut all: Vec<Recipient> = Vec::new();
    for one in found {
        let there =
            |known: &Recipient| known.channel == one.channel && known.address == one.address;
        if !all.iter().any(there) {
            all.push(one);
        }
    }
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::alert::State;
    use mainstay_types::{AgencyId, AlertId};

    pub(crate) fn alert(kind: Kind, severity: Severity, client: Option<ClientId>) -> Alert {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        Alert {
            id: AlertId::generate(),
            agency: AgencyId::generate(),
            kind,
            severity,
            subject: "it".to_owned(),
            client,
            summary: "it happened".to_owned(),
            state: State::Open,
            occurrences: 1,
            first_seen_at: at,
            last_seen_at: at,
            acknowledged_by: None,
            acknowledged_at: None,
            resolved_by: None,
            resolved_at: None,
            told_severity: None,
            traceparent: None,
            revision: 1,
        }
    }

    pub(crate) fn route(least_severity: Severity, to: To) -> AlertRoute {
        AlertRoute {
            id: AlertRouteId::generate(),
            name: "Ops".to_owned(),
            kinds: Vec::new(),
            least_severity,
            client: None,
            channel: Channel::Sms,
            to,
            revision: 1,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    fn member(role: &str, phone: Option<&str>) -> Member {
        Member {
            id: MemberId::generate(),
            name: role.to_owned(),
            role: role.to_owned(),
            email: format!("{role}@a.test"),
            phone: phone.map(str::to_owned),
        }
    }

    #[test]
    fn a_route_takes_what_it_names_and_what_is_bad_enough() {
        let client = ClientId::generate();
        let any = route(Severity::Warning, To::Address("+15125550100".to_owned()));
        let money = AlertRoute {
            kinds: vec![Kind::PaymentFailed, Kind::DisputeOpened],
            ..any.clone()
        };
        let theirs = AlertRoute {
            client: Some(client),
            ..any.clone()
        };
        let failed = alert(Kind::PaymentFailed, Severity::Critical, Some(client));
        let late = alert(Kind::QueueLate, Severity::Warning, None);
        let news = alert(Kind::QueueLate, Severity::Info, None);
        let taken = |route: &AlertRoute| [&failed, &late, &news].map(|alert| route.takes(alert));
        assert_eq!(taken(&any), [true, true, false]);
        assert_eq!(taken(&money), [true, false, false]);
        assert_eq!(taken(&theirs), [true, false, false]);
    }

    #[test]
    fn members_are_told_where_they_are_reached_and_each_address_once() {
        let (owner, agent) = (member("owner", Some("+15125550101")), member("agent", None));
        let gone = MemberId::generate();
        let both = route(Severity::Info, To::Members(vec![owner.id, agent.id, gone]));
        let same = route(Severity::Info, To::Address("+15125550101".to_owned()));
        let people = [owner, agent];
        let failed = alert(Kind::PaymentFailed, Severity::Critical, None);
        let told = recipients(&failed, &[both, same], &people);
        let told: Vec<(Channel, &str)> = told
            .iter()
            .map(|one| (one.channel, one.address.as_str()))
            .collect();
        let wanted = [
            (Channel::Sms, "+15125550101"),
            (Channel::Email, "agent@a.test"),
        ];
        assert_eq!(told, wanted);
        let owners: Vec<String> = owners(&people).into_iter().map(|one| one.address).collect();
        assert_eq!(owners, ["owner@a.test"]);
    }

    #[test]
    fn a_change_that_changes_nothing_is_none() {
        let one = route(Severity::Info, To::Address("+15125550101".to_owned()));
        let now = DateTime::<Utc>::MAX_UTC;
        assert_eq!(one.edited(Edit::default(), now), None);
        let edit = Edit {
            least_severity: Some(Severity::Critical),
            ..Edit::default()
        };
        let after = one.edited(edit, now).map(|after| after.revision);
        assert_eq!(after, Some(2));
    }
}
