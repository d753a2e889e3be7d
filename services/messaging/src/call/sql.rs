//! All queries about calls.
//! Deliberately absent: a delete. Who called is known for as long as the client is.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, CallId, ClientId, LeadId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::rules::{Because, Standing, Status};
use super::{Call, Filter};

struct Row {
    id: CallId,
    lead: LeadId,
    provider: String,
    provider_id: String,
    sender: String,
    address: String,
    status: String,
    settled: bool,
    missed_because: Option<String>,
    duration_seconds: Option<i32>,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    revision: i64,
}

impl Row {
    /// None for a status that only a newer release knows.
    fn call(self) -> Option<Call> {
        Some(Call {
            id: self.id,
            lead: self.lead,
            provider: self.provider,
            provider_id: self.provider_id,
            sender: self.sender,
            address: self.address,
            standing: Standing {
                status: Status::named(&self.status)?,
                because: self.missed_because.as_deref().and_then(Because::named),
                settled: self.settled,
                seconds: self.duration_seconds,
            },
            started_at: self.started_at,
            ended_at: self.ended_at,
            revision: self.revision,
        })
    }
}

/// Writes a new call. False when there is one with its provider's id.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    call: &Call,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "insert into call (agency_id, tenant_id, id, lead_id, provider, provider_id, sender, address, status, settled,
           missed_because, duration_seconds, started_at, ended_at, revision, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16)
         on conflict (tenant_id, provider, provider_id) do nothing",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        call.id.uuid(),
        call.lead.uuid(),
        call.provider,
        call.provider_id,
        call.sender,
        call.address,
        call.standing.status.as_str(),
        call.standing.settled,
        call.standing.because.map(Because::as_str),
        call.standing.seconds,
        call.started_at,
        call.ended_at,
        call.revision,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes what can change of a call over the revision before, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    call: &Call,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query_scalar!(
        "update call set status = $3, settled = $4, missed_because = $5, duration_seconds = $6, started_at = $7, ended_at = $8,
           revision = $9::bigint, updated_at = $10
         where tenant_id = $1 and id = $2 and revision = $9::bigint - 1
         returning id",
        tenant.client.uuid(),
        call.id.uuid(),
        call.standing.status.as_str(),
        call.standing.settled,
        call.standing.because.map(Because::as_str),
        call.standing.seconds,
        call.started_at,
        call.ended_at,
        call.revision,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// The call of a provider's id, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    provider: &str,
    provider_id: &str,
) -> Result<Option<Call>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: CallId", lead_id as "lead: LeadId", provider, provider_id, sender, address, status, settled,
             missed_because, duration_seconds, started_at, ended_at, revision
           from call where tenant_id = $1 and provider = $2 and provider_id = $3 for no key update"#,
        tenant.client.uuid(),
        provider,
        provider_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::call))
}

/// Whose a call is.
pub(super) async fn client_of(
    conn: &mut PgConnection,
    agency: AgencyId,
    provider: &str,
    provider_id: &str,
) -> Result<Option<ClientId>> {
    let client = sqlx::query_scalar!(
        r#"select tenant_id as "client: ClientId" from call
           where agency_id = $1 and provider_id = $2 and provider = $3 limit 1"#,
        agency.uuid(),
        provider_id,
        provider,
    )
    .fetch_optional(conn)
    .await?;
    Ok(client)
}

/// One call.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: CallId,
) -> Result<Option<Call>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: CallId", lead_id as "lead: LeadId", provider, provider_id, sender, address, status, settled,
             missed_because, duration_seconds, started_at, ended_at, revision
           from call where tenant_id = $1 and id = $2"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::call))
}

/// A page of calls, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    filter: Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Call>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: CallId", lead_id as "lead: LeadId", provider, provider_id, sender, address, status, settled,
             missed_because, duration_seconds, started_at, ended_at, revision
           from call
           where tenant_id = $1 and ($2::uuid is null or lead_id = $2) and ($3::text is null or status = $3)
             and ($4::uuid is null or id < $4)
           order by id desc limit $5"#,
        tenant.client.uuid(),
        filter.lead.map(|lead| lead.uuid()),
        filter.status.map(Status::as_str),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::call).collect())
}
