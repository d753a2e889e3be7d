//! The query that finds conversations.
//! Deliberately absent: another client's words. The wall does not hold them back here: the tenant does, which every word begins
//! with, and which the statement names.

use mainstay_db::Result;
use mainstay_types::{ConversationId, LeadId, MemberId, Tenant};
use sqlx::PgConnection;

use crate::conversation::sql::Row;
use crate::conversation::{Conversation, Filter, Place};

/// Conversations of which a message has all these words, or whose lead has them in its name or this part in an address.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    (filter, (asked, part)): (&Filter, (&str, Option<&str>)),
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<Conversation>> {
    let state = filter.open.map(|open| if open { "open" } else { "closed" });
    let rows = sqlx::query_as!(
        Row,
        r#"with hit as materialized (
             select s.conversation_id, s.lead_id from search_entry s
             where s.tenant_id = $1 and s.words @@ tenant_query($1, $12, $13)
           ), person as (
             select lead_id as id from hit where lead_id is not null
             union
             select l.id from hit join lead l on l.tenant_id = $1 and l.merged_into = hit.lead_id
           ), found as (
             select conversation_id as id from hit where conversation_id is not null
             union
             select c.id from person join conversation c on c.tenant_id = $1 and c.lead_id = person.id
           )
           select c.id as "id: ConversationId", c.lead_id as "lead: LeadId", coalesce(m.name, l.name) as lead_name, c.channel,
             c.sender, c.address, c.state, c.unread, c.last_activity_at, c.revision, c.taken_over_by,
             c.assigned_to as "assigned_to: MemberId",
             array(select k.label from conversation_label k
                   where k.tenant_id = $1 and k.conversation_id = c.id order by k.label collate "C") as "labels!",
             c.rating_asked_at, c.rating, c.closed_at, c.deleted_at
           from found
           join conversation c on c.tenant_id = $1 and c.id = found.id
           join lead l on l.tenant_id = $1 and l.id = c.lead_id
           left join lead m on m.tenant_id = $1 and m.id = l.merged_into
           where ($2::uuid is null or c.lead_id = $2) and ($3::text is null or c.state = $3)
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
        asked,
        part,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::conversation).collect())
}
