//! Queries about messages as people and slices see them; what sending writes is in [`crate::sending`].
//! Deliberately absent: a change of text. What was said was said.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{ConversationId, LeadId, MessageId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::rules::Status;
use super::{Draft, Entry, Granted, Message, Told};
use crate::address::Address;
use crate::fallback;
use crate::gate::{Channel, Purpose};

/// One at a time lets a client's messages go, takes them back, or hears that somebody wants none: whoever commits an
/// opt-out knows that nothing is let go after it. The first statement of each such transaction.
pub(crate) async fn lock_sending(conn: &mut PgConnection, tenant: Tenant) -> Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('messaging.sending:' || $1::text, 0))",
        tenant.client.uuid().to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A message that is to leave.
#[derive(Debug)]
pub(super) struct Outbound<'a> {
    pub(super) id: MessageId,
    pub(super) conversation: ConversationId,
    pub(super) status: Status,
    pub(super) ready_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) lane: String,
    pub(super) draft: Draft<'a>,
}

/// The messages, their places in the queue, their senders' lanes and the first lines of their histories, in one statement.
/// Gives those that were made: one whose once-key is taken is not.
pub(super) async fn insert_outbound(
    conn: &mut PgConnection,
    tenant: Tenant,
    new: &[Outbound<'_>],
    now: DateTime<Utc>,
) -> Result<HashSet<MessageId>> {
    let each = Columns(new);
    let made = sqlx::query_scalar!(
        r#"with wanted as (
             select * from unnest($5::uuid[], $6::uuid[], $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                                  $13::text[], $14::text[], $15::text[], $16::text[], $17::timestamptz[], $18::timestamptz[],
                                  $19::timestamptz[], $20::text[], $21::float8[]) with ordinality
               as wanted (id, conversation_id, lead_id, channel, sender, address, purpose, caused_by, once_key, subject, body,
                          status, send_at, expires_at, ready_at, lane, rate, place)
           ), made as (
             insert into message (agency_id, tenant_id, id, conversation_id, lead_id, direction, channel, sender, address,
               purpose, caused_by, once_key, subject, body, status, send_at, expires_at, traceparent, created_at, updated_at)
             select $1, $2, id, conversation_id, lead_id, 'outbound', channel, sender, address, purpose, caused_by, once_key,
               subject, body, status, send_at, expires_at, $4, $3, $3
             from wanted order by place
             on conflict (tenant_id, once_key) where once_key is not null do nothing
             returning id
           ), queued as (
             insert into send_queue (agency_id, tenant_id, message_id, conversation_id, lane, ready_at, due_at)
             select $1, $2, id, conversation_id, lane, ready_at, ready_at from wanted join made using (id) order by place
           ), lane as (
             insert into send_lane (lane, rate, next_free_at)
             select distinct on (lane) lane, rate, $3::timestamptz from wanted join made using (id) order by lane
             on conflict (lane) do nothing
           ), told as (
             insert into message_event (agency_id, tenant_id, id, message_id, status, created_at)
             select $1, $2, gen_random_uuid(), id, status, $3 from wanted join made using (id)
           )
           select id as "id: MessageId" from made"#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        now,
        mainstay_runtime::telemetry::current_traceparent(),
        &each.of(|one| one.id.uuid()),
        &each.of(|one| one.conversation.uuid()),
        &each.of(|one| one.draft.lead.uuid()),
        &each.of(|one| one.draft.channel.as_str().to_owned()),
        &each.of(|one| one.draft.sender.to_owned()),
        &each.of(|one| one.draft.address.as_str().to_owned()),
        &each.of(|one| one.draft.purpose.as_str().to_owned()),
        &each.of(|one| one.draft.caused_by.to_owned()),
        &each.of(|one| one.draft.once_key.clone()) as &[Option<String>],
        &each.of(|one| one.draft.subject.clone()) as &[Option<String>],
        &each.of(|one| one.draft.body.clone()),
        &each.of(|one| one.status.as_str().to_owned()),
        &each.of(|one| one.draft.send_at) as &[Option<DateTime<Utc>>],
        &each.of(|one| one.expires_at),
        &each.of(|one| one.ready_at),
        &each.of(|one| one.lane.clone()),
        &each.of(|one| one.draft.rate),
    )
    .fetch_all(conn)
    .await?;
    Ok(made.into_iter().collect())
}

/// Rows as columns.
struct Columns<'a>(&'a [Outbound<'a>]);

impl Columns<'_> {
    fn of<T>(&self, column: impl Fn(&Outbound<'_>) -> T) -> Vec<T> {
        self.0.iter().map(column).collect()
    }
}

/// What somebody wrote.
#[derive(Debug)]
pub(crate) struct Inbound<'a> {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub lead: LeadId,
    pub channel: Channel,
    pub sender: &'a str,
    pub address: &'a Address,
    pub subject: Option<&'a str>,
    pub body: &'a str,
    pub provider: &'a str,
    pub provider_id: &'a str,
}

/// Whether a provider's message is here.
pub(crate) async fn is_known(
    conn: &mut PgConnection,
    tenant: Tenant,
    provider: &str,
    provider_id: &str,
) -> Result<bool> {
    let known = sqlx::query_scalar!(
        r#"select exists (select from message where tenant_id = $1 and provider = $2 and provider_id = $3) as "known!""#,
        tenant.client.uuid(),
        provider,
        provider_id,
    )
    .fetch_one(conn)
    .await?;
    Ok(known)
}

/// Whether an address is one that messages leave from here, of whatever client.
pub(crate) async fn sends_from_here(
    conn: &mut PgConnection,
    channel: Channel,
    address: &Address,
) -> Result<bool> {
    let sends = sqlx::query_scalar!(
        r#"select exists (select from send_lane where lane = $1) as "sends!""#,
        super::lane(channel, address.as_str()),
    )
    .fetch_one(conn)
    .await?;
    Ok(sends)
}

/// Keeps what somebody wrote.
pub(crate) async fn insert_inbound(
    conn: &mut PgConnection,
    tenant: Tenant,
    new: &Inbound<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into message (agency_id, tenant_id, id, conversation_id, lead_id, direction, channel, sender, address, caused_by,
           subject, body, status, provider, provider_id, traceparent, created_at, updated_at)
         values ($1, $2, $3, $4, $5, 'inbound', $6, $7, $8, 'lead', $9, $10, 'received', $11, $12, $13, $14, $14)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        new.id.uuid(),
        new.conversation.uuid(),
        new.lead.uuid(),
        new.channel.as_str(),
        new.sender,
        new.address.as_str(),
        new.subject,
        new.body,
        new.provider,
        new.provider_id,
        mainstay_runtime::telemetry::current_traceparent(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Why messages do not leave any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Why<'a> {
    pub code: &'static str,
    pub detail: &'a str,
}

/// Takes messages back that wait; [`lock_sending`] is held. Their places in the queue go when they come up: a request's role
/// does not write machinery's tables.
pub(crate) async fn cancel(
    conn: &mut PgConnection,
    tenant: Tenant,
    ids: &[MessageId],
    why: Why<'_>,
    now: DateTime<Utc>,
) -> Result<u64> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let done = sqlx::query!(
        "with gone as (
           update message set status = 'canceled', error_code = $4, error = $5, revision = revision + 1, updated_at = $6
           where tenant_id = $2 and id = any ($3) and status in ('scheduled', 'queued')
           returning id
         )
         insert into message_event (agency_id, tenant_id, id, message_id, status, detail, created_at)
         select $1, $2, gen_random_uuid(), id, 'canceled', $5, $6 from gone",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        &ids,
        why.code,
        why.detail,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Takes back everything that waits to leave for an address on these channels, but for what answers a word of theirs and
/// codes that they ask for. Locks first, so that nothing of it is being let go meanwhile.
pub(crate) async fn cancel_to(
    conn: &mut PgConnection,
    tenant: Tenant,
    address: &Address,
    channels: &[Channel],
    why: Why<'_>,
    now: DateTime<Utc>,
) -> Result<u64> {
    lock_sending(conn, tenant).await?;
    let channels: Vec<String> = channels.iter().map(|c| c.as_str().to_owned()).collect();
    let waiting = sqlx::query_scalar!(
        r#"select m.id as "id: MessageId" from send_queue q
           join message m on m.tenant_id = q.tenant_id and m.id = q.message_id
           where q.tenant_id = $1 and m.address = $2 and m.channel = any ($3)
             and m.purpose not in ('security_code', 'keyword_reply')"#,
        tenant.client.uuid(),
        address.as_str(),
        &channels,
    )
    .fetch_all(&mut *conn)
    .await?;
    if waiting.is_empty() {
        return Ok(0);
    }
    cancel(conn, tenant, &waiting, why, now).await
}

struct Row {
    id: MessageId,
    conversation: ConversationId,
    lead: LeadId,
    direction: String,
    channel: String,
    sender: String,
    address: String,
    purpose: Option<String>,
    caused_by: String,
    subject: Option<String>,
    body: String,
    status: String,
    error_code: Option<String>,
    error: Option<String>,
    send_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    attempts: i32,
    provider: Option<String>,
    provider_id: Option<String>,
    sent_at: Option<DateTime<Utc>>,
    delivered_at: Option<DateTime<Utc>>,
    revision: i64,
    created_at: DateTime<Utc>,
}

impl Row {
    /// None for a channel or a status that only a newer release knows.
    fn message(self) -> Option<Message> {
        Some(Message {
            id: self.id,
            conversation: self.conversation,
            lead: self.lead,
            inbound: self.direction == "inbound",
            channel: Channel::named(&self.channel)?,
            sender: self.sender,
            address: self.address,
            purpose: self.purpose.as_deref().and_then(Purpose::named),
            caused_by: self.caused_by,
            subject: self.subject,
            body: self.body,
            status: Status::named(&self.status)?,
            error_code: self.error_code,
            error: self.error,
            send_at: self.send_at,
            expires_at: self.expires_at,
            attempts: self.attempts,
            provider: self.provider,
            provider_id: self.provider_id,
            sent_at: self.sent_at,
            delivered_at: self.delivered_at,
            revision: self.revision,
            created_at: self.created_at,
        })
    }
}

/// One message with its history and what let it go.
pub(super) async fn tell(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: MessageId,
) -> Result<Option<Told>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: MessageId", conversation_id as "conversation: ConversationId", lead_id as "lead: LeadId",
             direction, channel, sender, address, purpose, caused_by, subject, body, status, error_code, error, send_at,
             expires_at, attempts, provider, provider_id, sent_at, delivered_at, revision, created_at
           from message where tenant_id = $1 and id = $2"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(message) = row.and_then(Row::message) else {
        return Ok(None);
    };
    let history = sqlx::query!(
        "select status, detail, created_at from message_event where tenant_id = $1 and message_id = $2
         order by created_at, id",
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let permits = sqlx::query_as!(
        Granted,
        "select attempt, rule_version, evidence, decided_at from send_permit where tenant_id = $1 and message_id = $2
         order by attempt",
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let fallback = fallback::find(conn, tenant, id).await?;
    let history = history.into_iter().filter_map(|row| {
        Some(Entry {
            status: Status::named(&row.status)?,
            detail: row.detail,
            at: row.created_at,
        })
    });
    Ok(Some(Told {
        message,
        history: history.collect(),
        permits,
        fallback,
    }))
}

/// Messages of a conversation, in order.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Message>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: MessageId", conversation_id as "conversation: ConversationId", lead_id as "lead: LeadId",
             direction, channel, sender, address, purpose, caused_by, subject, body, status, error_code, error, send_at,
             expires_at, attempts, provider, provider_id, sent_at, delivered_at, revision, created_at
           from message
           where tenant_id = $1 and conversation_id = $2 and ($3::uuid is null or id > $3)
           order by id limit $4"#,
        tenant.client.uuid(),
        conversation.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::message).collect())
}
