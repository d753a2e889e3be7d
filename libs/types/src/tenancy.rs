//! Who a piece of work is done for. Deliberately absent: a way to widen one of these.

use crate::{AgencyId, ClientId};

/// One client of one agency: what a `TenantTx` is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tenant {
    /// The agency.
    pub agency: AgencyId,
    /// The client, whose id is the tenant id in every table.
    pub client: ClientId,
}

/// One agency and the clients of it that may be seen: what an `AgencyTx` is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgencyScope {
    /// The agency.
    pub agency: AgencyId,
    /// The clients whose rows lists may show.
    pub visible: Visible,
}

/// Which clients of an agency may be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// All, also those made later.
    All,
    /// These and no others.
    Only(Vec<ClientId>),
}

impl Visible {
    /// Whether this client may be seen.
    pub fn contains(&self, client: ClientId) -> bool {
        match self {
            Visible::All => true,
            Visible::Only(clients) => clients.contains(&client),
        }
    }
}
