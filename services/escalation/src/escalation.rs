//! Escalations (ESC-01..03): a person is called, one takes it, and says how it ended.
//! Deliberately absent: calling. [`crate::ladder`] decides who is called, [`crate::notice`] tells them.
//!
//! Reading order: [`kinds`] → this (raised and read) → [`act`] (taken, given back, ended) → [`advance`] (the ladder goes on) →
//! [`audit`] (nobody is left waiting).

pub mod act;
pub(crate) mod advance;
pub(crate) mod audit;
mod error;
pub mod kinds;
mod rpc;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_jobs::{NewJob, enqueue};
use mainstay_proto::escalation::v1 as proto;
use mainstay_rpc::Context;
use mainstay_runtime::telemetry;
use mainstay_types::{AgencyScope, ConversationId, EscalationId, LeadId, MemberId, Tenant};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;
pub use kinds::{Cause, Priority, State};

use crate::Escalating;
use crate::jobs::advance_escalation;
use crate::ladder::{self, Ladder, Place};

/// What audit and events call it.
const NOUN: &str = "escalation";

/// A call for a person.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Escalation {
    /// Its id.
    pub id: EscalationId,
    /// Whose.
    #[serde(skip)]
    pub tenant: Tenant,
    /// Why.
    pub cause: Cause,
    /// About what.
    pub subject: String,
    /// The lead it is about.
    pub lead: Option<LeadId>,
    /// The conversation it is about.
    pub conversation: Option<ConversationId>,
    /// What whoever is called should know.
    pub summary: String,
    /// How urgent it is.
    pub priority: Priority,
    /// How it stands.
    pub state: State,
    /// How often it was called for.
    pub occurrences: i64,
    /// The ladder it began with.
    #[serde(skip)]
    pub ladder: Ladder,
    /// What comes next on it.
    #[serde(skip)]
    pub place: Place,
    /// When.
    pub next_step_at: Option<DateTime<Utc>>,
    /// Who has it, or had it when it was resolved.
    pub claim: Option<Claim>,
    /// Rises with each claim, release and reassignment.
    pub fence: i64,
    /// How it ended.
    pub resolution: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The trace of what it was raised for.
    #[serde(skip)]
    pub traceparent: Option<String>,
    /// Rises with each change.
    pub revision: i64,
    /// When it was raised.
    pub created_at: DateTime<Utc>,
}

/// Who has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// Which member.
    pub member: MemberId,
    /// Their name then.
    pub name: String,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// What a person is called for.
#[derive(Debug, Clone)]
pub struct New {
    /// Why.
    pub cause: Cause,
    /// About what: there is one open escalation for a subject and a cause.
    pub subject: String,
    /// The lead it is about.
    pub lead: Option<LeadId>,
    /// The conversation it is about.
    pub conversation: Option<ConversationId>,
    /// What whoever is called should know.
    pub summary: String,
    /// How urgent it is.
    pub priority: Priority,
}

/// A line of its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub kind: String,
    /// Who.
    pub actor: String,
    /// To whom.
    pub member: Option<MemberId>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Calls for a person because somebody asks for it.
///
/// # Errors
/// [`Error::Once`].
pub async fn create(
    escalating: &Escalating,
    ctx: &Context,
    new: New,
    once: &Once,
    answer: impl FnOnce(&Escalation) -> proto::Escalation,
) -> Result<proto::Escalation, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, escalating.clock.now()));
    let mut tx = escalating.database.tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let trace = telemetry::current_traceparent();
    let raised = raise(tx.conn(), tenant, &by, &new, trace).await?;
    let answer = answer(&raised);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    escalating.jobs.wake();
    Ok(answer)
}

/// Calls for a person, in the caller's transaction. While there is an open call for the same thing, that one is it.
pub(crate) async fn raise(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    new: &New,
    traceparent: Option<String>,
) -> mainstay_db::Result<Escalation> {
    let ladder = ladder::of(conn, tenant).await?;
    let (raised, fresh) = sql::raise(conn, tenant, by, new, &ladder, traceparent).await?;
    let names = match fresh {
        true => (
            "escalation.escalation.raise",
            "escalation.escalation.raised",
        ),
        false => (
            "escalation.escalation.raise",
            "escalation.escalation.raised_again",
        ),
    };
    let kind = if fresh { "raised" } else { "again" };
    let entry = sql::Happened {
        kind,
        member: None,
        reason: Some(&new.summary),
    };
    note(conn, by, names, entry, None, &raised).await?;
    if fresh {
        timer(conn, &raised, by.now).await?;
    }
    Ok(raised)
}

/// Queues what comes next on its ladder. Each timer is for one place and one fence: one that comes late finds another and
/// does nothing.
pub(crate) async fn timer(
    conn: &mut PgConnection,
    escalation: &Escalation,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let Some(due) = escalation.next_step_at else {
        return Ok(());
    };
    let payload = advance_escalation::Payload {
        escalation: escalation.id.uuid(),
        fence: escalation.fence,
        step: escalation.place.step,
        round: escalation.place.round,
    };
    let job = NewJob::new(advance_escalation::KIND, &payload, now)
        .for_tenant(escalation.tenant)
        .in_trace(escalation.traceparent.clone())
        .at(due);
    enqueue(conn, job).await?;
    Ok(())
}

/// One escalation of those that may be seen.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    escalating: &Escalating,
    scope: &AgencyScope,
    id: EscalationId,
) -> Result<Escalation, Error> {
    let mut tx = escalating.database.agency(scope).await?;
    let found = sql::find(tx.conn(), scope.agency, id).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// One with its history, oldest first.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn read(
    escalating: &Escalating,
    scope: &AgencyScope,
    id: EscalationId,
) -> Result<(Escalation, Vec<Entry>), Error> {
    let mut tx = escalating.database.agency(scope).await?;
    let found = sql::find(tx.conn(), scope.agency, id).await?;
    let found = found.ok_or(Error::NotFound)?;
    let history = sql::history(tx.conn(), found.tenant, id).await?;
    tx.commit().await?;
    Ok((found, history))
}

/// A page of a client's, the latest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    escalating: &Escalating,
    tenant: Tenant,
    state: Option<State>,
    page: PageRequest<Uuid>,
) -> Result<Page<Escalation>, Error> {
    let (after, limit) = (page.after().copied(), page.limit());
    let mut tx = escalating.database.tenant(tenant).await?;
    let rows = sql::list(tx.conn(), tenant, state, after, limit).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// Leaves the line of its history, the audit row and the event.
pub(crate) async fn note(
    conn: &mut PgConnection,
    by: &By,
    (action, event): (&'static str, &'static str),
    happened: sql::Happened<'_>,
    before: Option<&Escalation>,
    after: &Escalation,
) -> mainstay_db::Result<()> {
    sql::happened(conn, after, by, happened).await?;
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: Some(after.tenant.client),
        sequence: after.revision,
        before: before.map(record::image),
        after: record::image(after),
    };
    record::write(conn, by, change).await
}
