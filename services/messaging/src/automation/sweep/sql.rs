//! What sweeps read and write.
//! Deliberately absent: a second sweep of a day. The key refuses it.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AutomationId, LeadId, MessageId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Candidate, Sweep};
use crate::address::Address;
use crate::automation::Automation;
use crate::automation::definition::Conditions;
use crate::gate::Channel;

/// The day's sweep, begun if it was not, locked.
pub(super) async fn begin(
    conn: &mut PgConnection,
    tenant: Tenant,
    automation: &Automation,
    period: &str,
    now: DateTime<Utc>,
) -> Result<Sweep> {
    let sweep = sqlx::query_as!(
        Sweep,
        r#"insert into automation_sweep as s (agency_id, tenant_id, id, automation_id, version, period, created_at, updated_at)
           values ($1, $2, $3, $4, $5, $6, $7, $7)
           on conflict (tenant_id, automation_id, period) do update set updated_at = excluded.updated_at
           returning id, period, version, state, reason, reached as "reached: LeadId", looked_at, taken_in, passed_over,
             created_at, ended_at"#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        Uuid::now_v7(),
        automation.id.uuid(),
        automation.version,
        period,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(sweep)
}

/// Which leads are looked for.
pub(super) struct Wanted<'a> {
    pub(super) automation: AutomationId,
    pub(super) conditions: &'a Conditions,
    /// They have an address for it.
    pub(super) channel: Option<Channel>,
    /// Nothing was said with them since.
    pub(super) silent_since: DateTime<Utc>,
    /// This automation has not begun for them since.
    pub(super) not_since: DateTime<Utc>,
    pub(super) after: Option<LeadId>,
    pub(super) limit: i64,
}

/// Leads that answer the conditions, in the order of their ids.
pub(super) async fn candidates(
    conn: &mut PgConnection,
    tenant: Tenant,
    wanted: &Wanted<'_>,
) -> Result<Vec<Candidate>> {
    let Conditions {
        statuses,
        sources,
        tags_any,
        tags_none,
    } = wanted.conditions;
    let statuses: Vec<String> = statuses.iter().map(|one| one.as_str().to_owned()).collect();
    let sources: Vec<String> = sources.iter().map(|one| one.as_str().to_owned()).collect();
    let by_mail = wanted.channel.map(|channel| channel == Channel::Email);
    let rows = sqlx::query!(
        r#"select l.id as "lead: LeadId", l.time_zone, l.state,
             (select i.address from lead_identity i
              where i.tenant_id = $1 and i.lead_id = l.id and i.is_primary and (i.kind = 'email') = $2
              order by i.kind limit 1) as address
           from lead l
           where l.tenant_id = $1 and l.merged_into is null and ($3::uuid is null or l.id > $3)
             and l.created_at <= $4
             and ($5::text[] = '{}' or l.status = any ($5)) and ($6::text[] = '{}' or l.source = any ($6))
             and ($7::text[] = '{}' or exists (
               select from lead_tag t where t.tenant_id = $1 and t.lead_id = l.id and t.tag = any ($7)))
             and not exists (select from lead_tag t where t.tenant_id = $1 and t.lead_id = l.id and t.tag = any ($8))
             and not exists (select from conversation c
                             where c.tenant_id = $1 and c.lead_id = l.id and c.last_activity_at > $4)
             and not exists (select from automation_run r
                             where r.tenant_id = $1 and r.lead_id = l.id and r.automation_id = $9 and r.created_at > $10)
             and ($2::bool is null or exists (
               select from lead_identity i
               where i.tenant_id = $1 and i.lead_id = l.id and i.is_primary and (i.kind = 'email') = $2))
           order by l.id limit $11"#,
        tenant.client.uuid(),
        by_mail,
        wanted.after.map(LeadId::uuid),
        wanted.silent_since,
        &statuses,
        &sources,
        tags_any,
        tags_none,
        wanted.automation.uuid(),
        wanted.not_since,
        wanted.limit,
    )
    .fetch_all(conn)
    .await?;
    let candidates = rows.into_iter().map(|row| Candidate {
        lead: row.lead,
        address: row.address.and_then(|text| Address::parse(&text).ok()),
        zone: row
            .time_zone
            .as_deref()
            .and_then(mainstay_types::format::parse_time_zone),
        state: row.state,
    });
    Ok(candidates.collect())
}

/// How far a batch has come.
pub(super) struct Reached {
    pub(super) sweep: Uuid,
    pub(super) last: Option<LeadId>,
    pub(super) looked_at: i64,
    pub(super) taken_in: i64,
    pub(super) done: bool,
}

/// Writes how far it has come.
pub(super) async fn reach(
    conn: &mut PgConnection,
    tenant: Tenant,
    reached: &Reached,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update automation_sweep
         set reached = coalesce($3, reached), looked_at = looked_at + $4, taken_in = taken_in + $5,
             passed_over = passed_over + $4 - $5, updated_at = $7,
             state = case when $6 then 'done' else state end, ended_at = case when $6 then $7::timestamptz end
         where tenant_id = $1 and id = $2",
        tenant.client.uuid(),
        reached.sweep,
        reached.last.map(LeadId::uuid),
        reached.looked_at,
        reached.taken_in,
        reached.done,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What became of a sweep's messages so far.
pub(super) struct Outcomes {
    pub(super) sweep: Uuid,
    pub(super) automation: AutomationId,
    pub(super) period: String,
    pub(super) failed: i64,
    pub(super) ended: i64,
}

/// Of the sweeps that these messages belong to, and that have not stopped.
pub(super) async fn outcomes(
    conn: &mut PgConnection,
    tenant: Tenant,
    failed: &[MessageId],
) -> Result<Vec<Outcomes>> {
    let ids: Vec<Uuid> = failed.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        Outcomes,
        r#"select s.id as sweep, s.automation_id as "automation: AutomationId", s.period,
             count(*) filter (where m.status in ('failed', 'undelivered')) as "failed!",
             count(*) filter (where m.status in ('sent', 'delivered', 'read', 'failed', 'undelivered')) as "ended!"
           from automation_sweep s
           join automation_run r on r.tenant_id = $1 and r.sweep_id = s.id
           join automation_message a on a.tenant_id = $1 and a.run_id = r.id
           join message m on m.tenant_id = $1 and m.id = a.message_id
           where s.tenant_id = $1 and s.state <> 'stopped'
             and s.id in (select r.sweep_id from automation_message a
                          join automation_run r on r.tenant_id = $1 and r.id = a.run_id
                          where a.tenant_id = $1 and a.message_id = any ($2))
           group by s.id, s.automation_id, s.period"#,
        tenant.client.uuid(),
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Ends a sweep, also one that had looked at all.
pub(super) async fn stop(
    conn: &mut PgConnection,
    tenant: Tenant,
    sweep: Uuid,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update automation_sweep set state = 'stopped', reason = $3, ended_at = $4, updated_at = $4
         where tenant_id = $1 and id = $2",
        tenant.client.uuid(),
        sweep,
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A page of an automation's sweeps, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    automation: AutomationId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Sweep>> {
    let rows = sqlx::query_as!(
        Sweep,
        r#"select id, period, version, state, reason, reached as "reached: LeadId", looked_at, taken_in, passed_over, created_at,
             ended_at
           from automation_sweep
           where tenant_id = $1 and automation_id = $2 and ($3::uuid is null or id < $3)
           order by id desc limit $4"#,
        tenant.client.uuid(),
        automation.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
