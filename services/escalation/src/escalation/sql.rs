//! All queries about escalations.
//! Deliberately absent: a delete, and a way to take one that is not pending: the condition stands in the statement.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_jobs::record::By;
use mainstay_types::{
    AgencyId, ClientId, ConversationId, EscalationId, EventId, LeadId, MemberId, Tenant,
};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Cause, Claim, Entry, Escalation, New, Priority, State};
use crate::ladder::{Ladder, Place};

struct Row {
    agency: AgencyId,
    client: ClientId,
    id: EscalationId,
    cause: Cause,
    subject: String,
    lead: Option<LeadId>,
    conversation: Option<ConversationId>,
    summary: String,
    priority: Priority,
    state: State,
    occurrences: i64,
    ladder: Json<Ladder>,
    step: i32,
    round: i32,
    next_step_at: Option<DateTime<Utc>>,
    claimed_by: Option<MemberId>,
    claimed_by_name: Option<String>,
    claimed_at: Option<DateTime<Utc>>,
    fence: i64,
    resolution: Option<String>,
    ended_at: Option<DateTime<Utc>>,
    traceparent: Option<String>,
    revision: i64,
    created_at: DateTime<Utc>,
}

impl From<Row> for Escalation {
    fn from(row: Row) -> Self {
        let claim = match (row.claimed_by, row.claimed_by_name, row.claimed_at) {
            (Some(member), Some(name), Some(at)) => Some(Claim { member, name, at }),
            _ => None,
        };
        Escalation {
            id: row.id,
            tenant: Tenant {
                agency: row.agency,
                client: row.client,
            },
            cause: row.cause,
            subject: row.subject,
            lead: row.lead,
            conversation: row.conversation,
            summary: row.summary,
            priority: row.priority,
            state: row.state,
            occurrences: row.occurrences,
            ladder: row.ladder.0,
            place: Place {
                step: usize::try_from(row.step).unwrap_or_default(),
                round: u32::try_from(row.round).unwrap_or(1),
            },
            next_step_at: row.next_step_at,
            claim,
            fence: row.fence,
            resolution: row.resolution,
            ended_at: row.ended_at,
            traceparent: row.traceparent,
            revision: row.revision,
            created_at: row.created_at,
        }
    }
}

/// One escalation of an agency, as far as it may be seen.
pub(crate) async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: EscalationId,
) -> Result<Option<Escalation>> {
    let row = sqlx::query_as!(
        Row,
        r#"select agency_id as "agency: AgencyId", tenant_id as "client: ClientId", id as "id: EscalationId", cause as "cause: Cause", subject,
             lead_id as "lead: LeadId", conversation_id as "conversation: ConversationId", summary,
             priority as "priority: Priority", state as "state: State", occurrences, ladder as "ladder: Json<Ladder>", step, round,
             next_step_at, claimed_by as "claimed_by: MemberId", claimed_by_name, claimed_at, fence, resolution, ended_at,
             traceparent, revision, created_at
           from escalation where agency_id = $1 and id = $2"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Escalation::from))
}

/// One escalation, locked until the transaction ends.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: EscalationId,
) -> Result<Option<Escalation>> {
    let locked = sqlx::query!(
        "select id from escalation where tenant_id = $1 and id = $2 for no key update",
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    match locked {
        None => Ok(None),
        Some(_) => find(conn, tenant.agency, id).await,
    }
}

/// A page of a client's, the latest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    state: Option<State>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Escalation>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select agency_id as "agency: AgencyId", tenant_id as "client: ClientId", id as "id: EscalationId", cause as "cause: Cause", subject,
             lead_id as "lead: LeadId", conversation_id as "conversation: ConversationId", summary,
             priority as "priority: Priority", state as "state: State", occurrences, ladder as "ladder: Json<Ladder>", step, round,
             next_step_at, claimed_by as "claimed_by: MemberId", claimed_by_name, claimed_at, fence, resolution, ended_at,
             traceparent, revision, created_at
           from escalation
           where tenant_id = $1 and ($2::text is null or state = $2) and ($3::uuid is null or id < $3)
           order by id desc limit $4"#,
        tenant.client.uuid(),
        state.map(State::as_str),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Escalation::from).collect())
}

/// The open ones of a client.
pub(super) async fn all_open(conn: &mut PgConnection, tenant: Tenant) -> Result<Vec<EscalationId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: EscalationId" from escalation
           where tenant_id = $1 and state in ('pending', 'claimed') order by id"#,
        tenant.client.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// A new one, or one more occurrence of the open one for the same thing. True: it is new.
pub(super) async fn raise(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    new: &New,
    ladder: &Ladder,
    traceparent: Option<String>,
) -> Result<(Escalation, bool)> {
    let row = sqlx::query!(
        r#"insert into escalation as e (agency_id, tenant_id, id, cause, subject, lead_id, conversation_id, summary, priority,
             raised_by, ladder, next_step_at, traceparent, created_at, updated_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $12)
           on conflict (tenant_id, subject, cause) where state in ('pending', 'claimed') do update
             set occurrences = e.occurrences + 1, summary = excluded.summary, revision = e.revision + 1,
                 updated_at = excluded.updated_at
           returning id as "id: EscalationId", (xmax = 0) as "fresh!""#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        EscalationId::generate().uuid(),
        new.cause.as_str(),
        new.subject,
        new.lead.map(LeadId::uuid),
        new.conversation.map(ConversationId::uuid),
        new.summary,
        new.priority.as_str(),
        by.actor,
        Json(ladder) as Json<&Ladder>,
        by.now,
        traceparent,
    )
    .fetch_one(&mut *conn)
    .await?;
    let raised = find(conn, tenant.agency, row.id).await?;
    Ok((raised.ok_or(sqlx::Error::RowNotFound)?, row.fresh))
}

/// Takes one, if nobody has it and the member has not left. False: not so.
pub(super) async fn claim(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: EscalationId,
    (member, name): (MemberId, &str),
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update escalation
         set state = 'claimed', claimed_by = $3, claimed_by_name = $4, claimed_at = $5, next_step_at = null, fence = fence + 1,
             revision = revision + 1, updated_at = $5
         where tenant_id = $1 and id = $2 and state = 'pending'
           and not exists (select from departed_member d where d.agency_id = $6 and d.member_id = $3)",
        tenant.client.uuid(),
        id.uuid(),
        member.uuid(),
        name,
        now,
        tenant.agency.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes what has changed, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    after: &Escalation,
    now: DateTime<Utc>,
) -> Result<()> {
    let claim = after.claim.as_ref();
    sqlx::query!(
        "update escalation
         set state = $3, step = $4, round = $5, next_step_at = $6, claimed_by = $7, claimed_by_name = $8, claimed_at = $9,
             fence = $10, resolution = $11, ended_at = $12, revision = $13, updated_at = $14
         where tenant_id = $1 and id = $2",
        after.tenant.client.uuid(),
        after.id.uuid(),
        after.state.as_str(),
        i32::try_from(after.place.step).unwrap_or(i32::MAX),
        i32::try_from(after.place.round).unwrap_or(i32::MAX),
        after.next_step_at,
        claim.map(|claim| claim.member.uuid()),
        claim.map(|claim| claim.name.as_str()),
        claim.map(|claim| claim.at),
        after.fence,
        after.resolution,
        after.ended_at,
        after.revision,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the member has left.
pub(super) async fn has_departed(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from departed_member where agency_id = $1 and member_id = $2) as "found!""#,
        agency.uuid(),
        member.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(found)
}

/// A line of a history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Happened<'a> {
    /// What.
    pub kind: &'static str,
    /// To whom.
    pub member: Option<MemberId>,
    /// Why.
    pub reason: Option<&'a str>,
}

/// Adds a line to its history.
pub(crate) async fn happened(
    conn: &mut PgConnection,
    escalation: &Escalation,
    by: &By,
    happened: Happened<'_>,
) -> Result<()> {
    sqlx::query!(
        "insert into escalation_event (agency_id, tenant_id, id, escalation_id, kind, actor, member_id, reason, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        escalation.tenant.agency.uuid(),
        escalation.tenant.client.uuid(),
        EventId::generate().uuid(),
        escalation.id.uuid(),
        happened.kind,
        by.actor,
        happened.member.map(MemberId::uuid),
        happened.reason,
        by.now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What happened to one, oldest first.
pub(super) async fn history(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: EscalationId,
) -> Result<Vec<Entry>> {
    let rows = sqlx::query_as!(
        Entry,
        r#"select kind, actor, member_id as "member: MemberId", reason, created_at as at
           from escalation_event where tenant_id = $1 and escalation_id = $2 order by id limit 1000"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Keeps a member from leaving, or waits until they have, until the transaction ends: what they take is either seen by whoever
/// lets go of all they have, or not taken.
pub(crate) async fn lock_member(conn: &mut PgConnection, member: MemberId) -> Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))",
        member.to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a member has left, and gives what they had.
pub(crate) async fn depart(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
) -> Result<Vec<(Tenant, EscalationId)>> {
    sqlx::query!(
        "insert into departed_member (agency_id, member_id) values ($1, $2) on conflict do nothing",
        agency.uuid(),
        member.uuid(),
    )
    .execute(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        r#"select tenant_id as "client: ClientId", id as "id: EscalationId" from escalation
           where agency_id = $1 and claimed_by = $2 and state = 'claimed'"#,
        agency.uuid(),
        member.uuid(),
    )
    .fetch_all(conn)
    .await?;
    let tenant = |client| Tenant { agency, client };
    Ok(rows
        .into_iter()
        .map(|row| (tenant(row.client), row.id))
        .collect())
}

/// Forgets that a member has left: they are back.
pub(crate) async fn come_back(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
) -> Result<()> {
    sqlx::query!(
        "delete from departed_member where agency_id = $1 and member_id = $2",
        agency.uuid(),
        member.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Escalations that were open when they were last looked at, in the order of their ids.
pub(crate) async fn watched(
    conn: &mut PgConnection,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<(Tenant, EscalationId)>> {
    let rows = sqlx::query!(
        r#"select agency_id as "agency: AgencyId", tenant_id as "client: ClientId", id as "id: EscalationId" from escalation_watch
           where $1::uuid is null or id > $1 order by id limit $2"#,
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let tenant = |agency, client| Tenant { agency, client };
    Ok(rows
        .into_iter()
        .map(|row| (tenant(row.agency, row.client), row.id))
        .collect())
}

/// Need not be watched any more.
pub(crate) async fn unwatch(conn: &mut PgConnection, id: EscalationId) -> Result<()> {
    sqlx::query!("delete from escalation_watch where id = $1", id.uuid())
        .execute(conn)
        .await?;
    Ok(())
}
