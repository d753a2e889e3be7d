//! Agencies: the outer wall. Made by [`crate::bootstrap`].
//! Deliberately absent: an RPC that makes one; whoever runs the installation does.

mod sql;

use chrono::{DateTime, Utc};
use mainstay_types::AgencyId;

pub(crate) use sql::{find_slug, get, insert, insert_slug, lock};

/// An agency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agency {
    /// Its id.
    pub id: AgencyId,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}
