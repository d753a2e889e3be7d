//! What an occasion reads and writes.
//! Deliberately absent: a second run of one automation for one occasion. The key refuses it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AutomationId, AutomationRunId, ConversationId, LeadId, Tenant};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::automation::definition::{Definition, Trigger};

/// An automation that acts.
pub(super) struct Acting {
    pub(super) id: AutomationId,
    pub(super) version: i32,
    pub(super) definition: Definition,
}

/// The active ones that a trigger sets off. For a client that has left there are none.
pub(super) async fn acting(
    conn: &mut PgConnection,
    tenant: Tenant,
    trigger: Trigger,
) -> Result<Vec<Acting>> {
    let rows = sqlx::query!(
        r#"select a.id as "id: AutomationId", a.version, v.definition as "definition: Json<Definition>"
           from automation a
           join automation_version v on v.tenant_id = a.tenant_id and v.automation_id = a.id and v.version = a.version
           where a.tenant_id = $1 and a.trigger = $2 and a.state = 'active'
             and not exists (select from client_sending s where s.tenant_id = $1 and s.closed_at is not null)
           order by a.id"#,
        tenant.client.uuid(),
        trigger.as_str(),
    )
    .fetch_all(conn)
    .await?;
    let acting = rows.into_iter().map(|row| Acting {
        id: row.id,
        version: row.version,
        definition: row.definition.0,
    });
    Ok(acting.collect())
}

/// Whether an automation ran for a lead within this time. Two occasions of one lead ask one after the other.
pub(super) async fn ran_lately(
    conn: &mut PgConnection,
    tenant: Tenant,
    automation: AutomationId,
    lead: LeadId,
    seconds: i64,
    now: DateTime<Utc>,
) -> Result<bool> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('messaging.automation:' || $1::text || ':' || $2::text, 0))",
        automation.uuid().to_string(),
        lead.uuid().to_string(),
    )
    .execute(&mut *conn)
    .await?;
    let ran = sqlx::query_scalar!(
        r#"select exists (
             select from automation_run
             where tenant_id = $1 and lead_id = $2 and automation_id = $3
               and created_at > $4::timestamptz - make_interval(secs => $5::bigint)) as "ran!""#,
        tenant.client.uuid(),
        lead.uuid(),
        automation.uuid(),
        now,
        seconds as f64,
    )
    .fetch_one(conn)
    .await?;
    Ok(ran)
}

/// A run that begins.
#[derive(Debug, Clone)]
pub(crate) struct NewRun {
    pub(crate) id: AutomationRunId,
    pub(crate) automation: AutomationId,
    pub(crate) version: i32,
    pub(crate) occasion: String,
    pub(crate) lead: LeadId,
    pub(crate) step: i32,
    pub(crate) due_at: DateTime<Utc>,
}

/// What all runs of one occasion share: where it was said, on what of ours, in which sweep, and what is known of it.
pub(crate) type Common<'a> = (
    Option<ConversationId>,
    Option<&'a str>,
    Option<Uuid>,
    &'a Value,
);

/// Begins runs, in one statement. Gives those that had not begun before.
pub(crate) async fn insert_runs(
    conn: &mut PgConnection,
    tenant: Tenant,
    runs: &[NewRun],
    (conversation, sender, sweep, facts): Common<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<NewRun>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = runs.iter().map(|run| run.id.uuid()).collect();
    let automations: Vec<Uuid> = runs.iter().map(|run| run.automation.uuid()).collect();
    let versions: Vec<i32> = runs.iter().map(|run| run.version).collect();
    let occasions: Vec<String> = runs.iter().map(|run| run.occasion.clone()).collect();
    let leads: Vec<Uuid> = runs.iter().map(|run| run.lead.uuid()).collect();
    let steps: Vec<i32> = runs.iter().map(|run| run.step).collect();
    let due: Vec<DateTime<Utc>> = runs.iter().map(|run| run.due_at).collect();
    let begun = sqlx::query_scalar!(
        r#"insert into automation_run (agency_id, tenant_id, id, automation_id, version, occasion, lead_id, conversation_id, sender,
             sweep_id, facts, step, due_at, created_at, updated_at)
           select $1, $2, id, automation_id, version, occasion, lead_id, $3, $4, $5, $6, step, due_at, $7, $7
           from unnest($8::uuid[], $9::uuid[], $10::int[], $11::text[], $12::uuid[], $13::int[], $14::timestamptz[])
             as begun (id, automation_id, version, occasion, lead_id, step, due_at)
           on conflict (tenant_id, automation_id, occasion) do nothing
           returning id as "id: AutomationRunId""#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        conversation.map(ConversationId::uuid),
        sender,
        sweep,
        facts,
        now,
        &ids,
        &automations,
        &versions,
        &occasions,
        &leads,
        &steps,
        &due,
    )
    .fetch_all(conn)
    .await?;
    let begun: HashSet<AutomationRunId> = begun.into_iter().collect();
    let kept = runs.iter().filter(|run| begun.contains(&run.id)).cloned();
    Ok(kept.collect())
}
