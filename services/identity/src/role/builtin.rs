//! The roles that come with Mainstay, as data. `role_grid.txt` is their reviewed snapshot.
//! Deliberately absent: wildcards. Only the owner follows the catalogue; a new permission joins another role by hand.

use mainstay_types::RoleId;
use uuid::Uuid;

use crate::permission;

/// A role that every agency has and none can edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// Everything, now and later. Each agency has at least one.
    Owner,
    /// Everything but what would let them make themselves owner.
    Admin,
    /// Serves the clients.
    Agent,
    /// A sales representative with full hours.
    RepFullTime,
    /// A sales representative with some hours.
    RepPartTime,
    /// Looks, touches nothing.
    Viewer,
}

const ADMIN: &[&str] = &[
    "billing.clients.offboard",
    "billing.coupons.create",
    "billing.coupons.delete",
    "billing.coupons.read",
    "billing.discrepancies.read",
    "billing.disputes.read",
    "billing.invoices.read",
    "billing.payments.read",
    "billing.plans.archive",
    "billing.plans.create",
    "billing.plans.read",
    "billing.plans.update",
    "billing.reconciliations.read",
    "billing.reconciliations.run",
    "billing.sagas.operate",
    "billing.sagas.read",
    "billing.subscriptions.cancel",
    "billing.subscriptions.create",
    "billing.subscriptions.read",
    "escalation.alert_routes.manage",
    "escalation.alert_routes.read",
    "escalation.alerts.read",
    "escalation.alerts.work",
    "escalation.business_hours.manage",
    "escalation.business_hours.read",
    "escalation.escalations.assign",
    "escalation.escalations.raise",
    "escalation.escalations.read",
    "escalation.escalations.work",
    "escalation.ladders.manage",
    "escalation.ladders.read",
    "identity.api_keys.create",
    "identity.api_keys.read",
    "identity.api_keys.revoke",
    "identity.audit_events.read",
    "identity.clients.create",
    "identity.clients.read",
    "identity.clients.update",
    "identity.entitlements.read",
    "identity.members.create",
    "identity.members.deactivate",
    "identity.members.read",
    "identity.members.update",
    "identity.roles.read",
    "integrations.dead_letters.read",
    "integrations.dead_letters.replay",
    "integrations.form_endpoints.manage",
    "integrations.form_endpoints.read",
    "integrations.provider_accounts.manage",
    "integrations.provider_accounts.read",
    "integrations.senders.manage",
    "integrations.senders.read",
    "integrations.webhook_events.read",
    "integrations.webhook_events.replay",
    "messaging.agency_do_not_contact.manage",
    "messaging.agency_do_not_contact.read",
    "messaging.appointments.manage",
    "messaging.appointments.read",
    "messaging.automations.manage",
    "messaging.automations.read",
    "messaging.calls.read",
    "messaging.canned_replies.manage",
    "messaging.canned_replies.read",
    "messaging.consents.opt_out",
    "messaging.consents.read",
    "messaging.consents.record",
    "messaging.conversations.delete",
    "messaging.conversations.manage",
    "messaging.do_not_contact.manage",
    "messaging.do_not_contact.read",
    "messaging.form_submissions.read",
    "messaging.leads.create",
    "messaging.leads.import",
    "messaging.leads.merge",
    "messaging.leads.read",
    "messaging.leads.update",
    "messaging.limits.read",
    "messaging.messages.create",
    "messaging.messages.read",
    "messaging.sending_hold.manage",
    "messaging.sending_hold.read",
];

const AGENT: &[&str] = &[
    "billing.coupons.read",
    "billing.disputes.read",
    "billing.invoices.read",
    "billing.payments.read",
    "billing.plans.read",
    "billing.subscriptions.read",
    "escalation.alerts.read",
    "escalation.alerts.work",
    "escalation.business_hours.manage",
    "escalation.business_hours.read",
    "escalation.escalations.assign",
    "escalation.escalations.raise",
    "escalation.escalations.read",
    "escalation.escalations.work",
    "escalation.ladders.manage",
    "escalation.ladders.read",
    "identity.clients.read",
    "identity.clients.update",
    "identity.entitlements.read",
    "identity.members.read",
    "integrations.form_endpoints.read",
    "messaging.appointments.manage",
    "messaging.appointments.read",
    "messaging.automations.manage",
    "messaging.automations.read",
    "messaging.calls.read",
    "messaging.canned_replies.manage",
    "messaging.canned_replies.read",
    "messaging.consents.opt_out",
    "messaging.consents.read",
    "messaging.consents.record",
    "messaging.conversations.manage",
    "messaging.do_not_contact.manage",
    "messaging.do_not_contact.read",
    "messaging.form_submissions.read",
    "messaging.leads.create",
    "messaging.leads.import",
    "messaging.leads.merge",
    "messaging.leads.read",
    "messaging.leads.update",
    "messaging.limits.read",
    "messaging.messages.create",
    "messaging.messages.read",
    "messaging.sending_hold.read",
];

const REP_FULL_TIME: &[&str] = &[
    "billing.coupons.read",
    "billing.plans.read",
    "billing.subscriptions.read",
    "escalation.business_hours.read",
    "escalation.escalations.raise",
    "escalation.escalations.read",
    "escalation.escalations.work",
    "escalation.ladders.read",
    "identity.clients.read",
    "identity.entitlements.read",
    "messaging.appointments.manage",
    "messaging.appointments.read",
    "messaging.automations.read",
    "messaging.calls.read",
    "messaging.canned_replies.read",
    "messaging.consents.opt_out",
    "messaging.consents.read",
    "messaging.conversations.manage",
    "messaging.do_not_contact.read",
    "messaging.form_submissions.read",
    "messaging.leads.create",
    "messaging.leads.read",
    "messaging.leads.update",
    "messaging.limits.read",
    "messaging.messages.create",
    "messaging.messages.read",
    "messaging.sending_hold.read",
];

const REP_PART_TIME: &[&str] = &[
    "billing.coupons.read",
    "billing.plans.read",
    "escalation.business_hours.read",
    "escalation.escalations.raise",
    "escalation.escalations.read",
    "escalation.escalations.work",
    "identity.clients.read",
    "messaging.appointments.manage",
    "messaging.appointments.read",
    "messaging.calls.read",
    "messaging.canned_replies.read",
    "messaging.consents.opt_out",
    "messaging.consents.read",
    "messaging.conversations.manage",
    "messaging.form_submissions.read",
    "messaging.leads.read",
    "messaging.leads.update",
    "messaging.messages.create",
    "messaging.messages.read",
];

const VIEWER: &[&str] = &[
    "billing.coupons.read",
    "billing.disputes.read",
    "billing.invoices.read",
    "billing.payments.read",
    "billing.plans.read",
    "billing.subscriptions.read",
    "escalation.alerts.read",
    "escalation.business_hours.read",
    "escalation.escalations.read",
    "escalation.ladders.read",
    "identity.clients.read",
    "identity.entitlements.read",
    "identity.members.read",
    "identity.roles.read",
    "integrations.form_endpoints.read",
    "messaging.appointments.read",
    "messaging.automations.read",
    "messaging.calls.read",
    "messaging.consents.read",
    "messaging.do_not_contact.read",
    "messaging.form_submissions.read",
    "messaging.leads.read",
    "messaging.limits.read",
    "messaging.messages.read",
    "messaging.sending_hold.read",
];

impl BuiltIn {
    /// All, the most powerful first.
    pub const ALL: [BuiltIn; 6] = [
        BuiltIn::Owner,
        BuiltIn::Admin,
        BuiltIn::Agent,
        BuiltIn::RepFullTime,
        BuiltIn::RepPartTime,
        BuiltIn::Viewer,
    ];

    /// Its name, in requests and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            BuiltIn::Owner => "owner",
            BuiltIn::Admin => "admin",
            BuiltIn::Agent => "agent",
            BuiltIn::RepFullTime => "rep_full_time",
            BuiltIn::RepPartTime => "rep_part_time",
            BuiltIn::Viewer => "viewer",
        }
    }

    /// What it is for.
    pub const fn description(self) -> &'static str {
        match self {
            BuiltIn::Owner => "Everything in the agency, also what is added later.",
            BuiltIn::Admin => "Runs the agency; does not define roles.",
            BuiltIn::Agent => "Serves clients.",
            BuiltIn::RepFullTime => "Sells, full-time.",
            BuiltIn::RepPartTime => "Sells, part-time.",
            BuiltIn::Viewer => "Sees, changes nothing.",
        }
    }

    /// Its id, the same everywhere. Older than any id that is generated, so lists by age show these last.
    pub const fn id(self) -> RoleId {
        let place = match self {
            BuiltIn::Owner => 6,
            BuiltIn::Admin => 5,
            BuiltIn::Agent => 4,
            BuiltIn::RepFullTime => 3,
            BuiltIn::RepPartTime => 2,
            BuiltIn::Viewer => 1,
        };
        RoleId::from_uuid(Uuid::from_u128(
            0x0000_0000_0000_7000_8000_0000_0000_0000 + place,
        ))
    }

    /// What it allows, by name.
    pub fn permissions(self) -> Vec<&'static str> {
        match self {
            BuiltIn::Owner => permission::all().iter().map(|known| known.name).collect(),
            BuiltIn::Admin => ADMIN.to_vec(),
            BuiltIn::Agent => AGENT.to_vec(),
            BuiltIn::RepFullTime => REP_FULL_TIME.to_vec(),
            BuiltIn::RepPartTime => REP_PART_TIME.to_vec(),
            BuiltIn::Viewer => VIEWER.to_vec(),
        }
    }

    /// The built-in role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The built-in role of this id.
    pub fn with_id(id: RoleId) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.id() == id)
    }
}

/// Role × permission as text: what a reviewer reads in a diff.
pub fn grid() -> String {
    let width = permission::all()
        .iter()
        .map(|known| known.name.len())
        .max()
        .unwrap_or(0);
    let mut text = format!("{:width$}", "permission");
    for role in BuiltIn::ALL {
        text.push_str(&format!("  {}", role.name()));
    }
    text.push('\n');
    let held: Vec<Vec<&str>> = BuiltIn::ALL.iter().map(|role| role.permissions()).collect();
    for known in permission::all() {
        let mut line = format!("{:width$}", known.name);
        for (role, held) in BuiltIn::ALL.iter().zip(&held) {
            let mark = if held.contains(&known.name) { "x" } else { "." };
            line.push_str(&format!("  {mark:<len$}", len = role.name().len()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A widened role shows here, and in the diff of the snapshot.
    #[test]
    fn the_grid_of_roles_is_the_one_that_was_reviewed() {
        let reviewed = include_str!("../../role_grid.txt");
        assert!(
            grid() == reviewed,
            "services/identity/role_grid.txt is not what the roles say. If the change is meant, write this to it:\n{}",
            grid()
        );
    }

    #[test]
    fn built_in_roles_name_only_permissions_that_exist() {
        for role in BuiltIn::ALL {
            for name in role.permissions() {
                assert!(permission::find(name).is_some(), "{}: {name}", role.name());
            }
        }
    }

    #[test]
    fn only_the_owner_has_everything() {
        let all = permission::all().len();
        for role in BuiltIn::ALL {
            let full = role.permissions().len() == all;
            assert_eq!(full, role == BuiltIn::Owner, "{}", role.name());
        }
    }

    #[test]
    fn a_built_in_role_is_found_by_name_and_by_id() {
        for role in BuiltIn::ALL {
            assert_eq!(BuiltIn::named(role.name()), Some(role));
            assert_eq!(BuiltIn::with_id(role.id()), Some(role));
        }
        assert_eq!(BuiltIn::named("superuser"), None);
    }
}
