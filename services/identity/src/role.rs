//! Roles: the built-in ones (code) and an agency's own (rows), under one roof.
//! Deliberately absent: who holds one. Bindings are the member's.

pub mod builtin;
mod error;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, AgencyScope, RoleId, Visible};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

pub use builtin::BuiltIn;
pub use error::Error;
pub(crate) use error::exceeds_own;
pub(crate) use rules::known;

use crate::Identity;
use crate::grant::{self, Grant};
use mainstay_jobs::once::Once;

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Its id.
    pub id: RoleId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it allows.
    pub permissions: Vec<String>,
    /// When it was made; none for those that come with Mainstay.
    pub created_at: Option<DateTime<Utc>>,
}

impl Role {
    /// Which built-in role it is, if one.
    pub fn built_in(&self) -> Option<BuiltIn> {
        BuiltIn::with_id(self.id)
    }
}

impl From<BuiltIn> for Role {
    fn from(role: BuiltIn) -> Self {
        Role {
            id: role.id(),
            name: role.name().to_owned(),
            description: Some(role.description().to_owned()),
            permissions: role.permissions().into_iter().map(str::to_owned).collect(),
            created_at: None,
        }
    }
}

/// A role to be made.
#[derive(Debug, Clone)]
pub struct NewRole {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it allows; sorted, each once, each known.
    pub permissions: Vec<String>,
}

/// Makes a role of the agency's own. It may be bound to any client, so its maker must hold all of it for all clients.
///
/// # Errors
/// [`Error::NameTaken`], [`Error::ExceedsOwn`].
pub async fn create(
    identity: &Identity,
    ctx: &Context,
    once: &Once,
    new: NewRole,
) -> Result<proto::Role, Error> {
    let scope = ctx.agency_scope();
    let now = identity.clock.now();
    let mut tx = identity.database.agency(&scope).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let wanted = Grant {
        permissions: new.permissions.clone(),
        reach: Visible::All,
    };
    let lacking = grant::lacking(&crate::grants_of(ctx), &wanted);
    if !lacking.is_empty() {
        return Err(Error::ExceedsOwn { lacking });
    }
    if let Some(role) = BuiltIn::named(&new.name) {
        return Err(Error::NameTaken {
            existing: Some(role.id()),
        });
    }
    let id = RoleId::generate();
    let role = match sql::insert(tx.conn(), scope.agency, id, &new, now).await {
        Ok(role) => role,
        Err(error) if error.constraint() == Some("role_name_key") => {
            tx.rollback().await?;
            let existing = find_named(identity, &scope, &new.name)
                .await?
                .map(|role| role.id);
            return Err(Error::NameTaken { existing });
        }
        Err(error) => return Err(error.into()),
    };
    let change = Change {
        action: "identity.role.create",
        event: "identity.role.created",
        noun: "role",
        target: id.to_string(),
        client: None,
        sequence: 1,
        before: None,
        after: record::image(&role),
    };
    record::write(tx.conn(), &By::actor(ctx, now), change).await?;
    let answer = rpc::answer(role);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// One role, built-in or the agency's own.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(identity: &Identity, scope: &AgencyScope, id: RoleId) -> Result<Role, Error> {
    if let Some(role) = BuiltIn::with_id(id) {
        return Ok(role.into());
    }
    let mut tx = identity.database.agency(scope).await?;
    let role = sql::get(tx.conn(), scope.agency, id).await?;
    tx.commit().await?;
    role.ok_or(Error::NotFound)
}

/// The agency's own roles, newest first, then the built-in ones.
///
/// # Errors
/// Only the database's.
pub async fn list(
    identity: &Identity,
    scope: &AgencyScope,
    request: &PageRequest<Uuid>,
) -> Result<Page<Role>, Error> {
    let after = request.after().copied();
    let mut tx = identity.database.agency(scope).await?;
    let own = sql::list(tx.conn(), scope.agency, after, request.limit()).await?;
    tx.commit().await?;
    let rows = rules::with_built_in(own, after, request.limit());
    Ok(request.page(rows, |last| last.id.uuid()))
}

/// The role of this name, as a transaction of another slice sees it.
pub(crate) async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    name: &str,
) -> mainstay_db::Result<Option<Role>> {
    match BuiltIn::named(name) {
        Some(role) => Ok(Some(role.into())),
        None => sql::find(conn, agency, name).await,
    }
}

async fn find_named(
    identity: &Identity,
    scope: &AgencyScope,
    name: &str,
) -> Result<Option<Role>, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let found = find(tx.conn(), scope.agency, name).await?;
    tx.commit().await?;
    Ok(found)
}
