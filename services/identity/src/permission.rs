//! The catalogue of permissions, read from what the protos declare on their RPCs.
//! Deliberately absent: a list kept by hand. A permission exists when an RPC asks for it, and not otherwise.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use mainstay_proto::identity::v1::PermissionScope;
use mainstay_proto::options::v1::{AccessKind, Scope};
use mainstay_transcode::Schema;

/// One permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// `context.resource.verb`.
    pub name: &'static str,
    /// Held per client, or for the agency as a whole.
    pub scope: PermissionScope,
    /// What it allows, in one sentence.
    pub description: &'static str,
}

static ALL: LazyLock<Vec<Permission>> = LazyLock::new(|| read(Schema::mainstay()));

/// Every permission there is, by name.
pub fn all() -> &'static [Permission] {
    &ALL
}

/// The permission of this name.
pub fn find(name: &str) -> Option<&'static Permission> {
    let all = all();
    all.binary_search_by(|known| known.name.cmp(name))
        .ok()
        .map(|at| &all[at])
}

fn read(schema: &'static Schema) -> Vec<Permission> {
    let mut by_name: BTreeMap<&'static str, Permission> = BTreeMap::new();
    for method in schema.methods() {
        let access = &method.access;
        if method.access_kind() != AccessKind::Actor || access.permission.is_empty() {
            continue;
        }
        // A permission that reaches single clients anywhere is worth giving for single clients.
        let scope = match method.scope() {
            Scope::Client | Scope::AgencyVisible => PermissionScope::Client,
            Scope::Agency | Scope::Self_ | Scope::Unspecified => PermissionScope::Agency,
        };
        let known = by_name
            .entry(access.permission.as_str())
            .or_insert(Permission {
                name: &access.permission,
                scope,
                description: &access.description,
            });
        if scope == PermissionScope::Client {
            known.scope = scope;
        }
    }
    by_name.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_what_the_protos_ask_for() {
        assert!(all().len() >= 20, "{:?}", all());
        let clients = find("identity.clients.read").expect("an RPC asks for it");
        assert_eq!(clients.scope, PermissionScope::Client);
        assert_eq!(clients.description, "See clients");
        let create = find("identity.clients.create").expect("an RPC asks for it");
        assert_eq!(create.scope, PermissionScope::Agency);
        assert_eq!(find("identity.clients.destroy"), None);
    }
}
