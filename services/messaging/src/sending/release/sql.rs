//! What letting go reads and writes: one query and two statements for a whole batch.
//! Deliberately absent: a permit's row without its try's, or the other way round.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AttemptId, MessageId, Tenant, format};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Granted, Loaded, Stays, repeats_are_one};
use crate::address::Address;
use crate::carrier::Provider;
use crate::gate::{Channel, Purpose};
use crate::message::rules::Status;
use crate::sending::claim::Claimed;

/// The messages as they stand, locked. One that cannot be read is left out, and so never leaves.
pub(super) async fn load(
    conn: &mut PgConnection,
    tenant: Tenant,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, Loaded>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"select m.id as "id: MessageId", m.channel, m.address, m.purpose as "purpose!", m.subject, m.body, m.status,
             m.expires_at as "expires_at!", m.attempts, m.counted_in is not null as "counted!", m.traceparent,
             l.time_zone, l.state,
             (select a.id from message_attempt a
              where a.tenant_id = m.tenant_id and a.message_id = m.id and a.state = 'started' limit 1) as "open: AttemptId",
             last.account_id as "last_account?", last.provider as "last_provider?", last.state as "last_state?"
           from message m
           join lead l on l.tenant_id = m.tenant_id and l.id = m.lead_id
           left join lateral (select a.account_id, a.provider, a.state from message_attempt a
                              where a.tenant_id = m.tenant_id and a.message_id = m.id
                              order by a.state = 'unknown' desc, a.created_at desc, a.id desc limit 1) last on true
           where m.tenant_id = $1 and m.id = any ($2) and m.direction = 'outbound'
           order by m.id
           for update of m"#,
        tenant.client.uuid(),
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let loaded = rows.into_iter().filter_map(|row| {
        // One doubt is enough, whatever was refused after it: the doubtful mail may be there.
        let repeats = row.last_state.as_deref() == Some("unknown")
            && row
                .last_provider
                .as_deref()
                .and_then(Provider::named)
                .is_some_and(repeats_are_one);
        Some((
            row.id,
            Loaded {
                id: row.id,
                channel: Channel::named(&row.channel)?,
                address: Address::parse(&row.address).ok()?,
                purpose: Purpose::named(&row.purpose)?,
                subject: row.subject,
                body: row.body,
                status: Status::named(&row.status)?,
                expires_at: row.expires_at,
                attempts: row.attempts,
                counted: row.counted,
                zone: row.time_zone.as_deref().and_then(format::parse_time_zone),
                state: row.state,
                traceparent: row.traceparent,
                open_attempt: row.open,
                repeat_account: row.last_account.filter(|_| repeats),
            },
        ))
    });
    Ok(loaded.collect())
}

/// Writes what becomes of those that do not leave now: a later time, an end, or nothing but their way out of the queue.
pub(super) async fn stay(
    conn: &mut PgConnection,
    tenant: Tenant,
    stays: &[(Claimed, Stays)],
    now: DateTime<Utc>,
) -> Result<()> {
    if stays.is_empty() {
        return Ok(());
    }
    let (mut ids, mut fences, mut due, mut aside) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut statuses, mut codes, mut whys) = (Vec::new(), Vec::new(), Vec::new());
    for (claimed, stays) in stays {
        ids.push(claimed.message.uuid());
        fences.push(claimed.fence);
        let (at, steps_aside, status, code, why) = match stays {
            Stays::Gone => (None, false, None, None, None),
            Stays::Later {
                at,
                steps_aside,
                why,
            } => (Some(*at), *steps_aside, None, None, Some(why.clone())),
            Stays::Ends { status, code, why } => (
                None,
                false,
                Some(status.as_str().to_owned()),
                Some(code.clone()),
                Some(why.clone()),
            ),
        };
        due.push(at);
        aside.push(steps_aside);
        statuses.push(status);
        codes.push(code);
        whys.push(why);
    }
    // A claim that another has taken over meanwhile is not ours to hand back: the fence says so.
    sqlx::query!(
        "with stays as (
           select * from unnest($3::uuid[], $4::bigint[], $5::timestamptz[], $6::bool[], $7::text[], $8::text[], $9::text[])
             as stays (message_id, fence, due_at, aside, status, code, why)
         ), later as (
           update send_queue q
           set due_at = stays.due_at, ready_at = case when stays.aside then stays.due_at else q.ready_at end,
               leased_by = null, leased_until = null
           from stays where q.tenant_id = $2 and q.message_id = stays.message_id and q.fence = stays.fence
             and stays.due_at is not null
         ), left_queue as (
           delete from send_queue q using stays
           where q.tenant_id = $2 and q.message_id = stays.message_id and q.fence = stays.fence and stays.due_at is null
         ), ended as (
           update message m
           set status = stays.status, error_code = stays.code, error = stays.why, revision = m.revision + 1, updated_at = $10
           from stays where m.tenant_id = $2 and m.id = stays.message_id and stays.status is not null
         )
         insert into message_event (agency_id, tenant_id, id, message_id, status, detail, created_at)
         select $1, $2, gen_random_uuid(), m.id, coalesce(stays.status, m.status), stays.why, $10
         from stays join message m on m.tenant_id = $2 and m.id = stays.message_id
         where stays.why is not null",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        &ids,
        &fences,
        &due as &[Option<DateTime<Utc>>],
        &aside,
        &statuses as &[Option<String>],
        &codes as &[Option<String>],
        &whys as &[Option<String>],
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes the permits, the tries that they are for, the statuses and the counter.
pub(super) async fn grant(
    conn: &mut PgConnection,
    tenant: Tenant,
    granted: &[Granted],
    period: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    if granted.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::default();
    for one in granted {
        rows.push(one);
    }
    sqlx::query!(
        "with go as (
           select * from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::int[], $7::text[], $8::text[], $9::text[], $10::bytea[],
                                $11::jsonb[], $12::bytea[], $13::timestamptz[], $14::text[], $15::text[], $16::text[],
                                $17::bool[], $18::bool[])
             as go (message_id, permit_id, attempt_id, attempt, channel, purpose, address, content_hash, evidence, signature,
                    expires_at, account_id, provider, sender, capped, counts)
         ), permits as (
           insert into send_permit (agency_id, tenant_id, id, message_id, attempt, channel, purpose, address, content_hash,
             rule_version, evidence, decided_at, expires_at, signature, created_at)
           select $1, $2, permit_id, message_id, attempt, channel, purpose, address, content_hash, $19, evidence, $20,
             expires_at, signature, $20 from go
         ), attempts as (
           insert into message_attempt (agency_id, tenant_id, id, message_id, permit_id, account_id, provider, sender)
           select $1, $2, attempt_id, message_id, permit_id, account_id, provider, sender from go
         ), counted as (
           insert into message_counter as c (agency_id, tenant_id, period, sent, created_at, updated_at)
           select $1, $2, $21, count(*), $20, $20 from go where counts having count(*) > 0
           on conflict (tenant_id, period) do update set sent = c.sent + excluded.sent, updated_at = excluded.updated_at
         ), told as (
           insert into message_event (agency_id, tenant_id, id, message_id, status, detail, created_at)
           select $1, $2, gen_random_uuid(), message_id, 'sending', 'try ' || attempt || ' by ' || provider, $20 from go
         )
         update message m
         set status = 'sending', attempts = go.attempt, permitted_at = coalesce(m.permitted_at, $20),
             capped = m.capped or go.capped, counted_in = case when go.counts then $21 else m.counted_in end,
             error_code = null, error = null, revision = m.revision + 1, updated_at = $20
         from go where m.tenant_id = $2 and m.id = go.message_id",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        &rows.messages,
        &rows.permits,
        &rows.attempts,
        &rows.numbers,
        &rows.channels,
        &rows.purposes,
        &rows.addresses,
        &rows.hashes,
        &rows.evidence,
        &rows.signatures,
        &rows.expiries,
        &rows.accounts,
        &rows.providers,
        &rows.senders,
        &rows.capped,
        &rows.counts,
        crate::gate::RULE_VERSION,
        now,
        period,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The columns of a batch.
#[derive(Default)]
struct Rows {
    messages: Vec<Uuid>,
    permits: Vec<Uuid>,
    attempts: Vec<Uuid>,
    numbers: Vec<i32>,
    channels: Vec<String>,
    purposes: Vec<String>,
    addresses: Vec<String>,
    hashes: Vec<Vec<u8>>,
    evidence: Vec<Value>,
    signatures: Vec<Vec<u8>>,
    expiries: Vec<DateTime<Utc>>,
    accounts: Vec<String>,
    providers: Vec<String>,
    senders: Vec<String>,
    capped: Vec<bool>,
    counts: Vec<bool>,
}

impl Rows {
    fn push(&mut self, one: &Granted) {
        let (permit, envelope, account) =
            (&one.going.permit, &one.going.envelope, &one.going.account);
        self.messages.push(envelope.message.uuid());
        self.permits.push(permit.id());
        self.attempts.push(one.attempt.uuid());
        self.numbers.push(envelope.number);
        self.channels.push(envelope.channel.as_str().to_owned());
        self.purposes.push(envelope.purpose.as_str().to_owned());
        self.addresses.push(envelope.address.as_str().to_owned());
        self.hashes.push(one.kept_hash.to_vec());
        let found = permit.evidence().iter();
        self.evidence.push(Value::Array(
            found
                .map(|found| json!({"rule": found.rule.as_str(), "found": found.found}))
                .collect(),
        ));
        self.signatures.push(permit.signature().to_vec());
        self.expiries.push(permit.expires_at());
        self.accounts.push(account.id.clone());
        self.providers.push(account.provider.as_str().to_owned());
        self.senders.push(account.sender.clone());
        self.capped.push(one.capped);
        self.counts.push(one.counts);
    }
}
