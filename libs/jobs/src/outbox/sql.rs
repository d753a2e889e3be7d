//! All queries on `outbox_event` and `outbox_delivery`. Deliberately absent: a cursor; claiming rows loses none that
//! committed late.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_proto::events::v1::EventEnvelope;
use mainstay_types::{AgencyId, ClientId, EventId, ServiceName};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Delivery, NewEvent, timestamp};

pub(super) async fn insert(
    connection: &mut PgConnection,
    id: EventId,
    event: &NewEvent,
    traceparent: Option<String>,
) -> Result<()> {
    let consumers: Vec<String> = event
        .consumers
        .iter()
        .map(|c| c.as_str().to_owned())
        .collect();
    sqlx::query!(
        "with event as (
           insert into outbox_event (id, type, schema_version, agency_id, tenant_id, aggregate_type, aggregate_id, sequence,
                                     occurred_at, actor, causation_id, causation_depth, traceparent, payload)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         )
         insert into outbox_delivery (event_id, consumer, aggregate_type, aggregate_id, sequence, agency_id, tenant_id,
                                      next_attempt_at)
         select $1, consumer, $6, $7, $8, $4, $5, $9 from unnest($15::text[]) as consumer",
        id.uuid(),
        event.event_type,
        event.schema_version,
        event.agency.uuid(),
        event.client.map(|client| client.uuid()),
        event.aggregate_type,
        event.aggregate_id,
        event.sequence,
        event.occurred_at,
        event.actor,
        event.cause.as_ref().map(|cause| cause.event.to_string()),
        event.cause.as_ref().map_or(0, |cause| cause.depth + 1),
        traceparent,
        event.payload,
        &consumers,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Claims due heads: for each aggregate the earliest delivery that is left.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    consumer: ServiceName,
    limit: i64,
    now: DateTime<Utc>,
    lease_ms: f64,
) -> Result<Vec<Delivery>> {
    let rows = sqlx::query!(
        r#"with head as (
             select d.event_id from outbox_delivery d
             where d.consumer = $1 and d.state = 'pending' and d.next_attempt_at <= $3
               and (d.leased_until is null or d.leased_until < clock_timestamp())
               and not exists (
                 select from outbox_delivery e
                 where e.consumer = d.consumer and e.aggregate_type = d.aggregate_type
                   and e.aggregate_id = d.aggregate_id and e.sequence < d.sequence)
             order by d.next_attempt_at, d.event_id
             limit $2
             for update of d skip locked
           ),
           claimed as (
             update outbox_delivery d
             set fence = nextval('outbox_fence'), leased_until = clock_timestamp() + make_interval(secs => $4::float8 / 1000)
             from head where d.event_id = head.event_id and d.consumer = $1
             returning d.event_id, d.attempt, d.fence
           )
           select e.id, e.type as event_type, e.schema_version, e.agency_id, e.tenant_id, e.aggregate_type, e.aggregate_id,
                  e.sequence, e.occurred_at, e.actor, e.causation_id, e.causation_depth, e.traceparent,
                  e.payload::text as "payload!", claimed.attempt, claimed.fence
           from claimed join outbox_event e on e.id = claimed.event_id
           order by e.id"#,
        consumer.as_str(),
        limit,
        now,
        lease_ms,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Delivery {
            event_id: row.id,
            attempt: u32::try_from(row.attempt).unwrap_or(0) + 1,
            fence: row.fence,
            envelope: EventEnvelope {
                event_id: EventId::from_uuid(row.id).to_string(),
                r#type: row.event_type,
                schema_version: row.schema_version,
                agency_id: AgencyId::from_uuid(row.agency_id).to_string(),
                client_id: row.tenant_id.map(|id| ClientId::from_uuid(id).to_string()),
                aggregate_type: row.aggregate_type,
                aggregate_id: row.aggregate_id,
                aggregate_sequence: row.sequence,
                occurred_at: Some(timestamp(row.occurred_at)),
                actor: row.actor,
                causation_id: row.causation_id,
                causation_depth: row.causation_depth,
                traceparent: row.traceparent,
                payload_json: row.payload,
            },
        })
        .collect())
}

/// Delivered: the rows go. Those whose lease another relay has by now stay; the inbox makes the repeat harmless.
pub(crate) async fn delivered(
    connection: &mut PgConnection,
    consumer: ServiceName,
    events: &[Uuid],
    fences: &[i64],
) -> Result<()> {
    sqlx::query!(
        "delete from outbox_delivery d using unnest($2::uuid[], $3::bigint[]) as mine (event_id, fence)
         where d.event_id = mine.event_id and d.consumer = $1 and d.fence = mine.fence",
        consumer.as_str(),
        events,
        fences,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Not delivered: later, or parked for a person.
pub(crate) async fn failed(
    connection: &mut PgConnection,
    consumer: ServiceName,
    delivery: &Delivery,
    error: &str,
    next_attempt_at: DateTime<Utc>,
    park: bool,
) -> Result<()> {
    sqlx::query!(
        "update outbox_delivery
         set attempt = attempt + 1, last_error = $4, next_attempt_at = $5, leased_until = null,
             state = case when $6 then 'parked' else state end
         where event_id = $1 and consumer = $2 and fence = $3",
        delivery.event_id,
        consumer.as_str(),
        delivery.fence,
        error,
        next_attempt_at,
        park,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The consumer was not reached at all: none of it counts as an attempt of these events.
pub(crate) async fn postponed(
    connection: &mut PgConnection,
    consumer: ServiceName,
    events: &[Uuid],
    fences: &[i64],
    next_attempt_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update outbox_delivery d set next_attempt_at = $4, leased_until = null
         from unnest($2::uuid[], $3::bigint[]) as mine (event_id, fence)
         where d.event_id = mine.event_id and d.consumer = $1 and d.fence = mine.fence",
        consumer.as_str(),
        events,
        fences,
        next_attempt_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Tries a parked delivery again. False: there is none. A worker's transaction; the caller has checked who may.
///
/// # Errors
/// Whatever the database says.
pub async fn replay_parked(
    connection: &mut PgConnection,
    event: EventId,
    consumer: ServiceName,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update outbox_delivery set state = 'pending', attempt = 0, next_attempt_at = $3, leased_until = null
         where event_id = $1 and consumer = $2 and state = 'parked'",
        event.uuid(),
        consumer.as_str(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a parked delivery up, so that the rest of its aggregate goes on. False: there is none. The caller records who
/// and why in the audit log, in the same transaction.
///
/// # Errors
/// Whatever the database says.
pub async fn skip_parked(
    connection: &mut PgConnection,
    event: EventId,
    consumer: ServiceName,
) -> Result<bool> {
    let done = sqlx::query!(
        "delete from outbox_delivery where event_id = $1 and consumer = $2 and state = 'parked'",
        event.uuid(),
        consumer.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
