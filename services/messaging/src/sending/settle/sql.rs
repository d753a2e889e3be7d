//! What settling reads and writes.
//! Deliberately absent: deciding. The statuses come from [`crate::message::rules`], under the messages' locks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AttemptId, MessageId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Messaging;
use crate::address::Address;
use crate::carrier::Provider;
use crate::gate::Channel;
use crate::message::rules::Status;

/// A message under its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) status: Status,
    /// The number of its latest try.
    pub(super) attempts: i32,
}

/// How these stand, by id, locked.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: Tenant,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, Standing>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"select id as "id: MessageId", status, attempts from message where tenant_id = $1 and id = any ($2) order by id for update"#,
        tenant.client.uuid(),
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let standing = rows.into_iter().filter_map(|row| {
        let status = Status::named(&row.status)?;
        let attempts = row.attempts;
        Some((row.id, Standing { status, attempts }))
    });
    Ok(standing.collect())
}

/// What is written of one try.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) message: MessageId,
    pub(crate) attempt: AttemptId,
    /// Of the claim; of none when nobody has claimed it.
    pub(crate) fence: i64,
    pub(crate) attempt_state: &'static str,
    pub(crate) provider: &'static str,
    pub(crate) provider_id: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) detail: Option<String>,
    /// None: it stands as it stood.
    pub(crate) status: Option<Status>,
    /// When it is to be tried again, if so.
    pub(crate) again_at: Option<DateTime<Utc>>,
}

impl Write {
    /// Whether the provider may know more of it one day, and would say so if asked.
    fn leaves_open(&self) -> bool {
        self.attempt_state == "accepted"
            && self.status == Some(Status::Sent)
            && Provider::named(self.provider).is_some_and(Provider::can_be_asked)
    }
}

/// Writes outcomes: of the tries, of the messages, and their places in the queue.
pub(crate) async fn write(
    conn: &mut PgConnection,
    messaging: &Messaging,
    tenant: Tenant,
    writes: &[Write],
    now: DateTime<Utc>,
) -> Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::default();
    for one in writes {
        rows.push(one);
    }
    let ask_at = now + messaging.pace.first_ask();
    // A try that a callback has proved taken stays so; its provider need not be asked about what it has told. A queue row
    // that another has claimed meanwhile is that one's; a message that left its place and is to be tried again gets it
    // back, in the order it had.
    sqlx::query!(
        "with ended as (
           select * from unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                                $11::text[], $12::timestamptz[], $14::bool[])
             as ended (message_id, attempt_id, fence, attempt_state, provider, provider_id, code, detail, status, again_at, ask)
         ), attempts as (
           update message_attempt a
           set state = ended.attempt_state, provider_id = coalesce(a.provider_id, ended.provider_id),
               code = coalesce(ended.code, a.code), detail = coalesce(ended.detail, a.detail), updated_at = $13,
               ask_at = case when ended.ask then $15::timestamptz end
           from ended
           where a.tenant_id = $2 and a.id = ended.attempt_id and a.state in ('started', 'unknown')
         ), told_of as (
           update message_attempt a set ask_at = null, updated_at = $13 from ended
           where a.tenant_id = $2 and a.id = ended.attempt_id and a.state = 'accepted' and a.ask_at is not null
             and ended.status <> 'sent'
         ), left_queue as (
           delete from send_queue q using ended
           where q.tenant_id = $2 and q.message_id = ended.message_id and q.fence = ended.fence and ended.again_at is null
         ), again as (
           insert into send_queue (agency_id, tenant_id, message_id, conversation_id, lane, ready_at, due_at)
           select $1, $2, m.id, m.conversation_id, m.channel || ':' || m.sender, coalesce(m.send_at, m.created_at), ended.again_at
           from ended join message m on m.tenant_id = $2 and m.id = ended.message_id
           where ended.again_at is not null
           on conflict (tenant_id, message_id) do update
             set due_at = excluded.due_at, leased_by = null, leased_until = null
         ), told as (
           insert into message_event (agency_id, tenant_id, id, message_id, status, detail, created_at)
           select $1, $2, gen_random_uuid(), message_id, status, detail, $13 from ended where status is not null
         )
         update message m
         set status = coalesce(ended.status, m.status),
             provider = case when ended.attempt_state = 'accepted' then coalesce(m.provider, ended.provider) else m.provider end,
             provider_id = case when ended.attempt_state = 'accepted' then coalesce(m.provider_id, ended.provider_id)
                                else m.provider_id end,
             sent_at = case when ended.attempt_state = 'accepted' then coalesce(m.sent_at, $13) else m.sent_at end,
             delivered_at = case when ended.status in ('delivered', 'read') then coalesce(m.delivered_at, $13)
                                 else m.delivered_at end,
             error_code = case when ended.status in ('sent', 'delivered', 'read') then null
                               else coalesce(ended.code, m.error_code) end,
             error = case when ended.status in ('sent', 'delivered', 'read') then null
                          else coalesce(ended.detail, m.error) end,
             revision = m.revision + 1, updated_at = $13
         from ended where m.tenant_id = $2 and m.id = ended.message_id",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        &rows.messages,
        &rows.attempts,
        &rows.fences,
        &rows.attempt_states,
        &rows.providers,
        &rows.provider_ids as &[Option<String>],
        &rows.codes as &[Option<String>],
        &rows.details as &[Option<String>],
        &rows.statuses as &[Option<String>],
        &rows.again_at as &[Option<DateTime<Utc>>],
        now,
        &rows.asks,
        ask_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Remembers that an address reaches nobody.
pub(super) async fn suppress(
    conn: &mut PgConnection,
    tenant: Tenant,
    channel: Channel,
    address: &Address,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into address_suppression (agency_id, tenant_id, channel, address, reason, created_at)
         values ($1, $2, $3, $4, $5, $6) on conflict (tenant_id, channel, address) do nothing",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        channel.as_str(),
        address.as_str(),
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The columns of a batch.
#[derive(Default)]
struct Rows {
    messages: Vec<Uuid>,
    attempts: Vec<Uuid>,
    fences: Vec<i64>,
    attempt_states: Vec<String>,
    providers: Vec<String>,
    provider_ids: Vec<Option<String>>,
    codes: Vec<Option<String>>,
    details: Vec<Option<String>>,
    statuses: Vec<Option<String>>,
    again_at: Vec<Option<DateTime<Utc>>>,
    asks: Vec<bool>,
}

impl Rows {
    fn push(&mut self, one: &Write) {
        self.messages.push(one.message.uuid());
        self.attempts.push(one.attempt.uuid());
        self.fences.push(one.fence);
        self.attempt_states.push(one.attempt_state.to_owned());
        self.providers.push(one.provider.to_owned());
        self.provider_ids.push(one.provider_id.clone());
        self.codes.push(one.code.clone());
        self.details.push(one.detail.clone());
        self.statuses
            .push(one.status.map(|status| status.as_str().to_owned()));
        self.again_at.push(one.again_at);
        self.asks.push(one.leaves_open());
    }
}
