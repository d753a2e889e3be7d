//! Nobody grants what they lack: the one rule behind roles, members and keys. Pure.
//! Deliberately absent: the check of a request. That is `mainstay_rpc`'s, the same in every service.

use std::collections::BTreeSet;

use mainstay_types::{ClientId, Visible};

/// Permissions held for all clients or for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The permissions, by name.
    pub permissions: Vec<String>,
    /// For whom.
    pub reach: Visible,
}

/// The wanted permissions that `own` does not cover for every wanted client; empty when all may be given.
pub fn lacking(own: &[Grant], wanted: &Grant) -> Vec<String> {
    let missing: BTreeSet<&String> = wanted
        .permissions
        .iter()
        .filter(|permission| !covers(own, permission, &wanted.reach))
        .collect();
    missing.into_iter().cloned().collect()
}

/// As [`lacking`], for several grants at once.
pub fn lacking_any(own: &[Grant], wanted: &[Grant]) -> Vec<String> {
    let missing: BTreeSet<String> = wanted
        .iter()
        .flat_map(|grant| lacking(own, grant))
        .collect();
    missing.into_iter().collect()
}

fn covers(own: &[Grant], permission: &str, reach: &Visible) -> bool {
    let mut holding = own
        .iter()
        .filter(|grant| grant.permissions.iter().any(|held| held == permission));
    match reach {
        // Clients that do not exist yet are wanted too, and no list covers those.
        Visible::All => holding.any(|grant| grant.reach == Visible::All),
        Visible::Only(clients) => {
            let holding: Vec<&Visible> = holding.map(|grant| &grant.reach).collect();
            let held = |client: &ClientId| holding.iter().any(|reach| reach.contains(*client));
            !holding.is_empty() && clients.iter().all(held)
        }
    }
}

/// What is left of `grants` within `permissions`.
pub fn within(grants: Vec<Grant>, permissions: &[String]) -> Vec<Grant> {
    grants
        .into_iter()
        .map(|mut grant| {
            grant.permissions.retain(|held| permissions.contains(held));
            grant
        })
        .filter(|grant| !grant.permissions.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(permissions: &[&str], reach: Visible) -> Grant {
        Grant {
            permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
            reach,
        }
    }

    #[test]
    fn what_is_held_for_the_agency_may_be_given_for_any_client() {
        let own = [grant(&["a.b.read", "a.b.write"], Visible::All)];
        let one = Visible::Only(vec![ClientId::generate()]);
        assert!(lacking(&own, &grant(&["a.b.read"], one)).is_empty());
        assert!(lacking(&own, &grant(&["a.b.read"], Visible::All)).is_empty());
        assert_eq!(
            lacking(&own, &grant(&["a.b.read", "c.d.read"], Visible::All)),
            ["c.d.read"]
        );
    }

    #[test]
    fn what_is_held_for_some_clients_is_given_for_those_alone() {
        let (mine, yours) = (ClientId::generate(), ClientId::generate());
        let own = [
            grant(&["a.b.read"], Visible::Only(vec![mine])),
            grant(&["a.b.write"], Visible::Only(vec![mine, yours])),
        ];
        let for_mine = Visible::Only(vec![mine]);
        assert!(lacking(&own, &grant(&["a.b.read", "a.b.write"], for_mine)).is_empty());
        let for_both = Visible::Only(vec![mine, yours]);
        assert_eq!(
            lacking(&own, &grant(&["a.b.read", "a.b.write"], for_both)),
            ["a.b.read"]
        );
        assert_eq!(
            lacking(&own, &grant(&["a.b.write"], Visible::All)),
            ["a.b.write"]
        );
    }

    #[test]
    fn grants_of_several_roles_add_up() {
        let (one, two) = (ClientId::generate(), ClientId::generate());
        let own = [
            grant(&["a.b.read"], Visible::Only(vec![one])),
            grant(&["a.b.read"], Visible::Only(vec![two])),
        ];
        assert!(lacking(&own, &grant(&["a.b.read"], Visible::Only(vec![two, one]))).is_empty());
    }

    #[test]
    fn an_empty_list_of_clients_needs_the_permission_all_the_same() {
        let nobody = Visible::Only(Vec::new());
        assert_eq!(lacking(&[], &grant(&["a.b.read"], nobody)), ["a.b.read"]);
    }

    #[test]
    fn a_key_keeps_only_what_both_it_and_its_member_have() {
        let grants = vec![
            grant(&["a.b.read", "a.b.write"], Visible::All),
            grant(&["c.d.read"], Visible::All),
        ];
        assert_eq!(
            within(grants, &["a.b.read".to_owned()]),
            [grant(&["a.b.read"], Visible::All)]
        );
    }
}
