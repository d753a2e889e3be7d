//! Members: people in an agency, each with one role for all clients or for listed ones. Staff, agents and reps alike.
//! Deliberately absent: a second list of team members anywhere else (CS L1), and booleans for what a role says.

mod error;
mod rpc;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{
    AgencyId, AgencyScope, ClientId, MemberId, PersonId, ServiceName, Tenant, Visible,
};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

use crate::grant::{self, Grant};
use crate::role::{self, BuiltIn, Role};
use crate::{Identity, address, agency, api_key, person, session};
use mainstay_jobs::once::Once;

/// The most members of an agency that are looked at for a client.
const MOST_SERVING: i64 = 500;

/// Whether a member may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type, Serialize)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// They may.
    Active,
    /// They may not; history keeps their name.
    Deactivated,
}

/// A person in an agency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// The person.
    pub person_id: PersonId,
    /// What this agency calls them.
    pub name: String,
    /// Where this agency writes to them.
    pub email: String,
    /// Their telephone number.
    pub phone: Option<String>,
    /// Whether they may act.
    pub state: State,
    /// Rises with each change.
    pub version: i64,
    /// When they joined.
    pub created_at: DateTime<Utc>,
    /// The role's name.
    pub role: String,
    /// Whether the role holds for the whole agency.
    pub all_clients: bool,
    /// The clients it holds for otherwise.
    pub clients: Vec<ClientId>,
}

/// A member to be added.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// The person's name.
    pub name: String,
    /// Their email address.
    pub email: String,
    /// Their telephone number.
    pub phone: Option<String>,
    /// Their role, and for whom.
    pub post: Post,
}

/// A role by name, for all clients or some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// The role's name.
    pub role: String,
    /// The clients it holds for.
    pub reach: Visible,
}

/// Adds a person to the agency. The person is the same one in every agency; what is written of them is not.
///
/// # Errors
/// [`Error::EmailTaken`], [`Error::NoSuchRole`], [`Error::OwnsAll`], [`Error::NoSuchClient`], [`Error::ExceedsOwn`].
pub async fn create(
    identity: &Identity,
    ctx: &Context,
    once: &Once,
    new: NewMember,
) -> Result<proto::Member, Error> {
    let scope = ctx.agency_scope();
    let now = identity.clock.now();
    let mut tx = identity.database.agency(&scope).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let own = crate::grants_of(ctx);
    let role = may_give(tx.conn(), scope.agency, &own, &new.post).await?;
    let member = match insert(tx.conn(), identity, scope.agency, &new, &role, now).await {
        Ok(member) => member,
        Err(Error::EmailTaken { .. }) => {
            tx.rollback().await?;
            let hash = identity.lookup.email(&new.email);
            let existing = find_by_person(identity, &scope, &hash).await?;
            return Err(Error::EmailTaken { existing });
        }
        Err(error) => return Err(error),
    };
    let by = By::actor(ctx, now);
    note(
        tx.conn(),
        &by,
        "identity.member.create",
        "identity.member.created",
        None,
        &member,
    )
    .await?;
    let answer = rpc::answer(member);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Gives a member another role, or the same for other clients. Doing it twice is doing it once.
///
/// # Errors
/// [`Error::LastOwner`] when nobody would own the agency; [`Error::ExceedsOwn`] when the caller lacks something of the
/// new role, or of the old: nobody takes from those above them either.
pub async fn set_role(
    identity: &Identity,
    ctx: &Context,
    id: MemberId,
    post: Post,
) -> Result<Member, Error> {
    let scope = ctx.agency_scope();
    let now = identity.clock.now();
    let mut tx = identity.database.agency(&scope).await?;
    // Before anything is read: two owners who demote each other at once are decided here, one after the other.
    agency::lock(tx.conn(), scope.agency).await?;
    let before = sql::get(tx.conn(), scope.agency, id)
        .await?
        .ok_or(Error::NotFound)?;
    let own = crate::grants_of(ctx);
    let role = may_give(tx.conn(), scope.agency, &own, &post).await?;
    let held = sql::grants(tx.conn(), scope.agency, id).await?;
    let lacking = grant::lacking_any(&own, &held);
    if !lacking.is_empty() {
        return Err(Error::ExceedsOwn { lacking });
    }
    if post.role == before.role && post.reach == before.reach() {
        return Ok(before);
    }
    sql::bind(tx.conn(), scope.agency, id, &role, &post.reach)
        .await
        .map_err(of_binding)?;
    let after = sql::touch(tx.conn(), scope.agency, id, now)
        .await?
        .ok_or(Error::NotFound)?;
    let by = By::actor(ctx, now);
    note(
        tx.conn(),
        &by,
        "identity.member.set_role",
        "identity.member.role_set",
        Some(&before),
        &after,
    )
    .await?;
    tx.commit().await.map_err(of_owners)?;
    Ok(after)
}

/// Who releases what a deactivated member held: escalations and their calls, conversations and leads.
const TOLD_OF_THE_END: &[ServiceName] = &[ServiceName::Escalation, ServiceName::Messaging];

/// Ends a membership, with the member's sessions, keys and ways to sign in, in one transaction. Doing it twice is doing it
/// once.
///
/// # Errors
/// [`Error::LastOwner`]; [`Error::ExceedsOwn`] when the caller lacks something that the member has.
pub async fn deactivate(identity: &Identity, ctx: &Context, id: MemberId) -> Result<Member, Error> {
    let scope = ctx.agency_scope();
    let by = By::actor(ctx, identity.clock.now());
    let mut tx = identity.database.agency(&scope).await?;
    // As for roles: two owners who deactivate each other at once are decided here.
    agency::lock(tx.conn(), scope.agency).await?;
    let before = sql::get(tx.conn(), scope.agency, id)
        .await?
        .ok_or(Error::NotFound)?;
    if before.state == State::Deactivated {
        return Ok(before);
    }
    let held = sql::grants(tx.conn(), scope.agency, id).await?;
    let lacking = grant::lacking_any(&crate::grants_of(ctx), &held);
    if !lacking.is_empty() {
        return Err(Error::ExceedsOwn { lacking });
    }
    let after = end(tx.conn(), &by, &before).await?;
    tx.commit().await.map_err(of_owners)?;
    Ok(after)
}

/// Ends the memberships whose every role was bound to a client that ends, in the caller's transaction, under the agency's
/// lock.
pub(crate) async fn end_of_client(
    conn: &mut PgConnection,
    by: &By,
    client: ClientId,
) -> Result<(), Error> {
    for before in sql::all_of_client_alone(conn, by.agency, client).await? {
        end(conn, by, &before).await?;
    }
    Ok(())
}

async fn end(conn: &mut PgConnection, by: &By, before: &Member) -> Result<Member, Error> {
    let id = before.id;
    let after = sql::deactivate(conn, by.agency, id, by.now)
        .await?
        .ok_or(Error::NotFound)?;
    address::sql::deactivate(conn, by.agency, id).await?;
    session::end_of_member(conn, by, id).await?;
    api_key::end_of_member(conn, by, id).await?;
    let change = Change {
        action: "identity.member.deactivate",
        event: "identity.member.deactivated",
        noun: "member",
        target: after.id.to_string(),
        client: None,
        sequence: after.version,
        before: Some(record::image(before)),
        after: record::image(&after),
    };
    record::write_to(conn, by, change, TOLD_OF_THE_END).await?;
    Ok(after)
}

/// One member.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(identity: &Identity, scope: &AgencyScope, id: MemberId) -> Result<Member, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let member = sql::get(tx.conn(), scope.agency, id).await?;
    tx.commit().await?;
    member.ok_or(Error::NotFound)
}

/// A member who is to do something for a client: active, and their role reaches it.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn serving(identity: &Identity, tenant: Tenant, id: MemberId) -> Result<Member, Error> {
    let scope = AgencyScope {
        agency: tenant.agency,
        visible: Visible::All,
    };
    let member = get(identity, &scope, id).await?;
    let serves = member.state == State::Active && member.reach().contains(tenant.client);
    serves.then_some(member).ok_or(Error::NotFound)
}

/// The members who are active, whose role reaches a client, or with none the whole agency, and allows something there, by id.
///
/// # Errors
/// Only the database's.
async fn all_serving(
    identity: &Identity,
    scope: &AgencyScope,
    client: Option<ClientId>,
    permission: &str,
) -> Result<Vec<sql::Serving>, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let mut members = sql::serving(tx.conn(), scope.agency, client, MOST_SERVING).await?;
    tx.commit().await?;
    members.retain(|member| member.may(permission));
    Ok(members)
}

/// The agency's members, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    identity: &Identity,
    scope: &AgencyScope,
    request: &PageRequest<Uuid>,
) -> Result<Page<Member>, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let rows = sql::list(
        tx.conn(),
        scope.agency,
        request.after().copied(),
        request.limit(),
    )
    .await?;
    tx.commit().await?;
    Ok(request.page(rows, |last| last.id.uuid()))
}

impl Member {
    /// The clients their role holds for.
    pub fn reach(&self) -> Visible {
        if self.all_clients {
            Visible::All
        } else {
            Visible::Only(self.clients.clone())
        }
    }
}

/// The role of the post, when whoever holds `own` may give it.
async fn may_give(
    conn: &mut PgConnection,
    agency: AgencyId,
    own: &[Grant],
    post: &Post,
) -> Result<Role, Error> {
    let role = role::find(conn, agency, &post.role)
        .await?
        .ok_or(Error::NoSuchRole)?;
    if role.built_in() == Some(BuiltIn::Owner) && post.reach != Visible::All {
        return Err(Error::OwnsAll);
    }
    let wanted = Grant {
        permissions: role.permissions.clone(),
        reach: post.reach.clone(),
    };
    let lacking = grant::lacking(own, &wanted);
    if lacking.is_empty() {
        Ok(role)
    } else {
        Err(Error::ExceedsOwn { lacking })
    }
}

/// Person, member and bindings, in the caller's transaction.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    identity: &Identity,
    agency: AgencyId,
    new: &NewMember,
    role: &Role,
    now: DateTime<Utc>,
) -> Result<Member, Error> {
    let person = person::find_or_insert(conn, &identity.lookup.email(&new.email)).await?;
    let id = MemberId::generate();
    sql::insert(conn, agency, id, person, new, now)
        .await
        .map_err(|error| match error.constraint() {
            Some("member_person_key") => Error::EmailTaken { existing: None },
            _ => error.into(),
        })?;
    sql::bind(conn, agency, id, role, &new.post.reach)
        .await
        .map_err(of_binding)?;
    let member = sql::get(conn, agency, id).await?.ok_or(Error::NotFound)?;
    address::sql::write(conn, &identity.lookup, agency, &member).await?;
    Ok(member)
}

fn of_owners(error: mainstay_db::Error) -> Error {
    match error.constraint() {
        Some("agency_keeps_an_owner") => Error::LastOwner,
        _ => error.into(),
    }
}

fn of_binding(error: mainstay_db::Error) -> Error {
    match error.constraint() {
        Some("role_binding_client_fkey") => Error::NoSuchClient,
        _ => error.into(),
    }
}

async fn find_by_person(
    identity: &Identity,
    scope: &AgencyScope,
    email_hash: &[u8],
) -> Result<Option<MemberId>, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let found = sql::find_by_person(tx.conn(), scope.agency, email_hash).await?;
    tx.commit().await?;
    Ok(found)
}

pub(crate) async fn note(
    conn: &mut PgConnection,
    by: &By,
    action: &'static str,
    event: &'static str,
    before: Option<&Member>,
    after: &Member,
) -> mainstay_db::Result<()> {
    let change = Change {
        action,
        event,
        noun: "member",
        target: after.id.to_string(),
        client: None,
        sequence: after.version,
        before: before.map(record::image),
        after: record::image(after),
    };
    record::write(conn, by, change).await
}
