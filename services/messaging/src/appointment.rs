//! Appointments (MSG-54): booked, moved, kept or not. Booking and moving set reminders off; moving and ending take those of the old
//! time back, in the same transaction.
//! Deliberately absent: calendars, and the reminders' texts. Those are automations'.

mod error;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{AppointmentId, LeadId, Tenant};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;
pub use rules::State;

use crate::automation::definition::Trigger;
use crate::automation::occasion::{self, Occasion};
use crate::message::sql::lock_sending;
use crate::{Messaging, automation, lead};

/// What audit and events call it.
const NOUN: &str = "appointment";

/// An appointment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Appointment {
    /// Its id.
    pub id: AppointmentId,
    /// With whom.
    pub lead: LeadId,
    /// What for.
    pub title: String,
    /// Where.
    pub location: Option<String>,
    /// When.
    pub starts_at: DateTime<Utc>,
    /// The time zone that reminders tell the time in.
    #[serde(serialize_with = "zone_name")]
    pub time_zone: Tz,
    /// How it stands.
    pub state: State,
    /// Rises with each change.
    pub revision: i64,
    /// When it was booked.
    pub created_at: DateTime<Utc>,
}

fn zone_name<S: serde::Serializer>(zone: &Tz, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(zone.name())
}

/// What to book.
#[derive(Debug, Clone)]
pub struct New {
    /// With whom.
    pub lead: LeadId,
    /// What for.
    pub title: String,
    /// Where.
    pub location: Option<String>,
    /// When.
    pub starts_at: DateTime<Utc>,
    /// The time zone that reminders tell the time in.
    pub time_zone: Tz,
}

/// What to change.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// What for.
    pub title: Option<String>,
    /// Where.
    pub location: Option<String>,
    /// When.
    pub starts_at: Option<DateTime<Utc>>,
    /// The time zone that reminders tell the time in.
    pub time_zone: Option<Tz>,
}

/// Which appointments.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only of this lead.
    pub lead: Option<LeadId>,
    /// Only those that stand so.
    pub state: Option<State>,
}

/// Books one.
///
/// # Errors
/// [`Error::NoLead`], [`Error::Once`].
pub async fn create(
    messaging: &Messaging,
    ctx: &Context,
    new: New,
    once: &Once,
    answer: impl FnOnce(&Appointment) -> proto::Appointment,
) -> Result<proto::Appointment, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    lock_sending(tx.conn(), tenant).await?;
    let known = lead::known(tx.conn(), tenant, new.lead).await?;
    let (lead, _) = known.ok_or(Error::NoLead)?;
    let made = Appointment {
        id: AppointmentId::generate(),
        lead,
        title: new.title,
        location: new.location,
        starts_at: new.starts_at,
        time_zone: new.time_zone,
        state: State::Booked,
        revision: 1,
        created_at: by.now,
    };
    sql::insert(tx.conn(), tenant, &made).await?;
    let names = ("messaging.appointment.book", "messaging.appointment.booked");
    note(tx.conn(), tenant, &by, names, None, &made).await?;
    remind(tx.conn(), tenant, &made, by.now).await?;
    let answer = answer(&made);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    messaging.wake_jobs();
    Ok(answer)
}

/// One appointment.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    messaging: &Messaging,
    tenant: Tenant,
    id: AppointmentId,
) -> Result<Appointment, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// A page of a client's, the latest booked first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    messaging: &Messaging,
    tenant: Tenant,
    filter: Filter,
    page: PageRequest<Uuid>,
) -> Result<Page<Appointment>, Error> {
    let (after, limit) = (page.after().copied(), page.limit());
    let mut tx = messaging.database.tenant(tenant).await?;
    let rows = sql::list(tx.conn(), tenant, filter, after, limit).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// Changes one that has not ended.
///
/// # Errors
/// [`Error::NotFound`], [`Error::EtagMismatch`], [`Error::Ended`].
pub async fn update(
    messaging: &Messaging,
    ctx: &Context,
    id: AppointmentId,
    edit: Edit,
    etag: Option<String>,
) -> Result<Appointment, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    lock_sending(tx.conn(), tenant).await?;
    let before = sql::lock(tx.conn(), tenant, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    let current = self::etag(before.revision);
    if etag.is_some_and(|etag| etag != current) {
        return Err(Error::EtagMismatch { current });
    }
    if before.state != State::Booked {
        return Err(Error::Ended(before.state));
    }
    let mut after = before.clone();
    if let Some(title) = edit.title {
        after.title = title;
    }
    if edit.location.is_some() {
        after.location = edit.location;
    }
    if let Some(starts_at) = edit.starts_at {
        after.starts_at = starts_at;
    }
    if let Some(zone) = edit.time_zone {
        after.time_zone = zone;
    }
    if after == before {
        return Ok(before);
    }
    let names = (
        "messaging.appointment.update",
        "messaging.appointment.updated",
    );
    let after = write(tx.conn(), tenant, &by, names, &before, after).await?;
    // What it says has changed as well: the reminders are made anew.
    take_back(tx.conn(), tenant, &after, "appointment_moved", by.now).await?;
    remind(tx.conn(), tenant, &after, by.now).await?;
    tx.commit().await?;
    messaging.wake_jobs();
    Ok(after)
}

/// Cancels one, or says whether it was kept.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Ended`].
pub async fn end(
    messaging: &Messaging,
    ctx: &Context,
    id: AppointmentId,
    state: State,
) -> Result<Appointment, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    lock_sending(tx.conn(), tenant).await?;
    let before = sql::lock(tx.conn(), tenant, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    if before.state == state {
        return Ok(before);
    }
    if before.state != State::Booked {
        return Err(Error::Ended(before.state));
    }
    let after = Appointment {
        state,
        ..before.clone()
    };
    let names = match state {
        State::Canceled => (
            "messaging.appointment.cancel",
            "messaging.appointment.canceled",
        ),
        State::Booked | State::Kept | State::NoShow => {
            ("messaging.appointment.end", "messaging.appointment.ended")
        }
    };
    let after = write(tx.conn(), tenant, &by, names, &before, after).await?;
    take_back(tx.conn(), tenant, &after, "appointment_ended", by.now).await?;
    tx.commit().await?;
    Ok(after)
}

/// Sets its reminders off.
async fn remind(
    conn: &mut PgConnection,
    tenant: Tenant,
    appointment: &Appointment,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let occasion = Occasion {
        trigger: Trigger::AppointmentBooked,
        key: format!("appointment:{}:{}", appointment.id, appointment.revision),
        lead: appointment.lead,
        conversation: None,
        sender: None,
        facts: rules::told(appointment),
        starts_at: Some(appointment.starts_at),
    };
    occasion::happened(conn, tenant, &occasion, now).await?;
    Ok(())
}

/// Takes back the reminders that were set off.
async fn take_back(
    conn: &mut PgConnection,
    tenant: Tenant,
    appointment: &Appointment,
    why: &'static str,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let beginning = format!("appointment:{}:", appointment.id);
    automation::take_back(conn, tenant, (appointment.lead, &beginning), why, now).await
}

/// For If-Match.
pub(crate) fn etag(revision: i64) -> String {
    format!("v{revision}")
}

async fn write(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    names: (&'static str, &'static str),
    before: &Appointment,
    mut after: Appointment,
) -> Result<Appointment, Error> {
    after.revision = before.revision + 1;
    sql::apply(conn, tenant, &after, by.now).await?;
    note(conn, tenant, by, names, Some(before), &after).await?;
    Ok(after)
}

async fn note(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    (action, event): (&'static str, &'static str),
    before: Option<&Appointment>,
    after: &Appointment,
) -> Result<(), Error> {
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
    record::write(conn, by, change).await?;
    Ok(())
}
