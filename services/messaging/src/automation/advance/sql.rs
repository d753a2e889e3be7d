//! What taking steps reads and writes: a constant number of statements, however many runs.
//! Deliberately absent: waiting for runs that another takes at this moment.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AutomationId, AutomationRunId, ConversationId, LeadId, MessageId, Tenant};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::Due;
use crate::address::Address;
use crate::automation::RunState;
use crate::automation::definition::Definition;
use crate::automation::rules::Known;
use crate::lead::{Source, Status};

/// Runs that are due, locked, the longest due first.
pub(super) async fn due(
    conn: &mut PgConnection,
    tenant: Tenant,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Due>> {
    find(conn, tenant, None, now, limit).await
}

/// A run whose answer is being written, locked.
pub(crate) async fn find_answering(
    conn: &mut PgConnection,
    tenant: Tenant,
    run: AutomationRunId,
    now: DateTime<Utc>,
) -> Result<Option<Due>> {
    let found = find(conn, tenant, Some(run), now, 1).await?;
    Ok(found.into_iter().next())
}

async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    answering: Option<AutomationRunId>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Due>> {
    let rows = sqlx::query!(
        r#"with picked as materialized (
             select * from automation_run
             where tenant_id = $1
               and case when $2::uuid is null then state = 'running' and due_at <= $3
                        else id = $2 and state = 'answering' end
             order by due_at, id limit $4
             for update skip locked
           )
           select r.id as "id!: AutomationRunId", r.automation_id as "automation!: AutomationId", a.state as automation_state,
             v.definition as "definition: Json<Definition>", l.id as "lead: LeadId", l.name, l.status as "status: Status",
             l.source as "source: Source",
             array(select t.tag from lead_tag t where t.tenant_id = $1 and t.lead_id = l.id) as "tags!",
             (select i.address from lead_identity i
              where i.tenant_id = $1 and i.lead_id = l.id and i.is_primary and i.kind <> 'email'
              order by i.kind limit 1) as phone,
             (select i.address from lead_identity i
              where i.tenant_id = $1 and i.lead_id = l.id and i.is_primary and i.kind = 'email' limit 1) as email,
             r.conversation_id as "conversation: ConversationId", r.sender, r.facts as "facts!", r.step as "step!",
             p.starts_at as "starts_at?",
             exists (select from message m
                     where m.tenant_id = $1 and m.lead_id = l.id and m.direction = 'inbound'
                       and m.created_at > r.created_at) as "replied!",
             c.taken_over_by is not null as "taken_over!"
           from picked r
           join automation a on a.tenant_id = $1 and a.id = r.automation_id
           join automation_version v on v.tenant_id = $1 and v.automation_id = r.automation_id and v.version = r.version
           join lead o on o.tenant_id = $1 and o.id = r.lead_id
           join lead l on l.tenant_id = $1 and l.id = coalesce(o.merged_into, o.id)
           left join conversation c on c.tenant_id = $1 and c.id = r.conversation_id
           left join appointment p on p.tenant_id = $1 and p.id = (r.facts -> 'appointment' ->> 'uuid')::uuid
           order by r.due_at, r.id"#,
        tenant.client.uuid(),
        answering.map(AutomationRunId::uuid),
        now,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let due = rows.into_iter().map(|row| Due {
        id: row.id,
        automation: row.automation,
        active: row.automation_state == "active",
        definition: row.definition.0,
        lead: row.lead,
        lead_name: row.name,
        known: Known {
            status: row.status,
            source: row.source,
            tags: row.tags,
        },
        phone: row.phone.and_then(|text| Address::parse(&text).ok()),
        email: row.email.and_then(|text| Address::parse(&text).ok()),
        conversation: row.conversation,
        sender: row.sender,
        facts: row.facts,
        step: usize::try_from(row.step).unwrap_or(0),
        starts_at: row.starts_at,
        replied: row.replied,
        taken_over: row.taken_over,
    });
    Ok(due.collect())
}

/// The messages that steps made.
pub(crate) async fn link(
    conn: &mut PgConnection,
    tenant: Tenant,
    made: &[(AutomationRunId, usize, MessageId)],
    now: DateTime<Utc>,
) -> Result<()> {
    if made.is_empty() {
        return Ok(());
    }
    let runs: Vec<Uuid> = made.iter().map(|(run, _, _)| run.uuid()).collect();
    let steps: Vec<i32> = made.iter().map(|(_, step, _)| number(*step)).collect();
    let messages: Vec<Uuid> = made.iter().map(|(_, _, message)| message.uuid()).collect();
    sqlx::query!(
        "insert into automation_message (agency_id, tenant_id, run_id, step, message_id, created_at)
         select $1, $2, run_id, step, message_id, $3
         from unnest($4::uuid[], $5::int[], $6::uuid[]) as made (run_id, step, message_id)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        now,
        &runs,
        &steps,
        &messages,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How a run stands after its step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) run: AutomationRunId,
    pub(crate) state: RunState,
    pub(crate) reason: Option<String>,
    pub(crate) step: usize,
    pub(crate) due_at: Option<DateTime<Utc>>,
}

/// Writes how runs stand, under their locks.
pub(crate) async fn step(
    conn: &mut PgConnection,
    tenant: Tenant,
    steps: &[Step],
    now: DateTime<Utc>,
) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let runs: Vec<Uuid> = steps.iter().map(|one| one.run.uuid()).collect();
    let states: Vec<String> = steps
        .iter()
        .map(|one| one.state.as_str().to_owned())
        .collect();
    let reasons: Vec<Option<String>> = steps.iter().map(|one| one.reason.clone()).collect();
    let numbers: Vec<i32> = steps.iter().map(|one| number(one.step)).collect();
    let due: Vec<Option<DateTime<Utc>>> = steps.iter().map(|one| one.due_at).collect();
    sqlx::query!(
        "update automation_run r
         set state = stands.state, reason = stands.reason, step = stands.step, due_at = stands.due_at, updated_at = $2,
             ended_at = case when stands.state in ('running', 'answering') then null else $2::timestamptz end
         from unnest($3::uuid[], $4::text[], $5::text[], $6::int[], $7::timestamptz[])
           as stands (id, state, reason, step, due_at)
         where r.tenant_id = $1 and r.id = stands.id",
        tenant.client.uuid(),
        now,
        &runs,
        &states,
        &reasons as &[Option<String>],
        &numbers,
        &due as &[Option<DateTime<Utc>>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn number(step: usize) -> i32 {
    i32::try_from(step).unwrap_or(i32::MAX)
}
