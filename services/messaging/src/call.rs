//! Calls that came in (MSG-40): one row a call, with the lead who called. A call that nobody took is told of once, whatever
//! order its callbacks come in and however often.
//! Deliberately absent: calls of ours, and a conversation. Ringing says nothing that could be answered.

mod error;
mod rpc;
pub mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_types::{AgencyId, AgencyScope, CallId, ClientId, LeadId, Tenant, Visible};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

use crate::Messaging;
use crate::automation::definition::Trigger;
use crate::automation::occasion::{self, Occasion};
use rules::{Standing, Status};

/// A call that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// Who called.
    pub lead: LeadId,
    /// Who carried it.
    pub provider: String,
    /// The provider's id of it.
    pub provider_id: String,
    /// The number that was called.
    pub sender: String,
    /// The number that they called from.
    pub address: String,
    /// What is known of it.
    pub standing: Standing,
    /// When it came in.
    pub started_at: DateTime<Utc>,
    /// When it was known to have ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Rises with each change.
    pub revision: i64,
}

/// Which calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only this lead's.
    pub lead: Option<LeadId>,
    /// Only those that stand so.
    pub status: Option<Status>,
}

/// One call.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(messaging: &Messaging, tenant: Tenant, id: CallId) -> Result<Call, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// A page of calls, newest first.
///
/// # Errors
/// Only the database's.
pub async fn page(
    messaging: &Messaging,
    tenant: Tenant,
    filter: Filter,
    page: PageRequest<Uuid>,
) -> Result<Page<Call>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let after = page.after().copied();
    let rows = sql::list(tx.conn(), tenant, filter, after, page.limit()).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// Whose a call is that is here already.
pub(crate) async fn client_of(
    messaging: &Messaging,
    agency: AgencyId,
    provider: &str,
    provider_id: &str,
) -> mainstay_db::Result<Option<ClientId>> {
    let scope = AgencyScope {
        agency,
        visible: Visible::All,
    };
    let mut tx = messaging.database.worker().agency(&scope).await?;
    let client = sql::client_of(tx.conn(), agency, provider, provider_id).await?;
    tx.commit().await?;
    Ok(client)
}

/// The call of a provider's id, locked.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    provider: &str,
    provider_id: &str,
) -> mainstay_db::Result<Option<Call>> {
    sql::lock(conn, tenant, provider, provider_id).await
}

/// Writes a call that is not here yet. The caller holds what keeps others from writing it meanwhile.
pub(crate) async fn begin(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    new: Call,
) -> mainstay_db::Result<()> {
    if sql::insert(conn, tenant, &new, by.now).await? && new.standing.status == Status::Missed {
        missed(conn, tenant, by, &new).await?;
    }
    Ok(())
}

/// Writes what else is told of a call, under its lock. Whether it was news.
pub(crate) async fn hear(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    before: &Call,
    word: Standing,
    at: DateTime<Utc>,
) -> mainstay_db::Result<bool> {
    let standing = rules::heard(before.standing, word);
    let started_at = before.started_at.min(at);
    if standing.is_none() && started_at == before.started_at {
        return Ok(false);
    }
    let standing = standing.unwrap_or(before.standing);
    let after = Call {
        ended_at: before.ended_at.or(ended(standing, at)),
        standing,
        started_at,
        revision: before.revision + 1,
        ..before.clone()
    };
    sql::apply(conn, tenant, &after, by.now).await?;
    if before.standing.status != Status::Missed && standing.status == Status::Missed {
        missed(conn, tenant, by, &after).await?;
    }
    Ok(true)
}

/// When a call ended that stands so now.
pub(crate) fn ended(standing: Standing, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    matches!(standing.status, Status::Completed | Status::Missed).then_some(at)
}

/// Nobody talked with them: told once a call, in the transaction that finds it out. What follows from it begins here.
async fn missed(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    call: &Call,
) -> mainstay_db::Result<()> {
    let change = Change {
        action: "messaging.call.miss",
        event: "messaging.call.missed",
        noun: "call",
        target: call.id.to_string(),
        client: Some(tenant.client),
        sequence: call.revision,
        before: None,
        after: image(call),
    };
    record::write(conn, by, change).await?;
    let occasion = Occasion {
        trigger: Trigger::CallMissed,
        key: format!("call:{}", call.provider_id),
        lead: call.lead,
        conversation: None,
        // They know the number that they rang.
        sender: Some(&call.sender),
        facts: json!({}),
        starts_at: None,
    };
    occasion::happened(conn, tenant, &occasion, by.now).await?;
    Ok(())
}

/// What audit and events hold of a call: not the numbers, which are the lead's.
fn image(call: &Call) -> Value {
    json!({
        "id": call.id,
        "lead_id": call.lead,
        "status": call.standing.status.as_str(),
        "missed_because": call.standing.because.map(rules::Because::as_str),
        "started_at": call.started_at,
    })
}
