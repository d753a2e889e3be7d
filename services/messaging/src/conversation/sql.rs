//! All queries about conversations.
//! Deliberately absent: opening a second one. The index of open ones is what `ensure` meets.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, ConversationId, LeadId, MemberId, Tenant};
use sqlx::PgConnection;

use super::{Conversation, Filter, Place};
use crate::gate::Channel;

/// Between whom something is said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk<'a> {
    /// The lead.
    pub lead: LeadId,
    /// How.
    pub channel: Channel,
    /// Ours.
    pub sender: &'a str,
    /// Theirs.
    pub address: &'a str,
    /// How many of theirs are new.
    pub unread: i64,
}

/// The open conversation of these, made if there is none; something is said in it now.
pub(crate) async fn ensure(
    conn: &mut PgConnection,
    tenant: Tenant,
    talk: Talk<'_>,
    now: DateTime<Utc>,
) -> Result<ConversationId> {
    let found = ensure_all(conn, tenant, &[talk], now).await?;
    Ok(*found.first().ok_or(sqlx::Error::RowNotFound)?)
}

/// The same for each of these, in their order, in one statement.
pub(crate) async fn ensure_all(
    conn: &mut PgConnection,
    tenant: Tenant,
    talks: &[Talk<'_>],
    now: DateTime<Utc>,
) -> Result<Vec<ConversationId>> {
    // Each once, and always in the same order: two of these never wait for each other.
    let distinct: BTreeMap<Between<'_>, (&Talk<'_>, i64)> =
        talks.iter().fold(BTreeMap::new(), |mut distinct, talk| {
            distinct.entry(between(talk)).or_insert((talk, 0)).1 += talk.unread;
            distinct
        });
    let (mut ids, mut leads, mut channels, mut senders, mut addresses, mut unread) = (
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
    );
    for (talk, new) in distinct.values() {
        ids.push(ConversationId::generate().uuid());
        leads.push(talk.lead.uuid());
        channels.push(talk.channel.as_str().to_owned());
        senders.push(talk.sender.to_owned());
        addresses.push(talk.address.to_owned());
        unread.push(*new);
    }
    let rows = sqlx::query!(
        r#"insert into conversation as c (agency_id, tenant_id, id, lead_id, channel, sender, address, unread,
             last_activity_at, created_at, updated_at)
           select $1, $2, id, lead_id, channel, sender, address, unread, $9, $9, $9
           from unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[]) with ordinality
             as wanted (id, lead_id, channel, sender, address, unread, place)
           order by place
           on conflict (tenant_id, lead_id, channel, sender) where state = 'open' do update
             set last_activity_at = greatest(c.last_activity_at, excluded.last_activity_at),
                 unread = c.unread + excluded.unread, updated_at = excluded.updated_at
           returning id as "id: ConversationId", lead_id as "lead: LeadId", channel, sender"#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        &ids,
        &leads,
        &channels,
        &senders,
        &addresses,
        &unread,
        now,
    )
    .fetch_all(conn)
    .await?;
    let open: HashMap<(LeadId, &str, &str), ConversationId> = rows
        .iter()
        .map(|row| {
            (
                (row.lead, row.channel.as_str(), row.sender.as_str()),
                row.id,
            )
        })
        .collect();
    let found = talks
        .iter()
        .filter_map(|talk| open.get(&between(talk)).copied());
    Ok(found.collect())
}

/// What there is one open conversation of.
type Between<'a> = (LeadId, &'a str, &'a str);

fn between<'a>(talk: &Talk<'a>) -> Between<'a> {
    (talk.lead, talk.channel.as_str(), talk.sender)
}

/// A conversation as queries give it.
pub(super) struct Row {
    pub(super) id: ConversationId,
    pub(super) lead: LeadId,
    pub(super) lead_name: Option<String>,
    pub(super) channel: String,
    pub(super) sender: String,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) unread: i64,
    pub(super) last_activity_at: DateTime<Utc>,
    pub(super) revision: i64,
    pub(super) taken_over_by: Option<String>,
    pub(super) assigned_to: Option<MemberId>,
    pub(super) labels: Vec<String>,
    pub(super) rating_asked_at: Option<DateTime<Utc>>,
    pub(super) rating: Option<i16>,
    pub(super) closed_at: Option<DateTime<Utc>>,
    pub(super) deleted_at: Option<DateTime<Utc>>,
}

impl Row {
    /// None for a channel that only a newer release knows.
    pub(super) fn conversation(self) -> Option<Conversation> {
        Some(Conversation {
            id: self.id,
            lead: self.lead,
            lead_name: self.lead_name,
            channel: Channel::named(&self.channel)?,
            sender: self.sender,
            address: self.address,
            open: self.state == "open",
            unread: self.unread,
            last_activity_at: self.last_activity_at,
            revision: self.revision,
            taken_over_by: self.taken_over_by,
            assigned_to: self.assigned_to,
            labels: self.labels,
            rating_asked_at: self.rating_asked_at,
            rating: self.rating,
            closed_at: self.closed_at,
            deleted_at: self.deleted_at,
        })
    }
}

/// Whether there is such a conversation, and it was not deleted.
pub(crate) async fn stands(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: ConversationId,
) -> Result<bool> {
    let stands = sqlx::query_scalar!(
        r#"select exists (select from conversation where tenant_id = $1 and id = $2 and deleted_at is null) as "stands!""#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(stands)
}

/// One conversation, deleted or not.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: ConversationId,
) -> Result<Option<Conversation>> {
    let row = sqlx::query_as!(
        Row,
        r#"select c.id as "id: ConversationId", c.lead_id as "lead: LeadId", coalesce(m.name, l.name) as lead_name, c.channel,
             c.sender, c.address, c.state, c.unread, c.last_activity_at, c.revision, c.taken_over_by,
             c.assigned_to as "assigned_to: MemberId",
             array(select k.label from conversation_label k
                   where k.tenant_id = $1 and k.conversation_id = c.id order by k.label collate "C") as "labels!",
             c.rating_asked_at, c.rating, c.closed_at, c.deleted_at
           from conversation c
           join lead l on l.tenant_id = $1 and l.id = c.lead_id
           left join lead m on m.tenant_id = $1 and m.id = l.merged_into
           where c.tenant_id = $1 and c.id = $2"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::conversation))
}

/// One conversation, deleted or not, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: ConversationId,
) -> Result<Option<Conversation>> {
    sqlx::query!(
        "select id from conversation where tenant_id = $1 and id = $2 for no key update",
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    find(conn, tenant, id).await
}

/// Writes what was changed over the revision before, under its lock; its labels apart.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: &Conversation,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query_scalar!(
        "update conversation
         set state = $3, unread = $4, revision = $5::bigint, updated_at = $6, taken_over_by = $7,
             taken_over_at = case when $7::text is null then null
                                  when $7 = taken_over_by then taken_over_at else $6 end,
             assigned_to = $8, rating_asked_at = $9, rating = $10, closed_at = $11, deleted_at = $12,
             last_activity_at = greatest(last_activity_at, $13)
         where tenant_id = $1 and id = $2 and revision = $5::bigint - 1
         returning id",
        tenant.client.uuid(),
        after.id.uuid(),
        if after.open { "open" } else { "closed" },
        after.unread,
        after.revision,
        now,
        after.taken_over_by,
        after.assigned_to.map(|member| member.uuid()),
        after.rating_asked_at,
        after.rating,
        after.closed_at,
        after.deleted_at,
        after.last_activity_at,
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Writes a conversation's labels, under its lock.
pub(super) async fn label(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: ConversationId,
    labels: &[String],
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "with gone as (
           delete from conversation_label where tenant_id = $2 and conversation_id = $3 and not (label = any ($4))
         )
         insert into conversation_label (agency_id, tenant_id, conversation_id, label, created_at, updated_at)
         select $1, $2, $3, label, $5, $5 from unnest($4::text[]) as label
         on conflict (tenant_id, conversation_id, label) do nothing",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        id.uuid(),
        labels,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Conversations in one query, by what was said last.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    filter: &Filter,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<Conversation>> {
    let state = filter.open.map(|open| if open { "open" } else { "closed" });
    let rows = sqlx::query_as!(
        Row,
        r#"select c.id as "id: ConversationId", c.lead_id as "lead: LeadId", coalesce(m.name, l.name) as lead_name, c.channel,
             c.sender, c.address, c.state, c.unread, c.last_activity_at, c.revision, c.taken_over_by,
             c.assigned_to as "assigned_to: MemberId",
             array(select k.label from conversation_label k
                   where k.tenant_id = $1 and k.conversation_id = c.id order by k.label collate "C") as "labels!",
             c.rating_asked_at, c.rating, c.closed_at, c.deleted_at
           from conversation c
           join lead l on l.tenant_id = $1 and l.id = c.lead_id
           left join lead m on m.tenant_id = $1 and m.id = l.merged_into
           where c.tenant_id = $1 and ($2::uuid is null or c.lead_id = $2) and ($3::text is null or c.state = $3)
             and (not $4 or c.unread > 0)
             and ($5::timestamptz is null or (c.last_activity_at, c.id) < ($5, $6::uuid))
             and ($8::uuid is null or c.assigned_to = $8) and (not $9 or c.assigned_to is null)
             and ($10::text is null or exists (
               select from conversation_label k where k.tenant_id = $1 and k.label = $10 and k.conversation_id = c.id))
             and (c.deleted_at is not null) = $11::bool
           order by c.last_activity_at desc, c.id desc limit $7"#,
        tenant.client.uuid(),
        filter.lead.map(LeadId::uuid),
        state,
        filter.unread,
        after.map(|place| place.last_activity_at),
        after.map(|place| place.id),
        limit,
        filter.assigned_to.map(MemberId::uuid),
        filter.unassigned,
        filter.label,
        filter.deleted,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::conversation).collect())
}

/// The open conversation with a lead that was last active.
pub(crate) async fn open_with(
    conn: &mut PgConnection,
    tenant: Tenant,
    lead: LeadId,
) -> Result<Option<ConversationId>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: ConversationId" from conversation
           where tenant_id = $1 and lead_id = $2 and state = 'open' order by last_activity_at desc, id desc limit 1"#,
        tenant.client.uuid(),
        lead.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(id)
}

/// The clients with whom a member has open conversations.
pub(super) async fn clients_of(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
) -> Result<Vec<ClientId>> {
    let clients = sqlx::query_scalar!(
        r#"select distinct tenant_id as "client: ClientId" from conversation
           where agency_id = $1 and state = 'open' and (assigned_to = $2 or taken_over_by = $3)"#,
        agency.uuid(),
        member.uuid(),
        member.to_string(),
    )
    .fetch_all(conn)
    .await?;
    Ok(clients)
}

/// Open conversations that a member has, or has taken over.
pub(super) async fn held_by(
    conn: &mut PgConnection,
    tenant: Tenant,
    member: MemberId,
    limit: i64,
) -> Result<Vec<ConversationId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: ConversationId" from conversation
           where tenant_id = $1 and state = 'open' and (assigned_to = $2 or taken_over_by = $3) order by id limit $4"#,
        tenant.client.uuid(),
        member.uuid(),
        member.to_string(),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}
