//! All queries about appointments.
//! Deliberately absent: a delete. One that was called off stays, and says so.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AppointmentId, LeadId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Appointment, Filter, State};

struct Row {
    id: AppointmentId,
    lead: LeadId,
    title: String,
    location: Option<String>,
    starts_at: DateTime<Utc>,
    time_zone: String,
    state: String,
    revision: i64,
    created_at: DateTime<Utc>,
}

impl Row {
    /// None for a state or a time zone that only a newer release knows.
    fn appointment(self) -> Option<Appointment> {
        Some(Appointment {
            id: self.id,
            lead: self.lead,
            title: self.title,
            location: self.location,
            starts_at: self.starts_at,
            time_zone: mainstay_types::format::parse_time_zone(&self.time_zone)?,
            state: State::named(&self.state)?,
            revision: self.revision,
            created_at: self.created_at,
        })
    }
}

/// A new one.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    made: &Appointment,
) -> Result<()> {
    sqlx::query!(
        "insert into appointment (agency_id, tenant_id, id, lead_id, title, location, starts_at, time_zone, state, revision,
           created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        made.id.uuid(),
        made.lead.uuid(),
        made.title,
        made.location,
        made.starts_at,
        made.time_zone.name(),
        made.state.as_str(),
        made.revision,
        made.created_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One appointment.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: AppointmentId,
) -> Result<Option<Appointment>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: AppointmentId", lead_id as "lead: LeadId", title, location, starts_at, time_zone, state, revision,
             created_at
           from appointment where tenant_id = $1 and id = $2"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::appointment))
}

/// One appointment, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: AppointmentId,
) -> Result<Option<Appointment>> {
    sqlx::query!(
        "select id from appointment where tenant_id = $1 and id = $2 for no key update",
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    find(conn, tenant, id).await
}

/// Writes what has changed, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: &Appointment,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update appointment
         set title = $3, location = $4, starts_at = $5, time_zone = $6, state = $7, revision = $8, updated_at = $9
         where tenant_id = $1 and id = $2",
        tenant.client.uuid(),
        after.id.uuid(),
        after.title,
        after.location,
        after.starts_at,
        after.time_zone.name(),
        after.state.as_str(),
        after.revision,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A page, the latest booked first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    filter: Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Appointment>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: AppointmentId", lead_id as "lead: LeadId", title, location, starts_at, time_zone, state, revision,
             created_at
           from appointment
           where tenant_id = $1 and ($2::uuid is null or lead_id = $2) and ($3::text is null or state = $3)
             and ($4::uuid is null or id < $4)
           order by id desc limit $5"#,
        tenant.client.uuid(),
        filter.lead.map(LeadId::uuid),
        filter.state.map(State::as_str),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::appointment).collect())
}
