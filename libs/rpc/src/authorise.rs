//! The one permission check (IDN-02): a token's facts against what a method declares. Pure, so that the role grid and
//! the bench can try it on anything.
//!
//! Deliberately absent: whether a client exists. That needs identity, and is asked between [`sees`] and [`authorise`].

use mainstay_proto::options::v1::Scope;
use mainstay_transcode::MethodInfo;
use mainstay_types::{AgencyScope, ClientId, Tenant, Visible};

use crate::problem::Problem;
use crate::token::Claims;

/// What a call may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// One client.
    Client(Tenant),
    /// An agency, and these clients' rows in it.
    Agency(AgencyScope),
    /// What the request names: the caller is a service of ours that the method lists.
    Service,
    /// Nothing that belongs to anybody: the method is for everyone.
    Anonymous,
}

/// Whether the actor may know of this client at all: any grant reaches it.
pub fn sees(claims: &Claims, client: ClientId) -> bool {
    claims.grants.iter().any(|grant| grant.reaches(client))
}

/// What the actor may touch with this method. `client` is the one that the request names, already known to exist.
///
/// # Errors
/// `NOT_FOUND` for a client out of sight, `PERMISSION_DENIED` for a missing permission.
pub fn authorise(
    claims: &Claims,
    method: &MethodInfo,
    client: Option<ClientId>,
) -> Result<Granted, Problem> {
    let permission = method.access.permission.as_str();
    let denied = || Problem::permission_denied(permission);
    let holding = || claims.grants.iter().filter(|grant| grant.holds(permission));
    match method.scope() {
        Scope::Client => {
            let client = client
                .filter(|client| sees(claims, *client))
                .ok_or_else(|| Problem::not_found("client"))?;
            if !holding().any(|grant| grant.reaches(client)) {
                return Err(denied());
            }
            Ok(Granted::Client(Tenant {
                agency: claims.agy,
                client,
            }))
        }
        // Held for listed clients only, it is not held for the agency.
        Scope::Agency => {
            if !holding().any(|grant| grant.clients.is_none()) {
                return Err(denied());
            }
            Ok(Granted::Agency(AgencyScope {
                agency: claims.agy,
                visible: Visible::All,
            }))
        }
        Scope::AgencyVisible => {
            let visible =
                union(holding().map(|grant| grant.clients.as_deref())).ok_or_else(denied)?;
            Ok(Granted::Agency(AgencyScope {
                agency: claims.agy,
                visible,
            }))
        }
        Scope::Self_ => {
            let visible = union(claims.grants.iter().map(|grant| grant.clients.as_deref()));
            let visible = visible.unwrap_or_else(|| Visible::Only(Vec::new()));
            Ok(Granted::Agency(AgencyScope {
                agency: claims.agy,
                visible,
            }))
        }
        // The build refuses such a method; if one were ever made, nobody may call it.
        Scope::Unspecified => Err(denied()),
    }
}

/// All clients of several grants together; none when there is no grant.
fn union<'a>(grants: impl Iterator<Item = Option<&'a [ClientId]>>) -> Option<Visible> {
    let mut any = false;
    let mut clients = Vec::new();
    for grant in grants {
        any = true;
        match grant {
            None => return Some(Visible::All),
            Some(some) => clients.extend_from_slice(some),
        }
    }
    clients.sort_unstable();
    clients.dedup();
    any.then_some(Visible::Only(clients))
}
