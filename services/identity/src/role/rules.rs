//! Decisions about roles. Pure.
//! Deliberately absent: who may bind one; that is [`crate::grant`].

use mainstay_rpc::Violations;
use uuid::Uuid;

use super::{BuiltIn, Role};
use crate::permission;

/// The page of the agency's own roles, filled up with the built-in ones, which are older than any of them.
pub fn with_built_in(own: Vec<Role>, after: Option<Uuid>, limit: i64) -> Vec<Role> {
    let room = usize::try_from(limit)
        .unwrap_or_default()
        .saturating_sub(own.len());
    let built_in = BuiltIn::ALL
        .into_iter()
        .filter(|role| after.is_none_or(|after| role.id().uuid() < after))
        .take(room)
        .map(Role::from);
    own.into_iter().chain(built_in).collect()
}

/// The permissions, sorted and each once; those that do not exist are faults of their own place.
pub fn known(permissions: Vec<String>, faults: &mut Violations) -> Vec<String> {
    for (at, name) in permissions.iter().enumerate() {
        if permission::find(name).is_none() {
            faults.add(
                format!("permissions[{at}]"),
                "is no permission: GET /v1/permissions lists all there are",
            );
        }
    }
    let mut permissions = permissions;
    permissions.sort_unstable();
    permissions.dedup();
    permissions
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_types::RoleId;

    fn own(name: &str) -> Role {
        Role {
            id: RoleId::generate(),
            name: name.into(),
            description: None,
            permissions: vec![],
            created_at: None,
        }
    }

    #[test]
    fn built_in_roles_follow_the_agencys_own_and_each_is_listed_once() {
        let mine = vec![own("bookkeeper"), own("night_shift")];
        let all = with_built_in(mine.clone(), None, 101);
        let names: Vec<&str> = all.iter().map(|role| role.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "bookkeeper",
                "night_shift",
                "owner",
                "admin",
                "agent",
                "rep_full_time",
                "rep_part_time",
                "viewer"
            ]
        );
        // Walked in pages of three (a fourth row only says that another page follows).
        let mut walked = Vec::new();
        let mut after = None;
        loop {
            let own_rows = if after.is_none() {
                mine.clone()
            } else {
                Vec::new()
            };
            let mut rows = with_built_in(own_rows, after, 4);
            let more = rows.len() > 3;
            rows.truncate(3);
            after = rows.last().map(|role| role.id.uuid());
            walked.extend(rows.into_iter().map(|role| role.name));
            if !more {
                break;
            }
        }
        assert_eq!(walked, names);
    }

    #[test]
    fn permissions_are_known_sorted_and_told_once() {
        let mut faults = Violations::new();
        let given = [
            "identity.clients.read",
            "billing.plans.read",
            "identity.clients.read",
        ];
        let given = given.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            known(given, &mut faults),
            ["billing.plans.read", "identity.clients.read"]
        );
        assert!(faults.is_empty());
        known(vec!["identity.clients.destroy".into()], &mut faults);
        assert!(!faults.is_empty());
    }
}
