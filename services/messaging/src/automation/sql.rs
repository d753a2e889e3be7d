//! Queries about automations and their runs as people see them, and what ends runs.
//! Deliberately absent: taking steps ([`super::advance`]) and looking at all leads ([`super::sweep`]).

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AutomationId, AutomationRunId, LeadId, MessageId, Tenant};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::definition::Definition;
use super::{Automation, Run, RunState};
use crate::address::Address;

/// The automation with its first version.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    made: &Automation,
    by: &str,
) -> Result<()> {
    sqlx::query!(
        "insert into automation (agency_id, tenant_id, id, name, trigger, version, revision, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        made.id.uuid(),
        made.name,
        made.definition.trigger.as_str(),
        made.version,
        made.revision,
        made.created_at,
    )
    .execute(&mut *conn)
    .await?;
    insert_version(conn, tenant, made, by).await
}

/// The version that the automation is at.
pub(super) async fn insert_version(
    conn: &mut PgConnection,
    tenant: Tenant,
    of: &Automation,
    by: &str,
) -> Result<()> {
    sqlx::query!(
        "insert into automation_version (agency_id, tenant_id, automation_id, version, definition, made_by, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        of.id.uuid(),
        of.version,
        Json(&of.definition) as _,
        by,
        of.updated_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

struct Row {
    id: AutomationId,
    name: String,
    state: String,
    paused_because: Option<String>,
    version: i32,
    definition: Json<Definition>,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Automation {
    fn from(row: Row) -> Automation {
        Automation {
            id: row.id,
            name: row.name,
            active: row.state == "active",
            paused_because: row.paused_because,
            version: row.version,
            definition: row.definition.0,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// One automation.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: AutomationId,
) -> Result<Option<Automation>> {
    let row = sqlx::query_as!(
        Row,
        r#"select a.id as "id: AutomationId", a.name, a.state, a.paused_because, a.version,
             v.definition as "definition: Json<Definition>", a.revision, a.created_at, a.updated_at
           from automation a
           join automation_version v on v.tenant_id = a.tenant_id and v.automation_id = a.id and v.version = a.version
           where a.tenant_id = $1 and a.id = $2"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Automation::from))
}

/// One automation, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: AutomationId,
) -> Result<Option<Automation>> {
    sqlx::query!(
        "select id from automation where tenant_id = $1 and id = $2 for no key update",
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    find(conn, tenant, id).await
}

/// A page of a client's, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Automation>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select a.id as "id: AutomationId", a.name, a.state, a.paused_because, a.version,
             v.definition as "definition: Json<Definition>", a.revision, a.created_at, a.updated_at
           from automation a
           join automation_version v on v.tenant_id = a.tenant_id and v.automation_id = a.id and v.version = a.version
           where a.tenant_id = $1 and ($2::uuid is null or a.id < $2)
           order by a.id desc limit $3"#,
        tenant.client.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Automation::from).collect())
}

/// Writes an automation as it is after a change, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: &Automation,
) -> Result<()> {
    sqlx::query!(
        "update automation
         set name = $3, trigger = $4, state = $5, paused_because = $6, version = $7, revision = $8, updated_at = $9
         where tenant_id = $1 and id = $2",
        tenant.client.uuid(),
        after.id.uuid(),
        after.name,
        after.definition.trigger.as_str(),
        if after.active { "active" } else { "paused" },
        after.paused_because,
        after.version,
        after.revision,
        after.updated_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A page of an automation's runs, newest first, with their messages.
pub(super) async fn runs(
    conn: &mut PgConnection,
    tenant: Tenant,
    automation: AutomationId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Run>> {
    let rows = sqlx::query!(
        r#"select r.id as "id: AutomationRunId", r.version, r.lead_id as "lead: LeadId", r.occasion, r.state, r.reason, r.step,
             r.due_at, r.created_at, r.ended_at,
             array(select m.message_id from automation_message m where m.tenant_id = $1 and m.run_id = r.id
                   order by m.step) as "messages!: Vec<MessageId>"
           from automation_run r
           where r.tenant_id = $1 and r.automation_id = $2 and ($3::uuid is null or r.id < $3)
           order by r.id desc limit $4"#,
        tenant.client.uuid(),
        automation.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let runs = rows.into_iter().filter_map(|row| {
        Some(Run {
            id: row.id,
            version: row.version,
            lead: row.lead,
            occasion: row.occasion,
            // None for a state that only a newer release knows.
            state: RunState::named(&row.state)?,
            reason: row.reason,
            step: row.step,
            due_at: row.due_at,
            messages: row.messages,
            created_at: row.created_at,
            ended_at: row.ended_at,
        })
    });
    Ok(runs.collect())
}

/// Those that are active, and those that paused for another reason than this, by id.
pub(super) async fn all_to_end(
    conn: &mut PgConnection,
    tenant: Tenant,
    because: &str,
) -> Result<Vec<AutomationId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: AutomationId" from automation
           where tenant_id = $1 and (state = 'active' or paused_because <> $2) order by id"#,
        tenant.client.uuid(),
        because,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Ends all that an automation has under way, its sweep included.
pub(super) async fn stop_all(
    conn: &mut PgConnection,
    tenant: Tenant,
    automation: AutomationId,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "with swept as (
           update automation_sweep set state = 'stopped', reason = $3, ended_at = $4, updated_at = $4
           where tenant_id = $1 and automation_id = $2 and state = 'running'
         )
         update automation_run set state = 'stopped', reason = $3, due_at = null, ended_at = $4, updated_at = $4
         where tenant_id = $1 and automation_id = $2 and state in ('running', 'answering')",
        tenant.client.uuid(),
        automation.uuid(),
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What an automation has made that waits to leave.
pub(super) async fn waiting(
    conn: &mut PgConnection,
    tenant: Tenant,
    automation: AutomationId,
) -> Result<Vec<MessageId>> {
    let ids = sqlx::query_scalar!(
        r#"select q.message_id as "id: MessageId" from send_queue q
           join automation_message m on m.tenant_id = q.tenant_id and m.message_id = q.message_id
           join automation_run r on r.tenant_id = m.tenant_id and r.id = m.run_id
           where q.tenant_id = $1 and r.automation_id = $2"#,
        tenant.client.uuid(),
        automation.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Ends what runs for whoever has an address.
pub(super) async fn stop_for(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update automation_run r set state = 'stopped', reason = $3, due_at = null, ended_at = $4, updated_at = $4
         from lead_identity i
         where r.tenant_id = $1 and i.tenant_id = $1 and i.address = $2 and r.lead_id = i.lead_id
           and r.state in ('running', 'answering')",
        tenant.client.uuid(),
        address.as_str(),
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends what runs for an occasion whose key begins so: those of an appointment that has moved.
pub(super) async fn stop_occasions(
    conn: &mut PgConnection,
    tenant: Tenant,
    (lead, beginning): (LeadId, &str),
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Vec<MessageId>> {
    let ids = sqlx::query_scalar!(
        r#"with ended as (
             update automation_run set state = 'stopped', reason = $4, due_at = null, ended_at = $5, updated_at = $5
             where tenant_id = $1 and lead_id = $2 and starts_with(occasion, $3) and state in ('running', 'answering')
           )
           select q.message_id as "id: MessageId" from automation_run r
           join automation_message m on m.tenant_id = r.tenant_id and m.run_id = r.id
           join send_queue q on q.tenant_id = m.tenant_id and q.message_id = m.message_id
           where r.tenant_id = $1 and r.lead_id = $2 and starts_with(r.occasion, $3)"#,
        tenant.client.uuid(),
        lead.uuid(),
        beginning,
        reason,
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}
