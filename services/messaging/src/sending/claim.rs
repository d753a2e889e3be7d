//! Claiming: which messages are due now, by whom they are sent. Within a conversation nothing overtakes; a sender's rate is
//! paid when its messages are claimed.
//! Deliberately absent: a look at the gate. A claim is not a leave.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, MessageId, Tenant};
use uuid::Uuid;

use crate::Messaging;
use crate::gate::Channel;
use crate::message::lane;

/// A claimed message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claimed {
    pub(crate) tenant: Tenant,
    pub(crate) message: MessageId,
    pub(crate) channel: Channel,
    pub(crate) sender: String,
    /// How many a second its sender was held to.
    pub(crate) rate: f64,
    /// Of this claim: whoever claims after it has a higher one.
    pub(crate) fence: i64,
}

/// How far a sender that was idle may be ahead of its rate.
const BURST_SECONDS: f64 = 0.25;

pub(super) async fn claim(messaging: &Messaging, me: Uuid) -> Result<Vec<Claimed>> {
    let limit = i64::try_from(messaging.pace.at_once).unwrap_or(i64::MAX);
    let now: DateTime<Utc> = messaging.clock.now();
    let mut tx = messaging.database.worker().claim().await?;
    // A lane's row is locked for the length of the claim only: two dispatchers never pay from the same purse at once.
    let rows = sqlx::query!(
        r#"with lane as materialized (
             select l.lane, l.rate, l.next_free_at,
                    1 + floor(least($5, extract(epoch from $1 - l.next_free_at)::float8) * l.rate)::bigint as room
             from send_lane l
             where l.next_free_at <= $1
               and exists (select from send_queue q
                           where q.lane = l.lane and q.due_at <= $1
                             and (q.leased_until is null or q.leased_until < clock_timestamp())
                             and not exists (select from send_queue e
                                             where e.tenant_id = q.tenant_id and e.conversation_id = q.conversation_id
                                               and (e.ready_at, e.position) < (q.ready_at, q.position)))
             order by l.next_free_at limit 64
             for update skip locked
           ), picked as materialized (
             select q.tenant_id, q.message_id, lane.lane, lane.rate
             from lane cross join lateral (
               select q.tenant_id, q.message_id from send_queue q
               where q.lane = lane.lane and q.due_at <= $1
                 and (q.leased_until is null or q.leased_until < clock_timestamp())
                 and not exists (select from send_queue e
                                 where e.tenant_id = q.tenant_id and e.conversation_id = q.conversation_id
                                   and (e.ready_at, e.position) < (q.ready_at, q.position))
               order by q.due_at, q.position limit lane.room
               for update of q skip locked) q
             limit $2
           ), paid as (
             update send_lane l
             set next_free_at = greatest(l.next_free_at, $1 - make_interval(secs => $5)) + make_interval(secs => taken.n / l.rate)
             from (select lane, count(*)::float8 as n from picked group by lane) taken
             where taken.lane = l.lane
           )
           update send_queue q
           set leased_by = $3, leased_until = clock_timestamp() + make_interval(secs => $4), fence = nextval('send_fence')
           from picked
           where q.tenant_id = picked.tenant_id and q.message_id = picked.message_id
           returning q.agency_id as "agency_id!: AgencyId", q.tenant_id as "tenant_id!: ClientId",
             q.message_id as "message_id!: MessageId", q.lane as "lane!", picked.rate as "rate!", q.fence as "fence!""#,
        now,
        limit,
        me,
        messaging.pace.lease.as_secs_f64(),
        BURST_SECONDS,
    )
    .fetch_all(tx.conn())
    .await?;
    tx.commit().await?;
    let claimed = rows.into_iter().filter_map(|row| {
        let (channel, sender) = row.lane.split_once(':')?;
        Some(Claimed {
            tenant: Tenant {
                agency: row.agency_id,
                client: row.tenant_id,
            },
            message: row.message_id,
            channel: Channel::named(channel)?,
            sender: sender.to_owned(),
            rate: row.rate,
            fence: row.fence,
        })
    });
    Ok(claimed.collect())
}

/// Holds a sender to another rate from now on.
pub(super) async fn hold_to(
    messaging: &Messaging,
    channel: Channel,
    sender: &str,
    rate: f64,
) -> Result<()> {
    let mut connection = messaging.database.worker().connection().await?;
    sqlx::query!(
        "update send_lane set rate = $2, updated_at = clock_timestamp() where lane = $1 and rate <> $2",
        lane(channel, sender),
        rate,
    )
    .execute(connection.conn())
    .await?;
    Ok(())
}
