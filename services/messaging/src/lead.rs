//! Leads: the people that a client talks with, each known by all its addresses (MSG-01), and how far they have come
//! (MSG-02). An address belongs to one lead of a client, by the table's key.
//!
//! Other slices use [`ensure`] (the lead of an address), [`ensure_by`] (of several addresses), [`reach`] (the address of a lead) and [`advance`] (it has come
//! further), each within their own transaction.
//! Deliberately absent: whether somebody may be written to, which is the gate's; and deleting. A lead that was merged stays.

mod directory;
mod edit;
mod error;
mod fields;
mod import;
mod joined;
mod kinds;
mod merge;
mod rpc;
mod rules;
mod sql;
mod wishes;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_rpc::FieldViolation;
use mainstay_types::{LeadId, MemberId, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;
pub use joined::{Found, Wanted, ensure_by};
pub use kinds::{Engagement, IdentityKind, Industry, Source, Status, TaskPriority};

use crate::Messaging;
use crate::address::Address;
use crate::automation::rules::Known;
use crate::consent::Said;
use crate::gate::Channel;
use crate::gate::rules::Consent;

/// What audit and events call it.
const NOUN: &str = "lead";
/// How often an operation looks again for what others move meanwhile.
const TRIES: u32 = 3;

/// An address of a lead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Its kind.
    pub kind: IdentityKind,
    /// The address.
    pub address: Address,
    /// Whether it is the first of its kind.
    pub primary: bool,
}

/// A lead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lead {
    /// Its id.
    pub id: LeadId,
    /// What people call it.
    pub name: Option<String>,
    /// What another system calls it.
    pub external_id: Option<String>,
    /// How far it has come.
    pub status: Status,
    /// Where it came from.
    pub source: Source,
    /// What it does, or needs done.
    pub industry: Option<Industry>,
    /// Its IANA time zone.
    pub time_zone: Option<String>,
    /// Its state or province, by two letters.
    pub state: Option<String>,
    /// Words by which it is found again, in order.
    pub tags: Vec<String>,
    /// Whatever else is known: text, numbers, true and false.
    pub custom_fields: Map<String, Value>,
    /// Who looks after it.
    pub owner: Option<MemberId>,
    /// How warm it is.
    pub engagement: Engagement,
    /// How urgent its next task is.
    pub task_priority: TaskPriority,
    /// Its addresses, in order.
    pub identities: Vec<Identity>,
    /// The lead that it is part of now.
    pub merged_into: Option<LeadId>,
    /// Rises with each change; the etag says it, and events carry it.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// The fields to set; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// What people call it.
    pub name: Option<String>,
    /// What another system calls it.
    pub external_id: Option<String>,
    /// Its addresses, each the first of its kind from now on.
    pub addresses: Vec<(IdentityKind, Address)>,
    /// Its time zone.
    pub time_zone: Option<String>,
    /// Its state or province.
    pub state: Option<String>,
    /// What it does, or needs done.
    pub industry: Option<Industry>,
    /// All its tags.
    pub tags: Option<Vec<String>>,
    /// Its custom fields; null takes one away.
    pub custom_fields: Map<String, Value>,
    /// Who looks after it.
    pub owner: Option<MemberId>,
    /// How warm it is.
    pub engagement: Option<Engagement>,
    /// How urgent its next task is.
    pub task_priority: Option<TaskPriority>,
}

/// Consent that comes with a new lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// On which channel.
    pub channel: Channel,
    /// On what grounds.
    pub consent: Consent,
    /// How.
    pub said: Said,
}

/// Which leads are listed. Filters narrow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only in this status.
    pub status: Option<Status>,
    /// Only with this tag.
    pub tag: Option<String>,
    /// Only from this source.
    pub source: Option<Source>,
    /// Only of this owner.
    pub owner: Option<MemberId>,
    /// Only those changed then or later.
    pub updated_since: Option<DateTime<Utc>>,
    /// Only those whose name begins with this, or who have this address or this tag; in lower case.
    pub text: Option<String>,
}

/// Where a lead is written to on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The lead; another than was asked for when that was merged.
    pub lead: LeadId,
    /// Its first address for the channel.
    pub address: Address,
    /// Its time zone, if that is known.
    pub zone: Option<Tz>,
    /// Its state or province, if that is known.
    pub state: Option<String>,
    /// What people call it.
    pub name: Option<String>,
}

/// The lead of an address, made if there is none, and whether it was made now. Of any number of callers at once one makes
/// it; the others wait for that one's transaction and then find it. In the caller's transaction, with audit row and event.
///
/// A number that comes with [`Source::InboundWhatsapp`] is kept as one given for WhatsApp.
///
/// # Errors
/// Only the database's.
pub async fn ensure(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    address: &Address,
    source: Source,
) -> Result<(LeadId, bool), Error> {
    if let Some(known) = sql::find_by_address(conn, tenant, address).await? {
        return Ok((known, false));
    }
    let mut lead = rules::blank(LeadId::generate(), source, by.now);
    let identity = Identity {
        kind: match address.is_phone() {
            true if source == Source::InboundWhatsapp => IdentityKind::Whatsapp,
            true => IdentityKind::Phone,
            false => IdentityKind::Email,
        },
        address: address.clone(),
        primary: true,
    };
    if sql::insert_if_unknown(conn, tenant, &lead, &identity).await? {
        lead.identities.push(identity);
        note(conn, tenant, by, Act::Create, None, &lead).await?;
        return Ok((lead.id, true));
    }
    // Somebody was faster, and has committed: an address is never taken from a client's leads again.
    let known = sql::find_by_address(conn, tenant, address).await?;
    known.map(|known| (known, false)).ok_or(Error::Contended)
}

/// What automations go by of a lead, or of the one that it was merged into.
///
/// # Errors
/// Only the database's.
pub(crate) async fn known(
    conn: &mut PgConnection,
    tenant: Tenant,
    lead: LeadId,
) -> mainstay_db::Result<Option<(LeadId, Known)>> {
    let mut wanted = lead;
    // One that was merged and merged again is found the time after next.
    for _ in 0..TRIES {
        let Some(lead) = sql::get(conn, tenant, wanted).await? else {
            return Ok(None);
        };
        match lead.merged_into {
            Some(into) => wanted = into,
            None => {
                let known = Known {
                    status: lead.status,
                    source: lead.source,
                    tags: lead.tags,
                };
                return Ok(Some((lead.id, known)));
            }
        }
    }
    Ok(None)
}

/// Where a lead is written to on a channel: its first address of the kind, or that of the one it was merged into. None
/// when there is no such lead, or it has no such address.
///
/// # Errors
/// Only the database's.
pub async fn reach(
    conn: &mut PgConnection,
    tenant: Tenant,
    lead: LeadId,
    channel: Channel,
) -> Result<Option<Reach>, Error> {
    let Some(lead) = current(conn, tenant, lead).await? else {
        return Ok(None);
    };
    let address = rules::reached(&lead.identities, channel).cloned();
    Ok(address.map(|address| Reach {
        lead: lead.id,
        address,
        zone: zone(&lead),
        state: lead.state,
        name: lead.name,
    }))
}

/// Moves a lead on, for automations: further, or not at all, never back. Whether it moved. Of a lead that was merged the
/// one that it is part of is moved.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn advance(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    lead: LeadId,
    to: Status,
) -> Result<bool, Error> {
    let mut wanted = lead;
    for _ in 0..TRIES {
        let lead = lock(conn, tenant, wanted).await?;
        if let Some(into) = lead.merged_into {
            wanted = into;
            continue;
        }
        let Some(to) = rules::advance(lead.status, to) else {
            return Ok(false);
        };
        moved(conn, tenant, by, &lead, to, None).await?;
        return Ok(true);
    }
    Err(Error::Contended)
}

/// One lead, merged or not.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(messaging: &Messaging, tenant: Tenant, id: LeadId) -> Result<Lead, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let lead = sql::get(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    lead.ok_or(Error::NotFound)
}

/// A client's leads, newest first, without those that were merged into others. Two queries, however many.
///
/// # Errors
/// Only the database's.
pub async fn list(
    messaging: &Messaging,
    tenant: Tenant,
    filter: &Filter,
    page: PageRequest<Uuid>,
) -> Result<Page<Lead>, Error> {
    let (after, limit) = (page.after().copied(), page.limit());
    let mut tx = messaging.database.tenant(tenant).await?;
    let ids = match &filter.text {
        None => sql::list(tx.conn(), tenant, filter, after, limit).await?,
        Some(text) => sql::search(tx.conn(), tenant, text, filter, after, limit).await?,
    };
    let leads = sql::get_all(tx.conn(), tenant, &ids).await?;
    tx.commit().await?;
    Ok(page.page(leads, |lead| lead.id.uuid()))
}

fn fault(field: &str, message: &str) -> Error {
    Error::Invalid(vec![FieldViolation {
        field: field.to_owned(),
        message: message.to_owned(),
    }])
}

impl From<rules::TooMuch> for Error {
    fn from(much: rules::TooMuch) -> Self {
        fault(much.field, much.message)
    }
}

async fn identify(conn: &mut PgConnection, tenant: Tenant, lead: &Lead) -> Result<(), Error> {
    if sql::identify(conn, tenant, lead).await? {
        return Ok(());
    }
    Err(Error::Taken)
}

/// The lead, locked, merged or not.
async fn lock(conn: &mut PgConnection, tenant: Tenant, id: LeadId) -> Result<Lead, Error> {
    sql::lock(conn, tenant, &[id]).await?;
    let lead = sql::get(conn, tenant, id).await?;
    lead.ok_or(Error::NotFound)
}

/// The lead, or the one that it was merged into; not locked.
async fn current(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: LeadId,
) -> Result<Option<Lead>, Error> {
    let mut wanted = id;
    for _ in 0..TRIES {
        match sql::get(conn, tenant, wanted).await? {
            Some(Lead {
                merged_into: Some(into),
                ..
            }) => wanted = into,
            found => return Ok(found),
        }
    }
    Err(Error::Contended)
}

fn zone(lead: &Lead) -> Option<Tz> {
    lead.time_zone
        .as_deref()
        .and_then(mainstay_types::format::parse_time_zone)
}

/// What was done to a lead.
#[derive(Debug, Clone, Copy)]
enum Act<'a> {
    Create,
    Update,
    Move { reopened: Option<&'a str> },
    Merge,
    Import,
}

/// Writes a lead as it is after a change, under its lock, with its audit row and event.
async fn write(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    act: Act<'_>,
    before: &Lead,
    mut after: Lead,
) -> Result<Lead, Error> {
    after.revision = before.revision + 1;
    after.updated_at = by.now;
    sql::apply(conn, tenant, &after).await?;
    if after.tags != before.tags {
        sql::tag(conn, tenant, after.id, &after.tags).await?;
    }
    // Those of a lead that is merged have moved already.
    if after.identities != before.identities && after.merged_into.is_none() {
        identify(conn, tenant, &after).await?;
    }
    note(conn, tenant, by, act, Some(before), &after).await?;
    Ok(after)
}

/// Writes the status, and that it changed.
async fn moved(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    before: &Lead,
    to: Status,
    reopened: Option<&str>,
) -> Result<Lead, Error> {
    let after = Lead {
        status: to,
        ..before.clone()
    };
    let reopened = reopened.filter(|_| rules::advance(before.status, to).is_none());
    write(conn, tenant, by, Act::Move { reopened }, before, after).await
}

async fn note(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    act: Act<'_>,
    before: Option<&Lead>,
    after: &Lead,
) -> Result<(), Error> {
    let (action, event) = match act {
        Act::Create => ("messaging.lead.create", "messaging.lead.created"),
        Act::Update => ("messaging.lead.update", "messaging.lead.updated"),
        Act::Move { .. } => ("messaging.lead.set_status", "messaging.lead.status_changed"),
        Act::Merge => ("messaging.lead.merge", "messaging.lead.merged"),
        Act::Import if before.is_none() => ("messaging.lead.import", "messaging.lead.created"),
        Act::Import => ("messaging.lead.import", "messaging.lead.updated"),
    };
    let mut told = record::image(after);
    if let (Act::Move { reopened }, Value::Object(told), Some(before)) = (act, &mut told, before) {
        told.insert("status_before".to_owned(), json!(before.status));
        told.insert("reopened_because".to_owned(), json!(reopened));
    }
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: Some(tenant.client),
        sequence: after.revision,
        before: before.map(record::image),
        after: told,
    };
    record::write(conn, by, change).await?;
    Ok(())
}
