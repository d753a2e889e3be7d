//! All queries of the webhook inbox. The id of a webhook tells its partition, so every access by id names both.
//! Deliberately absent: a query of the app role that writes. Requests of people only look.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use mainstay_types::{AgencyId, ClientId, JobId, WebhookEventId};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{Filter, NewWebhook, Next, State, Undelivered, WebhookEvent, Whose};

/// The columns of a batch, each key once.
#[derive(Debug, Default)]
pub struct Batch {
    ids: Vec<Uuid>,
    job_ids: Vec<Uuid>,
    providers: Vec<String>,
    accounts: Vec<String>,
    event_keys: Vec<String>,
    types: Vec<String>,
    content_types: Vec<String>,
    bodies: Vec<Vec<u8>>,
    received_ats: Vec<DateTime<Utc>>,
    traceparents: Vec<Option<String>>,
}

impl Batch {
    /// One more, under this id if it is new.
    pub fn push(&mut self, id: Uuid, webhook: NewWebhook) {
        self.ids.push(id);
        self.job_ids.push(JobId::generate().uuid());
        self.providers.push(webhook.key.provider);
        self.accounts.push(webhook.key.account);
        self.event_keys.push(webhook.key.event_key);
        self.types.push(webhook.kind);
        self.content_types.push(webhook.content_type);
        self.bodies.push(webhook.body);
        self.received_ats.push(webhook.received_at);
        self.traceparents.push(webhook.traceparent);
    }
}

/// Remembers the keys, stores what is new and queues its delivery, in one statement. Gives for the id of each webhook
/// the id it is stored under: its own, or that of the first with its key.
pub async fn insert(
    conn: &mut PgConnection,
    batch: &Batch,
    max_attempts: i32,
    now: DateTime<Utc>,
) -> sqlx::Result<HashMap<Uuid, WebhookEventId>> {
    // In the order of the keys, so that two batches cannot deadlock. A repetition moves its key's expiry on: whoever still repeats, is still remembered. It also makes `returning`
    // tell the first one's id when that one was committed after this statement began.
    let rows = sqlx::query!(
        r#"with given as materialized (
             select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                                  $8::bytea[], $9::timestamptz[], $10::text[])
               as given (id, job_id, provider, account, event_key, type, content_type, body, received_at, traceparent)
           ), remembered as (
             insert into webhook_dedup (provider, account, event_key, webhook_event_id, expires_at)
             select provider, account, event_key, id, now() + interval '120 days' from given
             order by provider, account, event_key
             on conflict (provider, account, event_key) do update set expires_at = excluded.expires_at
             returning webhook_event_id, provider, account, event_key
           ), fresh as (
             select given.* from given join remembered on remembered.webhook_event_id = given.id
           ), stored as (
             insert into webhook_event (id, slot, provider, account, event_key, type, content_type, body, received_at, traceparent)
             select id, webhook_slot(id), provider, account, event_key, type, content_type, body, received_at, traceparent
             from fresh
           ), queued as (
             insert into job (id, kind, run_at, payload, max_attempts, traceparent)
             select job_id, 'deliver_webhook', $12, jsonb_build_object('webhook_event_id', id), $11, traceparent
             from fresh
           )
           select given.id as "given!", remembered.webhook_event_id as "stored!"
           from given join remembered using (provider, account, event_key)"#,
        &batch.ids,
        &batch.job_ids,
        &batch.providers,
        &batch.accounts,
        &batch.event_keys,
        &batch.types,
        &batch.content_types,
        &batch.bodies,
        &batch.received_ats,
        &batch.traceparents as &[Option<String>],
        max_attempts,
        now,
    )
    .fetch_all(conn)
    .await?;
    let ids = rows
        .into_iter()
        .map(|row| (row.given, WebhookEventId::from_uuid(row.stored)));
    Ok(ids.collect())
}

/// What handing on needs; none when the webhook had its effect, or its week is gone.
pub async fn find_undelivered(
    conn: &mut PgConnection,
    id: WebhookEventId,
) -> sqlx::Result<Option<Undelivered>> {
    sqlx::query_as!(
        Undelivered,
        r#"select provider, event_key, type as "kind", body from webhook_event
           where id = $1 and slot = webhook_slot($1) and state <> 'processed'"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await
}

/// Writes what a try led to. A webhook that had its effect stays so, whatever a late second runner reports.
pub async fn apply(
    conn: &mut PgConnection,
    id: WebhookEventId,
    next: &Next,
    whose: Option<Whose>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let processed_at = matches!(next, Next::Processed { .. }).then_some(now);
    let (outcome, error) = match next {
        Next::Processed { outcome } => (Some(outcome), None),
        Next::Failed { error } | Next::Dead { error } => (None, Some(error)),
    };
    let agency = whose.map(|whose| whose.agency.uuid());
    let client = whose.and_then(|whose| whose.client).map(ClientId::uuid);
    sqlx::query!(
        "update webhook_event
         set state = $2, attempts = attempts + 1, outcome = $3, error = $4, processed_at = $5,
             agency_id = coalesce($6, agency_id), tenant_id = case when $6::uuid is null then tenant_id else $7 end
         where id = $1 and slot = webhook_slot($1) and state <> 'processed'",
        id.uuid(),
        next.state().as_str(),
        outcome,
        error,
        processed_at,
        agency,
        client,
    )
    .execute(conn)
    .await?;
    Ok(())
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
                  attempts, outcome, error, traceparent, received_at, processed_at
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
                  attempts, outcome, error, traceparent, received_at, processed_at
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
