//! All queries about leads, their addresses and their tags.
//! Deliberately absent: a delete of a lead or of an address. A lead that was merged stays, and its addresses move.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{LeadId, MemberId, Tenant};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Edit, Engagement, Filter, Identity, Industry, Lead, Source, Status, TaskPriority};
use crate::address::Address;

struct Row {
    id: LeadId,
    name: Option<String>,
    external_id: Option<String>,
    status: Status,
    source: Source,
    industry: Option<Industry>,
    time_zone: Option<String>,
    state: Option<String>,
    custom_fields: Json<Map<String, Value>>,
    owner: Option<MemberId>,
    engagement: Engagement,
    task_priority: TaskPriority,
    merged_into: Option<LeadId>,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    tags: Vec<String>,
    identities: Json<Vec<Identity>>,
}

impl From<Row> for Lead {
    fn from(row: Row) -> Lead {
        let (mut tags, mut identities) = (row.tags, row.identities.0);
        // In our order, which is that of no database's locale.
        tags.sort_unstable();
        identities.sort_unstable();
        Lead {
            id: row.id,
            name: row.name,
            external_id: row.external_id,
            status: row.status,
            source: row.source,
            industry: row.industry,
            time_zone: row.time_zone,
            state: row.state,
            tags,
            custom_fields: row.custom_fields.0,
            owner: row.owner,
            engagement: row.engagement,
            task_priority: row.task_priority,
            identities,
            merged_into: row.merged_into,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// What a search by the beginning of a name compares.
pub(super) fn key(text: &str) -> String {
    text.to_lowercase()
}

/// These leads, newest first.
pub(super) async fn get_all(
    conn: &mut PgConnection,
    tenant: Tenant,
    ids: &[Uuid],
) -> Result<Vec<Lead>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select l.id as "id: LeadId", l.name, l.external_id, l.status as "status: Status", l.source as "source: Source",
             l.industry as "industry: Industry", l.time_zone, l.state,
             l.custom_fields as "custom_fields: Json<Map<String, Value>>", l.owner_member_id as "owner: MemberId",
             l.engagement as "engagement: Engagement", l.task_priority as "task_priority: TaskPriority",
             l.merged_into as "merged_into: LeadId", l.revision, l.created_at, l.updated_at,
             array(select t.tag from lead_tag t where t.tenant_id = $1 and t.lead_id = l.id) as "tags!",
             coalesce(
               (select jsonb_agg(jsonb_build_object('kind', i.kind, 'address', i.address, 'primary', i.is_primary))
                from lead_identity i where i.tenant_id = $1 and i.lead_id = l.id), '[]') as "identities!: Json<Vec<Identity>>"
           from lead l where l.tenant_id = $1 and l.id = any ($2)
           order by l.id desc"#,
        tenant.client.uuid(),
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Lead::from).collect())
}

/// One lead.
pub(super) async fn get(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: LeadId,
) -> Result<Option<Lead>> {
    let found = get_all(conn, tenant, &[id.uuid()]).await?;
    Ok(found.into_iter().next())
}

/// Locks leads, in the order of their ids, whatever order they are named in.
pub(super) async fn lock(conn: &mut PgConnection, tenant: Tenant, ids: &[LeadId]) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        "select id from lead where tenant_id = $1 and id = any ($2) order by id for no key update",
        tenant.client.uuid(),
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// The lead that has an address.
pub(super) async fn find_by_address(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
) -> Result<Option<LeadId>> {
    let id = sqlx::query_scalar!(
        r#"select lead_id as "lead_id: LeadId" from lead_identity where tenant_id = $1 and address = $2"#,
        tenant.client.uuid(),
        address.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(id)
}

/// A lead that an edit names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// By which address; by the external id when there is none.
    pub address: Option<String>,
    /// Which lead; of one that was merged, the one that it is part of.
    pub lead: LeadId,
}

/// The leads that have one of the addresses, or the external id, of an edit.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    edit: &Edit,
) -> Result<Vec<Known>> {
    let addresses: Vec<String> = edit
        .addresses
        .iter()
        .map(|(_, address)| address.as_str().to_owned())
        .collect();
    let known = sqlx::query_as!(
        Known,
        r#"select null as "address", coalesce(merged_into, id) as "lead!: LeadId"
           from lead where tenant_id = $1 and external_id = $2
           union all
           select address, lead_id from lead_identity where tenant_id = $1 and address = any ($3)"#,
        tenant.client.uuid(),
        edit.external_id,
        &addresses,
    )
    .fetch_all(conn)
    .await?;
    Ok(known)
}

/// Writes a new lead with its one address, unless a lead has the address: one statement, so that nothing is left of one
/// that came too late. Waits for whoever is writing the same address.
pub(super) async fn insert_if_unknown(
    conn: &mut PgConnection,
    tenant: Tenant,
    lead: &Lead,
    identity: &Identity,
) -> Result<bool> {
    let made = sqlx::query!(
        "with identity as (
           insert into lead_identity (agency_id, tenant_id, address, kind, lead_id, is_primary, created_at, updated_at)
           values ($1, $2, $3, $4, $5, true, $11, $11)
           on conflict (tenant_id, address) do nothing
           returning lead_id
         )
         insert into lead (agency_id, tenant_id, id, status, source, engagement, task_priority, revision, created_at, updated_at)
         select $1, $2, identity.lead_id, $6, $7, $8, $9, $10, $11, $11 from identity",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        identity.address.as_str(),
        identity.kind.as_str(),
        lead.id.uuid(),
        lead.status.as_str(),
        lead.source.as_str(),
        lead.engagement.as_str(),
        lead.task_priority.as_str(),
        lead.revision,
        lead.created_at,
    )
    .execute(conn)
    .await?;
    Ok(made.rows_affected() == 1)
}

/// Writes a new lead, without addresses and tags.
pub(super) async fn insert(conn: &mut PgConnection, tenant: Tenant, lead: &Lead) -> Result<()> {
    sqlx::query!(
        "insert into lead (agency_id, tenant_id, id, name, name_key, external_id, status, source, industry, time_zone, state,
           custom_fields, owner_member_id, engagement, task_priority, revision, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        lead.id.uuid(),
        lead.name,
        lead.name.as_deref().map(key),
        lead.external_id,
        lead.status.as_str(),
        lead.source.as_str(),
        lead.industry.map(Industry::as_str),
        lead.time_zone,
        lead.state,
        Json(&lead.custom_fields) as _,
        lead.owner.map(|owner| owner.uuid()),
        lead.engagement.as_str(),
        lead.task_priority.as_str(),
        lead.revision,
        lead.created_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes a lead over the revision before, under its lock; its addresses and tags apart.
pub(super) async fn apply(conn: &mut PgConnection, tenant: Tenant, lead: &Lead) -> Result<()> {
    sqlx::query_scalar!(
        "update lead set name = $3, name_key = $4, external_id = $5, status = $6, industry = $7, time_zone = $8, state = $9,
           custom_fields = $10, owner_member_id = $11, engagement = $12, task_priority = $13, merged_into = $14,
           revision = $15::bigint, updated_at = $16
         where tenant_id = $1 and id = $2 and revision = $15::bigint - 1
         returning id",
        tenant.client.uuid(),
        lead.id.uuid(),
        lead.name,
        lead.name.as_deref().map(key),
        lead.external_id,
        lead.status.as_str(),
        lead.industry.map(Industry::as_str),
        lead.time_zone,
        lead.state,
        Json(&lead.custom_fields) as _,
        lead.owner.map(|owner| owner.uuid()),
        lead.engagement.as_str(),
        lead.task_priority.as_str(),
        lead.merged_into.map(|into| into.uuid()),
        lead.revision,
        lead.updated_at,
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Writes a lead's addresses, under its lock or with its making. False when another lead has one of them; then nothing
/// else may be written, and the transaction is rolled back. Waits for whoever is writing one of the same.
pub(super) async fn identify(conn: &mut PgConnection, tenant: Tenant, lead: &Lead) -> Result<bool> {
    let (mut kinds, mut addresses, mut primaries) = (Vec::new(), Vec::new(), Vec::new());
    for identity in &lead.identities {
        kinds.push(identity.kind.as_str().to_owned());
        addresses.push(identity.address.as_str().to_owned());
        if identity.primary {
            primaries.push(identity.address.as_str().to_owned());
        }
    }
    // In the order of the addresses, those that stay as well, so that no two of these wait for each other. First none is
    // the first of its kind, then the right one is.
    let written = sqlx::query!(
        "insert into lead_identity (agency_id, tenant_id, address, kind, lead_id, is_primary, created_at, updated_at)
         select $1, $2, given.address, given.kind, $3, false, $6, $6
         from unnest($4::text[], $5::text[]) as given (address, kind)
         order by given.address collate \"C\"
         on conflict (tenant_id, address) do update
           set kind = excluded.kind, is_primary = false, updated_at = excluded.updated_at
           where lead_identity.lead_id = excluded.lead_id",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        lead.id.uuid(),
        &addresses,
        &kinds,
        lead.updated_at,
    )
    .execute(&mut *conn)
    .await?;
    if written.rows_affected() != lead.identities.len() as u64 {
        return Ok(false);
    }
    sqlx::query!(
        "update lead_identity set is_primary = true where tenant_id = $1 and lead_id = $2 and address = any ($3)",
        tenant.client.uuid(),
        lead.id.uuid(),
        &primaries,
    )
    .execute(conn)
    .await?;
    Ok(true)
}

/// Gives all addresses of a lead to another, none of them as the first of its kind; and all that was merged into the one
/// to the other. Under the locks of both.
pub(super) async fn hand_over(
    conn: &mut PgConnection,
    tenant: Tenant,
    (from, into): (LeadId, LeadId),
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update lead_identity set lead_id = $3, is_primary = false, updated_at = $4 where tenant_id = $1 and lead_id = $2",
        tenant.client.uuid(),
        from.uuid(),
        into.uuid(),
        now,
    )
    .execute(&mut *conn)
    .await?;
    // So that whoever asks for one of them finds the lead that lives in one step.
    sqlx::query!(
        "update lead set merged_into = $3, updated_at = $4 where tenant_id = $1 and merged_into = $2",
        tenant.client.uuid(),
        from.uuid(),
        into.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes a lead's tags, under its lock or with its making.
pub(super) async fn tag(
    conn: &mut PgConnection,
    tenant: Tenant,
    lead: LeadId,
    tags: &[String],
) -> Result<()> {
    sqlx::query!(
        "with gone as (
           delete from lead_tag where tenant_id = $2 and lead_id = $3 and not (tag = any ($4))
         )
         insert into lead_tag (agency_id, tenant_id, lead_id, tag) select $1, $2, $3, tag from unnest($4::text[]) as tag
         on conflict (tenant_id, lead_id, tag) do nothing",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        lead.uuid(),
        tags,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The ids of a page of leads, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "select id from lead
         where tenant_id = $1 and merged_into is null and ($2::uuid is null or id < $2)
           and ($3::text is null or status = $3) and ($4::text is null or source = $4)
           and ($5::uuid is null or owner_member_id = $5) and ($6::timestamptz is null or updated_at >= $6)
           and ($7::text is null
                or exists (select from lead_tag t where t.tenant_id = $1 and t.tag = $7 and t.lead_id = lead.id))
         order by id desc limit $8",
        tenant.client.uuid(),
        after,
        filter.status.map(Status::as_str),
        filter.source.map(Source::as_str),
        filter.owner.map(|owner| owner.uuid()),
        filter.updated_since,
        filter.tag,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// The same of those whose name begins with a text, or who have it as an address or a tag. Each of the three is read from
/// its own index.
pub(super) async fn search(
    conn: &mut PgConnection,
    tenant: Tenant,
    text: &str,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>> {
    let key = key(text);
    // Nothing in UTF-8 sorts after this by its bytes.
    let end = format!("{key}\u{10FFFF}");
    let ids = sqlx::query_scalar!(
        "select lead.id from lead
         join (select id from lead where tenant_id = $1 and merged_into is null and name_key >= $9 and name_key < $10
               union select lead_id from lead_identity where tenant_id = $1 and address = $9
               union select lead_id from lead_tag where tenant_id = $1 and tag = $9) found on found.id = lead.id
         where tenant_id = $1 and merged_into is null and ($2::uuid is null or lead.id < $2)
           and ($3::text is null or status = $3) and ($4::text is null or source = $4)
           and ($5::uuid is null or owner_member_id = $5) and ($6::timestamptz is null or updated_at >= $6)
           and ($7::text is null
                or exists (select from lead_tag t where t.tenant_id = $1 and t.tag = $7 and t.lead_id = lead.id))
         order by lead.id desc limit $8",
        tenant.client.uuid(),
        after,
        filter.status.map(Status::as_str),
        filter.source.map(Source::as_str),
        filter.owner.map(|owner| owner.uuid()),
        filter.updated_since,
        filter.tag,
        limit,
        key,
        end,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}
