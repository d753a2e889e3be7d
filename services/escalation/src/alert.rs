//! Alerts (ESC-10): something that somebody should look at, each thing once for as long as it lasts. Raised by facts, over by the
//! opposite facts or because a person says so.
//! Deliberately absent: who hears of it ([`crate::alert_route`]) and how ([`crate::alert_notice`]); and a request that raises one.
//!
//! Facts come in any order. What ends by an opposite fact has its items: for each the latest fact holds, by the time at which it
//! became true, and the alert is over when no item of it stands any more.

mod error;
pub mod kinds;
mod rpc;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_jobs::{NewJob, enqueue};
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, AgencyScope, AlertId, ClientId};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;
pub use kinds::{Kind, Severity, State};

use crate::Escalating;
use crate::jobs::tell_alert;

/// What audit and events call it.
const NOUN: &str = "alert";

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// Whose.
    #[serde(skip)]
    pub agency: AgencyId,
    /// What it is about.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// Which thing.
    pub subject: String,
    /// The client it is about.
    pub client: Option<ClientId>,
    /// What happened, and what to do.
    pub summary: String,
    /// How it stands.
    pub state: State,
    /// How often it happened.
    pub occurrences: i64,
    /// When it happened first.
    pub first_seen_at: DateTime<Utc>,
    /// When it happened last.
    pub last_seen_at: DateTime<Utc>,
    /// Who looks at it.
    pub acknowledged_by: Option<String>,
    /// Since when.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who said that it is over.
    pub resolved_by: Option<String>,
    /// When that was.
    pub resolved_at: Option<DateTime<Utc>>,
    /// How bad it was when everybody had been told last.
    #[serde(skip)]
    pub told_severity: Option<Severity>,
    /// The trace of what it was raised for.
    #[serde(skip)]
    pub traceparent: Option<String>,
    /// Rises with each change.
    pub revision: i64,
}

/// Which thing of which agency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    /// What it is about.
    pub kind: Kind,
    /// Which: there is one open alert for a kind and a subject.
    pub subject: String,
    /// What of it stands or is over; none: it does not end by itself.
    pub item: Option<String>,
    /// The client it is about.
    pub client: Option<ClientId>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct New {
    /// To which thing.
    pub thing: Thing,
    /// How bad.
    pub severity: Severity,
    /// What, and what to do.
    pub summary: String,
}

/// When a fact became true, and the trace it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// When.
    pub at: DateTime<Utc>,
    /// The trace.
    pub traceparent: Option<String>,
}

/// Which alerts are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Those that stand so.
    pub state: Option<State>,
    /// Those that are so bad.
    pub severity: Option<Severity>,
    /// Those about this.
    pub kind: Option<Kind>,
}

/// Takes in that something happened, in the caller's transaction, a worker's. The first time there is a new alert and whoever is to
/// hear of it does; after that it is counted, and told again only when it has become worse. Nothing happens when a later fact says
/// that it is over.
pub(crate) async fn raise(
    conn: &mut PgConnection,
    by: &By,
    new: &New,
    told: Told,
) -> mainstay_db::Result<()> {
    let thing = &new.thing;
    sql::lock_thing(conn, by.agency, thing).await?;
    if !sql::stands(conn, by.agency, thing, told.at, by.now).await? {
        return Ok(());
    }
    let before = sql::find_open(conn, by.agency, thing).await?;
    let after = sql::raise(conn, by, new, &told).await?;
    // Somebody may have resolved it meanwhile: then this is another one.
    let before = before.filter(|before| before.id == after.id);
    let event = match &before {
        None => "escalation.alert.raised",
        Some(before) if after.severity.rank() > before.severity.rank() => "escalation.alert.rose",
        Some(_) => return Ok(()),
    };
    let names = ("escalation.alert.raise", event);
    note(conn, by, names, before.as_ref(), &after).await?;
    tracing::warn!(
        alert = after.kind.as_str(), alert.id = %after.id, severity = after.severity.as_str(),
        "an alert was raised: see {}", after.kind.runbook()
    );
    tell_soon(conn, &after, by.now).await
}

/// Whether an alert that is open says so already, at least as bad.
pub(crate) async fn is_known(
    conn: &mut PgConnection,
    agency: AgencyId,
    thing: &Thing,
    severity: Severity,
) -> mainstay_db::Result<bool> {
    let open = sql::find_open(conn, agency, thing).await?;
    Ok(open.is_some_and(|open| open.severity.reaches(severity)))
}

/// Takes in that something is over, in the caller's transaction, a worker's.
pub(crate) async fn end(
    conn: &mut PgConnection,
    by: &By,
    thing: &Thing,
    at: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    sql::lock_thing(conn, by.agency, thing).await?;
    if sql::is_over(conn, by.agency, thing, at, by.now).await?
        && let Some(before) = sql::find_open(conn, by.agency, thing).await?
        && let Some(before) = sql::lock(conn, by.agency, before.id).await?
        && before.state != State::Resolved
    {
        close(conn, by, &before).await?;
    }
    Ok(())
}

/// Resolves one, under its lock.
async fn close(conn: &mut PgConnection, by: &By, before: &Alert) -> mainstay_db::Result<Alert> {
    let after = Alert {
        state: State::Resolved,
        resolved_by: Some(by.actor.clone()),
        resolved_at: Some(by.now),
        revision: before.revision + 1,
        ..before.clone()
    };
    sql::apply(conn, &after, by.now).await?;
    let names = ("escalation.alert.resolve", "escalation.alert.resolved");
    note(conn, by, names, Some(before), &after).await?;
    tell_soon(conn, &after, by.now).await?;
    Ok(after)
}

/// Has everybody told who is to hear of it as it stands now.
async fn tell_soon(
    conn: &mut PgConnection,
    alert: &Alert,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let payload = tell_alert::Payload {
        alert: alert.id.uuid(),
    };
    let job = NewJob::new(tell_alert::KIND, &payload, now)
        .for_agency(alert.agency)
        .in_trace(alert.traceparent.clone());
    enqueue(conn, job).await?;
    Ok(())
}

/// One of those that may be seen.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    escalating: &Escalating,
    scope: &AgencyScope,
    id: AlertId,
) -> Result<Alert, Error> {
    let mut tx = escalating.database.agency(scope).await?;
    let found = sql::find(tx.conn(), scope.agency, id).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// A page of those that may be seen, the latest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    escalating: &Escalating,
    scope: &AgencyScope,
    filter: Filter,
    page: PageRequest<Uuid>,
) -> Result<Page<Alert>, Error> {
    let (after, limit) = (page.after().copied(), page.limit());
    let mut tx = escalating.database.agency(scope).await?;
    let rows = sql::list(tx.conn(), scope, filter, after, limit).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// Somebody looks at it. Whoever was first stays the one who does.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Resolved`].
pub async fn acknowledge(
    escalating: &Escalating,
    ctx: &Context,
    id: AlertId,
) -> Result<Alert, Error> {
    let (scope, by) = (ctx.agency_scope(), By::actor(ctx, escalating.clock.now()));
    let mut tx = escalating.database.agency(&scope).await?;
    let before = sql::lock(tx.conn(), scope.agency, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    match before.state {
        State::Acknowledged => return Ok(before),
        State::Resolved => return Err(Error::Resolved),
        State::Open => {}
    }
    let after = Alert {
        state: State::Acknowledged,
        acknowledged_by: Some(by.actor.clone()),
        acknowledged_at: Some(by.now),
        revision: before.revision + 1,
        ..before.clone()
    };
    sql::apply(tx.conn(), &after, by.now).await?;
    let names = (
        "escalation.alert.acknowledge",
        "escalation.alert.acknowledged",
    );
    note(tx.conn(), &by, names, Some(&before), &after).await?;
    tx.commit().await?;
    Ok(after)
}

/// Somebody says that it is over.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn resolve(escalating: &Escalating, ctx: &Context, id: AlertId) -> Result<Alert, Error> {
    let (scope, by) = (ctx.agency_scope(), By::actor(ctx, escalating.clock.now()));
    let mut tx = escalating.database.agency(&scope).await?;
    let before = sql::lock(tx.conn(), scope.agency, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    if before.state == State::Resolved {
        return Ok(before);
    }
    let after = close(tx.conn(), &by, &before).await?;
    tx.commit().await?;
    escalating.jobs.wake();
    Ok(after)
}

/// Leaves the audit row and the event.
async fn note(
    conn: &mut PgConnection,
    by: &By,
    (action, event): (&'static str, &'static str),
    before: Option<&Alert>,
    after: &Alert,
) -> mainstay_db::Result<()> {
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: after.client,
        sequence: after.revision,
        before: before.map(record::image),
        after: record::image(after),
    };
    record::write(conn, by, change).await
}
