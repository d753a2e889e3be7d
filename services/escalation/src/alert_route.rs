//! Routes of alerts (ESC-10): who hears of which. Slack and PagerDuty are left to INT-28.
//! Deliberately absent: telling ([`crate::alert_notice`]). A route is read when somebody is to be told, so that a change holds at once.

mod error;
mod rpc;
pub(crate) mod rules;
pub(crate) mod sql;

use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::escalation::v1 as proto;
use mainstay_rpc::{ClientDirectory as _, Context};
use mainstay_types::{AgencyScope, AlertRouteId, ClientId, MemberId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;
pub use rules::{AlertRoute, Edit, To};

use crate::Escalating;
use crate::alert::Kind;

/// What audit and events call it.
const NOUN: &str = "alert_route";
/// The most routes an agency has.
pub(crate) const MOST: i64 = 100;

/// For If-Match.
pub(crate) fn etag(route: &AlertRoute) -> String {
    format!("v{}", route.revision)
}

/// Adds a route.
///
/// # Errors
/// [`Error::NoSuchClient`], [`Error::NoMember`], [`Error::Address`], [`Error::TooMany`], [`Error::Once`].
pub async fn create(
    escalating: &Escalating,
    ctx: &Context,
    route: AlertRoute,
    once: &Once,
) -> Result<proto::AlertRoute, Error> {
    let (scope, by) = (ctx.agency_scope(), By::actor(ctx, escalating.clock.now()));
    exists(escalating, &by, route.client).await?;
    reaches(escalating, &by, Some(&route.to), route.client).await?;
    addressed(&route)?;
    let mut tx = escalating.database.agency(&scope).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    if !sql::insert(tx.conn(), scope.agency, &route, MOST).await? {
        return Err(Error::TooMany);
    }
    let names = (
        "escalation.alert_route.create",
        "escalation.alert_route.created",
    );
    note(tx.conn(), &by, names, None, &route).await?;
    let answer = rpc::whole(&route);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// One route.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    escalating: &Escalating,
    scope: &AgencyScope,
    id: AlertRouteId,
) -> Result<AlertRoute, Error> {
    let mut tx = escalating.database.agency(scope).await?;
    let found = sql::find(tx.conn(), scope.agency, id).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// A page of the routes, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    escalating: &Escalating,
    scope: &AgencyScope,
    page: PageRequest<Uuid>,
) -> Result<Page<AlertRoute>, Error> {
    let (after, limit) = (page.after().copied(), page.limit());
    let mut tx = escalating.database.agency(scope).await?;
    let rows = sql::list(tx.conn(), scope.agency, after, limit).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// Changes the fields that are named.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NoSuchClient`], [`Error::NoMember`], [`Error::EtagMismatch`], [`Error::Address`], [`Error::Once`].
pub async fn update(
    escalating: &Escalating,
    ctx: &Context,
    id: AlertRouteId,
    edit: Edit,
    wanted: Option<&str>,
    once: &Once,
) -> Result<proto::AlertRoute, Error> {
    let (scope, by) = (ctx.agency_scope(), By::actor(ctx, escalating.clock.now()));
    exists(escalating, &by, edit.client.flatten()).await?;
    if edit.to.is_some() {
        let before = get(escalating, &scope, id).await?;
        let client = edit.client.unwrap_or(before.client);
        reaches(escalating, &by, edit.to.as_ref(), client).await?;
    }
    let mut tx = escalating.database.agency(&scope).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let before = sql::lock(tx.conn(), scope.agency, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    let current = etag(&before);
    if wanted.is_some_and(|wanted| wanted != current) {
        return Err(Error::EtagMismatch { current });
    }
    let after = match before.edited(edit, by.now) {
        None => before,
        Some(after) => {
            addressed(&after)?;
            sql::apply(tx.conn(), scope.agency, &after).await?;
            let names = (
                "escalation.alert_route.update",
                "escalation.alert_route.updated",
            );
            note(tx.conn(), &by, names, Some(&before), &after).await?;
            after
        }
    };
    let answer = rpc::whole(&after);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Deletes a route.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(escalating: &Escalating, ctx: &Context, id: AlertRouteId) -> Result<(), Error> {
    let (scope, by) = (ctx.agency_scope(), By::actor(ctx, escalating.clock.now()));
    let mut tx = escalating.database.agency(&scope).await?;
    let before = sql::lock(tx.conn(), scope.agency, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    sql::delete(tx.conn(), scope.agency, id).await?;
    let last = AlertRoute {
        revision: before.revision + 1,
        updated_at: by.now,
        ..before.clone()
    };
    let names = (
        "escalation.alert_route.delete",
        "escalation.alert_route.deleted",
    );
    note(tx.conn(), &by, names, Some(&before), &last).await?;
    tx.commit().await?;
    Ok(())
}

fn addressed(route: &AlertRoute) -> Result<(), Error> {
    match &route.to {
        To::Members(_) => Ok(()),
        To::Address(address) => {
            rules::check_address(route.channel, address).map_err(Error::Address)
        }
    }
}

/// Whether the agency has the client that a body names: the stack looks at those in paths alone. Asked before the transaction,
/// since identity answers.
async fn exists(escalating: &Escalating, by: &By, client: Option<ClientId>) -> Result<(), Error> {
    let Some(client) = client else {
        return Ok(());
    };
    let asked = escalating.directory.exists(by.agency, client).await;
    match asked.map_err(Error::Directory)? {
        true => Ok(()),
        false => Err(Error::NoSuchClient),
    }
}

/// Whether the members may see what the route takes. Asked before the transaction, as [`exists`].
async fn reaches(
    escalating: &Escalating,
    by: &By,
    to: Option<&To>,
    client: Option<ClientId>,
) -> Result<(), Error> {
    let Some(To::Members(members)) = to else {
        return Ok(());
    };
    let people = escalating.members.seeing_alerts(by.agency, client).await?;
    let unknown = |id: &MemberId| !people.iter().any(|known| known.id == *id);
    match members.iter().position(unknown) {
        None => Ok(()),
        Some(at) => Err(Error::NoMember(at)),
    }
}

/// Leaves the audit row and the event.
async fn note(
    conn: &mut PgConnection,
    by: &By,
    (action, event): (&'static str, &'static str),
    before: Option<&AlertRoute>,
    after: &AlertRoute,
) -> mainstay_db::Result<()> {
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: after.client,
        sequence: after.revision,
        before: before.map(told),
        after: told(after),
    };
    record::write(conn, by, change).await
}

fn told(route: &AlertRoute) -> Value {
    let (members, address) = match &route.to {
        To::Members(members) => (Some(members), None),
        To::Address(address) => (None, Some(address)),
    };
    json!({
        "id": route.id,
        "name": route.name,
        "kinds": route.kinds.iter().copied().map(Kind::as_str).collect::<Vec<_>>(),
        "least_severity": route.least_severity.as_str(),
        "client_id": route.client,
        "channel": route.channel.as_str(),
        "member_ids": members,
        "address": address,
    })
}
