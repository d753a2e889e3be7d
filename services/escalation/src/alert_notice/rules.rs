//! What is to be said of an alert to whom, given what was said before. Pure.
//! Deliberately absent: saying it.

use uuid::Uuid;

use crate::alert::{Alert, Severity, State};
use crate::alert_route::rules::Recipient;
use crate::ladder::Channel;
use mainstay_types::AlertRouteId;

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It happens.
    Opened,
    /// It is over.
    Resolved,
}

impl Kind {
    /// As the database spells it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Kind::Opened => "opened",
            Kind::Resolved => "resolved",
        }
    }
}

/// How something that is said stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum Standing {
    /// It waits.
    Pending,
    /// It is being said; nobody knows whether it was.
    Telling,
    /// It was said.
    Told,
    /// It cannot be said, or is not wanted any more.
    Refused,
}

/// Something that is said to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Its id.
    pub id: Uuid,
    /// By which route.
    pub route: Option<AlertRouteId>,
    /// What.
    pub kind: Kind,
    /// How bad the alert was then.
    pub severity: Severity,
    /// How.
    pub channel: Channel,
    /// Where.
    pub address: String,
    /// How it stands.
    pub standing: Standing,
}

impl Notice {
    fn is_to(&self, to: &Recipient) -> bool {
        self.channel == to.channel && self.address == to.address
    }

    fn is_heard(&self) -> bool {
        matches!(self.standing, Standing::Telling | Standing::Told)
    }
}

/// What has to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To be said.
    pub say: Vec<(Kind, Recipient)>,
    /// Not to be said any more, and why.
    pub drop: Vec<(Uuid, &'static str)>,
    /// Everybody who is to hear of it as bad as it is has been told.
    pub is_told: bool,
}

/// What has to change, where `wanted` are those whom routes name now, and `owners` those who hear of what is critical when nobody
/// else does.
///
/// A route tells once for an opening, and once more for each time it becomes worse: what a route has begun to tell is not told to
/// whom it came to name later.
pub(crate) fn plan(
    alert: &Alert,
    notices: &[Notice],
    wanted: &[Recipient],
    owners: &[Recipient],
) -> Plan {
    match alert.state {
        State::Resolved => over(notices),
        State::Open | State::Acknowledged => lasts(alert, notices, wanted, owners),
    }
}

/// Whoever heard of it hears that it is over, and nobody else does.
fn over(notices: &[Notice]) -> Plan {
    let mut plan = Plan::default();
    for notice in notices.iter().filter(|one| one.kind == Kind::Opened) {
        match notice.standing {
            Standing::Pending => plan.drop.push((notice.id, "it was over before")),
            Standing::Refused => {}
            Standing::Telling | Standing::Told => {
                let to = Recipient {
                    route: notice.route,
                    channel: notice.channel,
                    address: notice.address.clone(),
                };
                let said = |one: &Notice| one.kind == Kind::Resolved && one.is_to(&to);
                let planned = |(_, other): &(Kind, Recipient)| {
                    other.channel == to.channel && other.address == to.address
                };
                if !notices.iter().any(said) && !plan.say.iter().any(planned) {
                    plan.say.push((Kind::Resolved, to));
                }
            }
        }
    }
    plan
}

fn lasts(alert: &Alert, notices: &[Notice], wanted: &[Recipient], owners: &[Recipient]) -> Plan {
    let mut plan = Plan::default();
    if alert
        .told_severity
        .is_some_and(|told| told.reaches(alert.severity))
    {
        return plan;
    }
    let opened = || notices.iter().filter(|one| one.kind == Kind::Opened);
    let now = || opened().filter(|one| one.severity == alert.severity);
    let failed =
        |to: &Recipient| now().any(|one| one.is_to(to) && one.standing == Standing::Refused);
    // What is critical reaches somebody: the owners, when there is nobody else.
    let silent = alert.severity == Severity::Critical && wanted.iter().all(failed);
    let wanted: Vec<&Recipient> = match silent {
        true => wanted.iter().chain(owners).collect(),
        false => wanted.iter().collect(),
    };
    for notice in opened().filter(|one| one.standing == Standing::Pending) {
        if notice.severity != alert.severity {
            plan.drop.push((notice.id, "it became worse before"));
        } else if !wanted.iter().any(|to| notice.is_to(to)) {
            plan.drop
                .push((notice.id, "its route does not say so any more"));
        }
    }
    for to in wanted {
        let begun = |one: &Notice| one.route == to.route && to.route.is_some() && one.is_heard();
        if !now().any(|one| one.is_to(to) || begun(one)) {
            plan.say.push((Kind::Opened, to.clone()));
        }
    }
    let dropped = |id: Uuid| plan.drop.iter().any(|(other, _)| *other == id);
    let waits = |one: &Notice| match one.standing {
        Standing::Pending => !dropped(one.id),
        Standing::Telling => true,
        Standing::Told | Standing::Refused => false,
    };
    plan.is_told = plan.say.is_empty() && !opened().any(waits);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Kind as Of;
    use crate::alert_route::rules::tests::alert;

    fn to(route: Option<AlertRouteId>, address: &str) -> Recipient {
        Recipient {
            route,
            channel: Channel::Email,
            address: address.to_owned(),
        }
    }

    fn notice(kind: Kind, severity: Severity, to: &Recipient, standing: Standing) -> Notice {
        Notice {
            id: Uuid::now_v7(),
            route: to.route,
            kind,
            severity,
            channel: to.channel,
            address: to.address.clone(),
            standing,
        }
    }

    fn said(plan: &Plan) -> Vec<&str> {
        let said = plan.say.iter();
        said.map(|(_, to)| to.address.as_str()).collect()
    }

    #[test]
    fn what_is_critical_goes_to_the_owners_when_nobody_else_hears_of_it() {
        let (ops, owner) = (
            to(Some(AlertRouteId::generate()), "ops@a.test"),
            to(None, "owner@a.test"),
        );
        let owners = [owner];
        let critical = alert(Of::JobDead, Severity::Critical, None);
        let warning = alert(Of::JobDead, Severity::Warning, None);
        assert_eq!(said(&plan(&critical, &[], &[], &owners)), ["owner@a.test"]);
        let silent = plan(&warning, &[], &[], &owners);
        assert!(silent.say.is_empty() && silent.is_told, "{silent:?}");
        let routed = plan(&critical, &[], std::slice::from_ref(&ops), &owners);
        assert_eq!(said(&routed), ["ops@a.test"]);
        // Their address takes nothing.
        let refused = notice(Kind::Opened, Severity::Critical, &ops, Standing::Refused);
        let after = plan(&critical, &[refused], &[ops], &owners);
        assert_eq!(said(&after), ["owner@a.test"]);
    }

    #[test]
    fn a_route_tells_once_and_again_only_when_it_becomes_worse() {
        let route = Some(AlertRouteId::generate());
        let (ops, late) = (to(route, "ops@a.test"), to(route, "late@a.test"));
        let warning = alert(Of::QueueLate, Severity::Warning, None);
        let told = notice(Kind::Opened, Severity::Warning, &ops, Standing::Told);
        // Changed meanwhile: what it has told it does not tell somebody else.
        let again = plan(&warning, std::slice::from_ref(&told), &[late], &[]);
        assert!(again.say.is_empty() && again.is_told, "{again:?}");
        let worse = Alert {
            severity: Severity::Critical,
            told_severity: Some(Severity::Warning),
            ..warning.clone()
        };
        let told = [told];
        assert_eq!(
            said(&plan(&worse, &told, std::slice::from_ref(&ops), &[])),
            ["ops@a.test"]
        );
        let same = Alert {
            told_severity: Some(Severity::Critical),
            ..worse
        };
        assert_eq!(plan(&same, &told, &[ops], &[]), Plan::default());
    }

    #[test]
    fn what_waits_goes_where_the_route_says_when_it_leaves() {
        let route = Some(AlertRouteId::generate());
        let (old, new) = (to(route, "old@a.test"), to(route, "new@a.test"));
        let lasts = alert(Of::QueueLate, Severity::Warning, None);
        let waiting = [notice(
            Kind::Opened,
            Severity::Warning,
            &old,
            Standing::Pending,
        )];
        let changed = plan(&lasts, &waiting, &[new], &[]);
        assert_eq!(said(&changed), ["new@a.test"]);
        assert_eq!(changed.drop.len(), 1);
        let gone = plan(&lasts, &waiting, &[], &[]);
        assert!(gone.say.is_empty() && gone.drop.len() == 1 && gone.is_told);
    }

    #[test]
    fn whoever_heard_of_it_hears_once_that_it_is_over() {
        let (ana, bob, cai) = (
            to(None, "ana@a.test"),
            to(None, "bob@a.test"),
            to(None, "cai@a.test"),
        );
        let over = Alert {
            state: State::Resolved,
            ..alert(Of::QueueLate, Severity::Critical, None)
        };
        let mut notices = vec![
            notice(Kind::Opened, Severity::Warning, &ana, Standing::Told),
            notice(Kind::Opened, Severity::Critical, &ana, Standing::Told),
            notice(Kind::Opened, Severity::Critical, &bob, Standing::Pending),
            notice(Kind::Opened, Severity::Critical, &cai, Standing::Telling),
        ];
        let first = plan(&over, &notices, &[], &[]);
        assert_eq!(said(&first), ["ana@a.test", "cai@a.test"]);
        assert_eq!(first.drop.len(), 1, "bob has not heard of it");
        for heard in [&ana, &cai] {
            notices.push(notice(
                Kind::Resolved,
                Severity::Critical,
                heard,
                Standing::Told,
            ));
        }
        assert!(plan(&over, &notices, &[], &[]).say.is_empty());
    }
}
