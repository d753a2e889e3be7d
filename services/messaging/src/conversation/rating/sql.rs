//! The query that finds what a number is an answer to.
//! Deliberately absent: the number. Whether it is one is decided before this is asked.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{ConversationId, Tenant};
use sqlx::PgConnection;

use crate::conversation::Talk;

/// The conversation that these were asked to rate since then, if the question has left and nobody has said anything after it.
pub(super) async fn awaited(
    conn: &mut PgConnection,
    tenant: Tenant,
    talk: &Talk<'_>,
    since: DateTime<Utc>,
) -> Result<Option<ConversationId>> {
    let id = sqlx::query_scalar!(
        r#"select c.id as "id: ConversationId"
           from lead l
           join conversation c on c.tenant_id = $1 and c.lead_id = l.id
           join message q on q.tenant_id = $1 and q.once_key = 'rating:' || c.id::text and q.permitted_at is not null
           where l.tenant_id = $1 and (l.id = $2 or l.merged_into = $2)
             and c.channel = $3 and c.sender = $4 and c.address = $5 and c.state = 'closed' and c.deleted_at is null
             and c.rating is null and c.rating_asked_at > $6
             and not exists (
               select from message m
               where m.tenant_id = $1 and m.lead_id in (c.lead_id, $2) and m.channel = $3 and m.sender = $4 and m.address = $5
                 and m.id <> q.id
                 and case m.direction when 'inbound' then m.created_at > c.rating_asked_at
                                      else m.permitted_at > q.permitted_at end)
           order by c.rating_asked_at desc limit 1"#,
        tenant.client.uuid(),
        talk.lead.uuid(),
        talk.channel.as_str(),
        talk.sender,
        talk.address,
        since,
    )
    .fetch_optional(conn)
    .await?;
    Ok(id)
}
