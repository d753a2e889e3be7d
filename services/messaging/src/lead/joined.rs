//! The lead of somebody who gives several addresses at once, as a form does: found by any of them, or made with all.
//! Deliberately absent: taking an address from another lead. Whoever writes one down need not be whose it is.

use mainstay_jobs::record::By;
use mainstay_types::{LeadId, Tenant};
use sqlx::PgConnection;

use super::edit::insert;
use super::{Act, Edit, Error, IdentityKind, Source, TRIES, lock, rules, sql, write};
use crate::address::Address;

/// Who somebody says they are.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What they call themselves.
    pub name: Option<String>,
    /// Their IANA time zone.
    pub time_zone: Option<String>,
    /// Their addresses, the surest first; at least one.
    pub addresses: Vec<Address>,
}

/// The lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub lead: LeadId,
    /// Addresses that did not become its own.
    pub elsewhere: Vec<Address>,
}

/// The lead of the first address that has one, with those of the others that nobody has; or a new one with all of them. What
/// is known of it stays as it is. In the caller's transaction, with audit row and event.
///
/// # Errors
/// [`Error::Taken`] when somebody else gives an address to a lead at the same moment: roll back and look again.
pub async fn ensure_by(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    wanted: Wanted,
    source: Source,
) -> Result<Found, Error> {
    let mut known = None;
    for address in &wanted.addresses {
        known = sql::find_by_address(conn, tenant, address).await?;
        if known.is_some() {
            break;
        }
    }
    let Some(mut id) = known else {
        let addresses = wanted.addresses.into_iter();
        let edit = Edit {
            name: wanted.name,
            time_zone: wanted.time_zone,
            addresses: addresses.map(|address| (kind(&address), address)).collect(),
            ..Edit::default()
        };
        let lead = insert(conn, tenant, by, Act::Create, (source, edit)).await?;
        return Ok(Found {
            lead: lead.id,
            elsewhere: Vec::new(),
        });
    };
    for _ in 0..TRIES {
        let before = lock(conn, tenant, id).await?;
        if let Some(into) = before.merged_into {
            id = into;
            continue;
        }
        let (mut free, mut elsewhere) = (Vec::new(), Vec::new());
        for address in &wanted.addresses {
            match sql::find_by_address(conn, tenant, address).await? {
                Some(lead) if lead != id => elsewhere.push(address.clone()),
                Some(_) => {}
                None if before.identities.len() + free.len() >= rules::MOST_IDENTITIES => {
                    elsewhere.push(address.clone());
                }
                None => free.push((kind(address), address.clone())),
            }
        }
        let after = rules::joined(&before, wanted.name, wanted.time_zone, free);
        if let Some(after) = after {
            write(conn, tenant, by, Act::Update, &before, after).await?;
        }
        return Ok(Found {
            lead: id,
            elsewhere,
        });
    }
    Err(Error::Contended)
}

fn kind(address: &Address) -> IdentityKind {
    match address.is_phone() {
        true => IdentityKind::Phone,
        false => IdentityKind::Email,
    }
}
