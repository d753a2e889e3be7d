//! All queries about answers.
//! Deliberately absent: what is sent; an answer is a message like any other.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::Result;
use mainstay_types::{ConversationId, MessageId, Tenant};
use sqlx::PgConnection;

use super::Talk;
use crate::address::Address;
use crate::automation::advance::Due;
use crate::gate::Channel;
use crate::model::{Usage, Voice};

/// A conversation as the model reads it: what was said in it last, oldest first.
pub(super) async fn talk(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
    most: i64,
    now: DateTime<Utc>,
) -> Result<Option<Talk>> {
    let day_ago = now - TimeDelta::days(1);
    let row = sqlx::query!(
        r#"select c.channel, c.sender, c.address,
             (select count(*) from message m
              where m.tenant_id = $1 and m.conversation_id = $2 and m.caused_by like 'automation:%' and m.created_at > $3
                and not exists (select from message p
                                where p.tenant_id = $1 and p.conversation_id = $2 and p.direction = 'outbound'
                                  and p.caused_by not like 'automation:%' and p.id > m.id)) as "in_a_row!",
             (select count(*) from model_answer a where a.tenant_id = $1 and a.created_at > $3) as "today!"
           from conversation c where c.tenant_id = $1 and c.id = $2"#,
        tenant.client.uuid(),
        conversation.uuid(),
        day_ago,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let said = sqlx::query!(
        "select direction, body from message
         where tenant_id = $1 and conversation_id = $2
           and status not in ('scheduled', 'queued', 'canceled', 'blocked', 'expired', 'failed')
         order by id desc limit $3",
        tenant.client.uuid(),
        conversation.uuid(),
        most,
    )
    .fetch_all(conn)
    .await?;
    let said = said
        .into_iter()
        .rev()
        .map(|line| match line.direction.as_str() {
            "inbound" => (Voice::Theirs, line.body),
            _ => (Voice::Ours, line.body),
        });
    let said = said.collect();
    Ok(Channel::named(&row.channel)
        .zip(Address::parse(&row.address).ok())
        .map(|(channel, address)| Talk {
            conversation,
            channel,
            sender: row.sender,
            address,
            said,
            in_a_row: row.in_a_row,
            today: row.today,
        }))
}

/// Keeps everybody else from saying anything in a conversation, and from taking it over, until the transaction ends.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
) -> Result<()> {
    sqlx::query!(
        "select id from conversation where tenant_id = $1 and id = $2 for no key update",
        tenant.client.uuid(),
        conversation.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(())
}

/// Why an answer to that text is not wanted any more: they have written again, or somebody of ours has.
pub(super) async fn overtaken(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
    last: Option<MessageId>,
) -> Result<Option<&'static str>> {
    let row = sqlx::query!(
        r#"select
             exists (select from message m where m.tenant_id = $1 and m.conversation_id = $2 and m.direction = 'inbound'
                       and m.id > $3) as "newer!",
             exists (select from message m where m.tenant_id = $1 and m.conversation_id = $2 and m.direction = 'outbound'
                       and m.id > $3 and m.caused_by not like 'automation:%') as "person!""#,
        tenant.client.uuid(),
        conversation.uuid(),
        last.map(MessageId::uuid),
    )
    .fetch_one(conn)
    .await?;
    Ok(match (row.person, row.newer) {
        (true, _) => Some("person_answered"),
        (false, true) => Some("newer_message"),
        (false, false) => None,
    })
}

/// What was asked for, and what it cost.
pub(super) async fn note(
    conn: &mut PgConnection,
    tenant: Tenant,
    due: &Due,
    model: &str,
    usage: Usage,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into model_answer (agency_id, tenant_id, run_id, step, model, tokens_in, tokens_out, cost_micros, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        due.id.uuid(),
        i32::try_from(due.step).unwrap_or(i32::MAX),
        model,
        usage.tokens_in,
        usage.tokens_out,
        usage.cost_micros,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
