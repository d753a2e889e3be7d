//! Queries about doubtful tries.
//! Deliberately absent: their outcome, which is written as every other's is.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::Result;
use mainstay_types::{AttemptId, MessageId, Tenant};
use sqlx::PgConnection;

use super::Doubtful;
use crate::address::Address;
use crate::carrier::{Provider, Sought};
use crate::gate::{Channel, Purpose};
use crate::message::rules::Status;

/// A try that began is doubtful now, its message with it, and leaves the queue.
pub(super) async fn begin(
    conn: &mut PgConnection,
    tenant: Tenant,
    message: MessageId,
    attempt: AttemptId,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "with doubtful as (
           update message_attempt set state = 'unknown', detail = 'whoever sent it was gone before it knew', updated_at = $5
           where tenant_id = $2 and id = $4 and state = 'started'
         ), left_queue as (
           delete from send_queue where tenant_id = $2 and message_id = $3
         ), stands as (
           update message set status = 'ambiguous', revision = revision + 1, updated_at = $5
           where tenant_id = $2 and id = $3 and status = 'sending'
           returning id
         )
         insert into message_event (agency_id, tenant_id, id, message_id, status, detail, created_at)
         select $1, $2, gen_random_uuid(), id, 'ambiguous', 'whoever sent it was gone before it knew', $5 from stands",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        message.uuid(),
        attempt.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A try with all that asking about it needs; its message is locked. None when there is none.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    attempt: AttemptId,
) -> Result<Option<Doubtful>> {
    let row = sqlx::query!(
        r#"select a.id as "attempt: AttemptId", a.state, a.account_id, a.provider, a.sender, a.created_at, a.probes,
             m.id as "message: MessageId", m.status, m.purpose as "purpose!", m.channel, m.address, m.body,
             m.expires_at as "expires_at!", extract(epoch from clock_timestamp() - a.created_at)::float8 as "age!",
             (select min(f.created_at) from message_attempt f
              where f.tenant_id = m.tenant_id and f.message_id = m.id) as "first_tried_at!",
             array(select k.provider_id from message_attempt k
                   join message o on o.tenant_id = k.tenant_id and o.id = k.message_id
                   where k.tenant_id = $1 and k.id <> a.id and k.provider_id is not null and o.address = m.address
                     and k.created_at > a.created_at - interval '1 day'
                   ) as "known!: Vec<String>"
           from message_attempt a join message m on m.tenant_id = a.tenant_id and m.id = a.message_id
           where a.tenant_id = $1 and a.id = $2
           for update of m"#,
        tenant.client.uuid(),
        attempt.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| {
        Some(Doubtful {
            message: row.message,
            attempt: row.attempt,
            state: row.state,
            status: Status::named(&row.status)?,
            purpose: Purpose::named(&row.purpose)?,
            channel: Channel::named(&row.channel)?,
            provider: Provider::named(&row.provider)?,
            account: row.account_id,
            sender: row.sender,
            expires_at: row.expires_at,
            probes: row.probes,
            age: TimeDelta::milliseconds(millis(row.age)),
            sought: Sought {
                address: Address::parse(&row.address).ok()?,
                body: row.body,
                since: row.created_at,
                first_tried_at: row.first_tried_at,
                known: row.known,
            },
        })
    }))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the age of a try, which is saturated"
)]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

/// One more time that asking led to nothing.
pub(crate) async fn asked(
    conn: &mut PgConnection,
    tenant: Tenant,
    attempt: AttemptId,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update message_attempt set probes = probes + 1, updated_at = $3 where tenant_id = $1 and id = $2",
        tenant.client.uuid(),
        attempt.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
