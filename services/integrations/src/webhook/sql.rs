//! All queries of the webhook inbox. The id of a webhook tells its partition, so every access by id names both.
//! Deliberately absent: a query of the app role that writes. Requests of people only look.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use mainstay_types::{AgencyId, ClientId, WebhookEventId};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{Filter, NewWebhook, State, WebhookEvent, rules};

/// The columns of a batch, each key once.
#[derive(Debug, Default)]
pub struct Batch {
    ids: Vec<Uuid>,
    slots: Vec<i16>,
    providers: Vec<String>,
    accounts: Vec<String>,
    event_keys: Vec<String>,
    types: Vec<String>,
    content_types: Vec<String>,
    bodies: Vec<Bytes>,
    received_ats: Vec<DateTime<Utc>>,
    traceparents: Vec<Option<String>>,
}

impl Batch {
    /// One more, under this id if it is new.
    pub fn push(&mut self, id: Uuid, webhook: NewWebhook) {
        self.ids.push(id);
        self.slots.push(rules::slot(id));
        self.providers.push(webhook.key.provider);
        self.accounts.push(webhook.key.account);
        self.event_keys.push(webhook.key.event_key);
        self.types.push(webhook.kind);
        self.content_types.push(webhook.content_type);
        self.bodies.push(webhook.body);
        self.received_ats.push(webhook.received_at);
        self.traceparents.push(webhook.traceparent);
    }

    /// Whether there is nothing left in it.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Leaves those out that are done.
    pub fn without(&mut self, done: &HashMap<Uuid, WebhookEventId>) {
        let kept: Vec<bool> = self.ids.iter().map(|id| !done.contains_key(id)).collect();
        fn sift<T>(column: &mut Vec<T>, kept: &[bool]) {
            let mut kept = kept.iter();
            column.retain(|_| kept.next().copied().unwrap_or(false));
        }
        sift(&mut self.ids, &kept);
        sift(&mut self.slots, &kept);
        sift(&mut self.providers, &kept);
        sift(&mut self.accounts, &kept);
        sift(&mut self.event_keys, &kept);
        sift(&mut self.types, &kept);
        sift(&mut self.content_types, &kept);
        sift(&mut self.bodies, &kept);
        sift(&mut self.received_ats, &kept);
        sift(&mut self.traceparents, &kept);
    }
}

/// Remembers the keys that are new and stores their webhooks, due at once, in one statement. Gives the ids of those; the
/// others' keys are remembered by whoever was first, and when this returns that one is durable.
pub async fn insert(
    conn: &mut PgConnection,
    batch: &Batch,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Uuid>> {
    let bodies: Vec<&[u8]> = batch.bodies.iter().map(AsRef::as_ref).collect();
    // In the order of the keys, so that two batches cannot deadlock.
    sqlx::query_scalar!(
        r#"with given as materialized (
             select * from unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                                  $8::bytea[], $9::timestamptz[], $10::text[])
               as given (id, slot, provider, account, event_key, type, content_type, body, received_at, traceparent)
           ), remembered as (
             insert into webhook_dedup (provider, account, event_key, webhook_event_id, expires_at)
             select provider, account, event_key, id, now() + interval '120 days' from given
             order by provider, account, event_key
             on conflict (provider, account, event_key) do nothing
             returning webhook_event_id
           )
           insert into webhook_event (id, slot, provider, account, event_key, type, content_type, body, received_at,
                                      traceparent, due_at)
           select id, slot, provider, account, event_key, type, content_type, body, received_at, traceparent, $11
           from given where id in (select webhook_event_id from remembered)
           returning id"#,
        &batch.ids,
        &batch.slots,
        &batch.providers,
        &batch.accounts,
        &batch.event_keys,
        &batch.types,
        &batch.content_types,
        &bodies as &[&[u8]],
        &batch.received_ats,
        &batch.traceparents as &[Option<String>],
        now,
    )
    .fetch_all(conn)
    .await
}

/// Moves the expiry of keys on that are remembered: whoever still repeats, is still remembered. Gives for the id of each
/// webhook the id that the first with its key is stored under.
pub async fn remember_again(
    conn: &mut PgConnection,
    batch: &Batch,
) -> sqlx::Result<HashMap<Uuid, WebhookEventId>> {
    // Locked in the order of the keys, for the same reason.
    let rows = sqlx::query!(
        r#"with known as (
             select given.id, d.provider, d.account, d.event_key
             from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as given (id, provider, account, event_key)
             join webhook_dedup d using (provider, account, event_key)
             order by d.provider, d.account, d.event_key
             for update of d
           )
           update webhook_dedup d set expires_at = now() + interval '120 days'
           from known
           where d.provider = known.provider and d.account = known.account and d.event_key = known.event_key
           returning known.id as "given!", d.webhook_event_id as "stored!""#,
        &batch.ids,
        &batch.providers,
        &batch.accounts,
        &batch.event_keys,
    )
    .fetch_all(conn)
    .await?;
    let ids = rows
        .into_iter()
        .map(|row| (row.given, WebhookEventId::from_uuid(row.stored)));
    Ok(ids.collect())
}

/// An agency's webhooks older than `before`, newest first.
pub async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    filter: &Filter,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<WebhookEvent>> {
    sqlx::query_as!(
        WebhookEvent,
        r#"select id as "id: WebhookEventId", tenant_id as "client: ClientId", provider, event_key, type as "kind", state,
                  attempts, outcome, error, traceparent, received_at, processed_at, replays, replayed_at
           from webhook_event
           where agency_id = $1 and id < $2 and ($3::text is null or provider = $3)
             and ($4::text is null or state = $4) and ($5::text is null or type = $5)
           order by id desc limit $6"#,
        agency.uuid(),
        before,
        filter.provider.as_deref(),
        filter.state.map(State::as_str),
        filter.kind.as_deref(),
        limit,
    )
    .fetch_all(conn)
    .await
}

/// One webhook of an agency.
pub async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: WebhookEventId,
) -> sqlx::Result<Option<WebhookEvent>> {
    sqlx::query_as!(
        WebhookEvent,
        r#"select id as "id: WebhookEventId", tenant_id as "client: ClientId", provider, event_key, type as "kind", state,
                  attempts, outcome, error, traceparent, received_at, processed_at, replays, replayed_at
           from webhook_event
           where agency_id = $1 and id = $2 and slot = webhook_slot($2)"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await
}

/// The partitions that hold something older than `oldest_kept`.
pub async fn list_outdated_slots(
    conn: &mut PgConnection,
    oldest_kept: Uuid,
) -> sqlx::Result<Vec<i16>> {
    sqlx::query_scalar!(
        r#"select ring.slot::smallint as "slot!" from generate_series(0, 15) as ring (slot)
           where exists (select from webhook_event e where e.slot = ring.slot and e.id < $1)"#,
        oldest_kept,
    )
    .fetch_all(conn)
    .await
}

/// Shuts a partition for everyone else until the transaction ends, waiting for it no longer than intake can bear.
pub async fn lock_slot(conn: &mut PgConnection, slot: i16) -> sqlx::Result<()> {
    let lock = format!(
        "set local lock_timeout = '1s'; lock table webhook_event_slot_{slot:02} in access exclusive mode"
    );
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(conn).await?;
    Ok(())
}

/// Whether a partition holds something that must be kept.
pub async fn slot_holds_recent(
    conn: &mut PgConnection,
    slot: i16,
    oldest_kept: Uuid,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from webhook_event where slot = $1 and id >= $2) as "exists!""#,
        slot,
        oldest_kept,
    )
    .fetch_one(conn)
    .await
}

/// Empties a locked partition at once.
pub async fn truncate_slot(conn: &mut PgConnection, slot: i16) -> sqlx::Result<()> {
    let truncate = format!("truncate webhook_event_slot_{slot:02}");
    sqlx::raw_sql(AssertSqlSafe(truncate)).execute(conn).await?;
    Ok(())
}

/// Deletes some of what is outdated in a partition that is in use again already; answers how many.
pub async fn delete_outdated(
    conn: &mut PgConnection,
    slot: i16,
    oldest_kept: Uuid,
    limit: i64,
) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from webhook_event where slot = $1 and id in
           (select id from webhook_event where slot = $1 and id < $2 order by id limit $3)",
        slot,
        oldest_kept,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
