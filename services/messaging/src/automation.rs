//! Automations (MSG-30, 31, 37): what leads are written by themselves. An [`occasion`] sets a run off, once; [`advance`] takes
//! the steps of all runs that are due, set-wise; a [`sweep`] is the occasion of those with whom nothing was said for long.
//!
//! ```text
//!  call, form, burst, appointment ─▶ occasion ─┐
//!  once a day ─▶ sweep (batches of leads) ─────┴▶ run ─▶ advance ─▶ message ─▶ gate, one sender
//!                                                  ▲       │ └▶ answer (a model), hand-over (a person)
//!                                                  └ later ┘
//! ```
//! Reading order: [`definition`] (what can be said) → [`rules`] → [`occasion`] → [`advance`] → [`sweep`].
//! Deliberately absent: sending. An automation only puts messages where they wait for the gate's leave.

pub(crate) mod advance;
pub mod definition;
mod error;
pub(crate) mod occasion;
pub(crate) mod render;
mod rpc;
pub mod rules;
mod sql;
pub(crate) mod sweep;
pub mod templates;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{AutomationId, AutomationRunId, LeadId, MessageId, ServiceName, Tenant};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

use crate::Messaging;
use crate::address::Address;
use crate::message::sql::{self as messages, Why, lock_sending};
use definition::{Definition, Trigger};

/// What audit and events call it.
const NOUN: &str = "automation";

/// An automation as its latest version says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Automation {
    /// Its id.
    pub id: AutomationId,
    /// What people call it.
    pub name: String,
    /// Whether it does anything.
    pub active: bool,
    /// Why it has paused itself.
    pub paused_because: Option<String>,
    /// Which version.
    pub version: i32,
    /// What it does.
    pub definition: Definition,
    /// Rises with each change.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Its next step is to come.
    Running,
    /// An answer is being written.
    Answering,
    /// All its steps were taken.
    Done,
    /// It ended before that.
    Stopped,
    /// It could not do what it says.
    Failed,
}

impl RunState {
    /// As the database spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Answering => "answering",
            RunState::Done => "done",
            RunState::Stopped => "stopped",
            RunState::Failed => "failed",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [
            RunState::Running,
            RunState::Answering,
            RunState::Done,
            RunState::Stopped,
            RunState::Failed,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
    }
}

/// What an automation does for one lead at one occasion.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: AutomationRunId,
    /// By which version.
    pub version: i32,
    /// For whom.
    pub lead: LeadId,
    /// What set it off.
    pub occasion: String,
    /// How it stands.
    pub state: RunState,
    /// Why it stands so.
    pub reason: Option<String>,
    /// How many steps are behind.
    pub step: i32,
    /// When the next one is due.
    pub due_at: Option<DateTime<Utc>>,
    /// The messages it made.
    pub messages: Vec<MessageId>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Makes an automation. It is paused.
///
/// # Errors
/// [`Error::Once`].
pub async fn create(
    messaging: &Messaging,
    ctx: &Context,
    (name, definition): (String, Definition),
    once: &Once,
    answer: impl FnOnce(&Automation) -> proto::Automation,
) -> Result<proto::Automation, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let made = Automation {
        id: AutomationId::generate(),
        name,
        active: false,
        paused_because: None,
        version: 1,
        definition,
        revision: 1,
        created_at: by.now,
        updated_at: by.now,
    };
    sql::insert(tx.conn(), tenant, &made, &by.actor).await?;
    let names = (
        "messaging.automation.create",
        "messaging.automation.created",
    );
    note(tx.conn(), tenant, &by, names, None, &made).await?;
    let answer = answer(&made);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// One automation.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    messaging: &Messaging,
    tenant: Tenant,
    id: AutomationId,
) -> Result<Automation, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// A client's automations, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    messaging: &Messaging,
    tenant: Tenant,
    page: PageRequest<Uuid>,
) -> Result<Page<Automation>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let rows = sql::list(tx.conn(), tenant, page.after().copied(), page.limit()).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// What an automation did, newest first.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn runs(
    messaging: &Messaging,
    tenant: Tenant,
    id: AutomationId,
    page: PageRequest<Uuid>,
) -> Result<Page<Run>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let known = sql::find(tx.conn(), tenant, id).await?;
    known.ok_or(Error::NotFound)?;
    let (after, limit) = (page.after().copied(), page.limit());
    let rows = sql::runs(tx.conn(), tenant, id, after, limit).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// What to change.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// What people call it.
    pub name: Option<String>,
    /// What it does.
    pub definition: Option<Definition>,
}

/// Changes an automation. What it does in another way is its next version.
///
/// # Errors
/// [`Error::NotFound`], [`Error::EtagMismatch`].
pub async fn update(
    messaging: &Messaging,
    ctx: &Context,
    id: AutomationId,
    edit: Edit,
    etag: Option<String>,
) -> Result<Automation, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    let before = lock(tx.conn(), tenant, id).await?;
    let current = self::etag(before.revision);
    if etag.is_some_and(|etag| etag != current) {
        return Err(Error::EtagMismatch { current });
    }
    let mut after = before.clone();
    if let Some(name) = edit.name {
        after.name = name;
    }
    if let Some(definition) = edit.definition
        && definition != before.definition
    {
        after.definition = definition;
        after.version += 1;
    }
    if after == before {
        return Ok(before);
    }
    let names = (
        "messaging.automation.update",
        "messaging.automation.updated",
    );
    let after = write(tx.conn(), tenant, &by, names, &before, after).await?;
    if after.active && after.definition.trigger == Trigger::LeadInactive {
        mainstay_jobs::enqueue(tx.conn(), sweep::job(tenant, id, by.now)).await?;
    }
    tx.commit().await?;
    messaging.wake_jobs();
    Ok(after)
}

/// From now on it does what it says.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn activate(
    messaging: &Messaging,
    ctx: &Context,
    id: AutomationId,
) -> Result<Automation, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    let before = lock(tx.conn(), tenant, id).await?;
    if before.active {
        return Ok(before);
    }
    let after = Automation {
        active: true,
        paused_because: None,
        ..before.clone()
    };
    let names = (
        "messaging.automation.activate",
        "messaging.automation.activated",
    );
    let after = write(tx.conn(), tenant, &by, names, &before, after).await?;
    if after.definition.trigger == Trigger::LeadInactive {
        mainstay_jobs::enqueue(tx.conn(), sweep::job(tenant, id, by.now)).await?;
    }
    tx.commit().await?;
    messaging.wake_jobs();
    Ok(after)
}

/// Nothing more begins, what is under way ends, and what waits is taken back.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn pause(
    messaging: &Messaging,
    ctx: &Context,
    id: AutomationId,
) -> Result<Automation, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    lock_sending(tx.conn(), tenant).await?;
    let before = lock(tx.conn(), tenant, id).await?;
    if !before.active {
        return Ok(before);
    }
    let after = halt(tx.conn(), tenant, &by, before, Halt::Asked).await?;
    tx.commit().await?;
    Ok(after)
}

/// Those of a client that act, and those that somebody is still to look at.
pub(crate) async fn all_to_end(
    conn: &mut PgConnection,
    tenant: Tenant,
    because: &'static str,
) -> mainstay_db::Result<Vec<AutomationId>> {
    sql::all_to_end(conn, tenant, because).await
}

/// Ends one because its client has left, in the caller's transaction. Doing it twice is doing it once.
///
/// # Errors
/// [`Error::NotFound`].
pub(crate) async fn end(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    id: AutomationId,
    because: &'static str,
) -> Result<(), Error> {
    lock_sending(conn, tenant).await?;
    let before = lock(conn, tenant, id).await?;
    if before.active
        || before
            .paused_because
            .as_deref()
            .is_some_and(|it| it != because)
    {
        halt(conn, tenant, by, before, Halt::Ended(because)).await?;
    }
    Ok(())
}

/// Why an automation acts no more. Each is an event of its own: only one of them is somebody's to mend.
enum Halt {
    /// A person said so.
    Asked,
    /// Its messages fail.
    Failed(String),
    /// Its client has left.
    Ended(&'static str),
}

impl Halt {
    /// What audit and events call it.
    const fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Asked => ("messaging.automation.pause", "messaging.automation.paused"),
            Self::Failed(_) => ("messaging.automation.pause", "messaging.automation.failed"),
            Self::Ended(_) => ("messaging.automation.end", "messaging.automation.ended"),
        }
    }

    fn because(self) -> Option<String> {
        match self {
            Self::Asked => None,
            Self::Failed(because) => Some(because),
            Self::Ended(because) => Some(because.to_owned()),
        }
    }
}

/// Pauses an automation whose row is locked, in a transaction that has the sending lock.
async fn halt(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    before: Automation,
    halt: Halt,
) -> mainstay_db::Result<Automation> {
    let (names, because) = (halt.names(), halt.because());
    let why = Why {
        code: "automation_paused",
        detail: because.as_deref().unwrap_or("the automation was paused"),
    };
    sql::stop_all(conn, tenant, before.id, why.code, by.now).await?;
    let waiting = sql::waiting(conn, tenant, before.id).await?;
    if !waiting.is_empty() {
        messages::cancel(conn, tenant, &waiting, why, by.now).await?;
    }
    let after = Automation {
        active: false,
        paused_because: because.clone(),
        ..before.clone()
    };
    write(conn, tenant, by, names, &before, after).await
}

/// Ends whatever runs for a person, in the transaction that hears that they want nothing more.
pub(crate) async fn stop_for(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    sql::stop_for(conn, tenant, address, "opted_out", now).await
}

/// Ends what runs for an occasion of a lead whose key begins so, and takes back what of it waits. In a transaction that has the
/// sending lock.
pub(crate) async fn take_back(
    conn: &mut PgConnection,
    tenant: Tenant,
    occasion: (LeadId, &str),
    why: &'static str,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let waiting = sql::stop_occasions(conn, tenant, occasion, why, now).await?;
    if waiting.is_empty() {
        return Ok(());
    }
    let why = Why {
        code: why,
        detail: "what it was about has changed",
    };
    messages::cancel(conn, tenant, &waiting, why, now).await?;
    Ok(())
}

/// For If-Match.
pub(crate) fn etag(revision: i64) -> String {
    format!("v{revision}")
}

async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: AutomationId,
) -> Result<Automation, Error> {
    let found = sql::lock(conn, tenant, id).await?;
    found.ok_or(Error::NotFound)
}

/// Writes an automation as it is after a change, under its lock, with its audit row and event.
async fn write(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    names: (&'static str, &'static str),
    before: &Automation,
    mut after: Automation,
) -> mainstay_db::Result<Automation> {
    after.revision = before.revision + 1;
    after.updated_at = by.now;
    if after.version != before.version {
        sql::insert_version(conn, tenant, &after, &by.actor).await?;
    }
    sql::apply(conn, tenant, &after).await?;
    note(conn, tenant, by, names, Some(before), &after).await?;
    Ok(after)
}

async fn note(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    (action, event): (&'static str, &'static str),
    before: Option<&Automation>,
    after: &Automation,
) -> mainstay_db::Result<()> {
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: Some(tenant.client),
        sequence: after.revision,
        before: before.map(record::image),
        after: record::image(after),
    };
    // What has paused itself is an alert until somebody activates it, or its client leaves.
    let consumers: &'static [ServiceName] = match event {
        "messaging.automation.failed"
        | "messaging.automation.activated"
        | "messaging.automation.ended" => &[ServiceName::Escalation],
        _ => &[],
    };
    record::write_to(conn, by, change, consumers).await
}
