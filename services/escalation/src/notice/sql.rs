//! All queries about notices.
//! Deliberately absent: saying something twice. The key of a notice is who is told what on which occasion.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{EscalationId, MemberId, MessageId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Kind, Waiting};
use crate::escalation::Escalation;
use crate::ladder::Channel;

/// A new one, unless the same stands already.
pub(super) async fn insert(
    conn: &mut PgConnection,
    escalation: &Escalation,
    (member, channel, kind): (MemberId, Channel, Kind),
    occasion: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into escalation_notice (agency_id, tenant_id, id, escalation_id, member_id, kind, channel, occasion, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (tenant_id, escalation_id, member_id, channel, kind, occasion) do nothing",
        escalation.tenant.agency.uuid(),
        escalation.tenant.client.uuid(),
        Uuid::now_v7(),
        escalation.id.uuid(),
        member.uuid(),
        kind.as_str(),
        channel.as_str(),
        occasion,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The same for everybody who was called and has heard of it, but for one; each by the channel they were called by first.
pub(super) async fn insert_for_called(
    conn: &mut PgConnection,
    escalation: &Escalation,
    except: Option<MemberId>,
    kind: Kind,
    now: DateTime<Utc>,
) -> Result<()> {
    let called = sqlx::query!(
        r#"select distinct on (member_id) member_id as "member: MemberId", channel from escalation_notice
           where tenant_id = $1 and escalation_id = $2 and kind = 'call' and state in ('telling', 'told')
             and ($3::uuid is null or member_id <> $3)
           order by member_id, id"#,
        escalation.tenant.client.uuid(),
        escalation.id.uuid(),
        except.map(MemberId::uuid),
    )
    .fetch_all(&mut *conn)
    .await?;
    let (mut ids, mut members, mut channels) = (Vec::new(), Vec::new(), Vec::new());
    for row in called {
        ids.push(Uuid::now_v7());
        members.push(row.member.uuid());
        channels.push(row.channel);
    }
    sqlx::query!(
        "insert into escalation_notice (agency_id, tenant_id, id, escalation_id, member_id, kind, channel, occasion, created_at)
         select $1, $2, n.id, $3, n.member_id, $4, n.channel, $5, $6
         from unnest($7::uuid[], $8::uuid[], $9::text[]) as n (id, member_id, channel)
         on conflict (tenant_id, escalation_id, member_id, channel, kind, occasion) do nothing",
        escalation.tenant.agency.uuid(),
        escalation.tenant.client.uuid(),
        escalation.id.uuid(),
        kind.as_str(),
        escalation.fence.to_string(),
        now,
        &ids,
        &members,
        &channels,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Calls that nobody has heard yet are not made any more.
pub(super) async fn drop_calls(conn: &mut PgConnection, escalation: &Escalation) -> Result<()> {
    sqlx::query!(
        "update escalation_notice set state = 'refused', reason = 'it needs nobody any more'
         where tenant_id = $1 and escalation_id = $2 and kind = 'call' and state = 'pending'",
        escalation.tenant.client.uuid(),
        escalation.id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How a member was told of it first.
pub(super) async fn channel_of(
    conn: &mut PgConnection,
    escalation: &Escalation,
    member: MemberId,
) -> Result<Option<Channel>> {
    let channel = sqlx::query_scalar!(
        "select channel from escalation_notice where tenant_id = $1 and escalation_id = $2 and member_id = $3
         order by id limit 1",
        escalation.tenant.client.uuid(),
        escalation.id.uuid(),
        member.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(channel.as_deref().and_then(Channel::named))
}

/// What waits to be told, or was begun by somebody who is gone.
pub(super) async fn waiting(
    conn: &mut PgConnection,
    tenant: Tenant,
    escalation: EscalationId,
) -> Result<Vec<Waiting>> {
    let rows = sqlx::query!(
        r#"select id, member_id as "member: MemberId", kind as "kind: Kind", channel from escalation_notice
           where tenant_id = $1 and escalation_id = $2 and state in ('pending', 'telling') order by id"#,
        tenant.client.uuid(),
        escalation.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(Waiting {
                id: row.id,
                member: row.member,
                kind: row.kind,
                channel: Channel::named(&row.channel)?,
            })
        })
        .collect())
}

/// Somebody is being told. False: that is not wanted any more, or was done.
pub(super) async fn begin(conn: &mut PgConnection, tenant: Tenant, id: Uuid) -> Result<bool> {
    let done = sqlx::query!(
        "update escalation_notice set state = 'telling' where tenant_id = $1 and id = $2 and state in ('pending', 'telling')",
        tenant.client.uuid(),
        id,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Messaging has it.
pub(super) async fn told(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: Uuid,
    message: MessageId,
) -> Result<()> {
    sqlx::query!(
        "update escalation_notice set state = 'told', message_id = $3 where tenant_id = $1 and id = $2 and state = 'telling'",
        tenant.client.uuid(),
        id,
        message.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// They cannot be told.
pub(super) async fn refused(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: Uuid,
    why: &str,
) -> Result<()> {
    sqlx::query!(
        "update escalation_notice set state = 'refused', reason = left($3, 500)
         where tenant_id = $1 and id = $2 and state in ('pending', 'telling')",
        tenant.client.uuid(),
        id,
        why,
    )
    .execute(conn)
    .await?;
    Ok(())
}
