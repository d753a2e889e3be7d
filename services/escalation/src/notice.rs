//! What people are told (ESC-02): that they are called, that they have it, who has it, that nobody took it. Each thing is
//! a row that is written with its cause, and told once by a job.
//! Deliberately absent: a way out. Notices leave through messaging's one sender, as every message does.

mod sql;
mod texts;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_jobs::{Job, JobError, NewJob, enqueue};
use mainstay_rpc::Problem;
use mainstay_types::{EscalationId, MemberId, Tenant};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Escalating;
use crate::escalation::{self, Escalation};
use crate::jobs::tell_notices;
use crate::ladder::{Channel, Member};
use crate::link::Subject;
use crate::way_out::{self, Letter, Sent};

/// After this nobody is told any more: it would be no news.
const NEWS: TimeDelta = TimeDelta::hours(1);

/// What somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// They are called.
    Call,
    /// They have it.
    Yours,
    /// Somebody else has it.
    Taken,
    /// Nobody took it.
    Expired,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Kind::Call => "call",
            Kind::Yours => "yours",
            Kind::Taken => "taken",
            Kind::Expired => "expired",
        }
    }
}

/// A notice that waits.
#[derive(Debug, Clone)]
struct Waiting {
    id: Uuid,
    member: MemberId,
    kind: Kind,
    channel: Channel,
}

/// Writes that somebody is to be told something, unless the same was written before.
pub(crate) async fn write(
    conn: &mut PgConnection,
    escalation: &Escalation,
    to: (MemberId, Channel, Kind),
    occasion: &str,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    sql::insert(conn, escalation, to, occasion, now).await
}

/// Has everything told that is written and waits.
pub(crate) async fn tell_soon(
    conn: &mut PgConnection,
    escalation: &Escalation,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let payload = tell_notices::Payload {
        escalation: escalation.id.uuid(),
    };
    let job = NewJob::new(tell_notices::KIND, &payload, now)
        .for_tenant(escalation.tenant)
        .in_trace(escalation.traceparent.clone());
    enqueue(conn, job).await?;
    Ok(())
}

/// Tells whoever has it now so, and everybody who was called who that is. Calls that nobody has heard yet are dropped.
pub(crate) async fn claimed(
    conn: &mut PgConnection,
    escalation: &Escalation,
    member: MemberId,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    sql::drop_calls(conn, escalation).await?;
    let channel = sql::channel_of(conn, escalation, member).await?;
    let channel = channel.unwrap_or(Channel::Sms);
    let occasion = escalation.fence.to_string();
    let to = (member, channel, Kind::Yours);
    sql::insert(conn, escalation, to, &occasion, now).await?;
    sql::insert_for_called(conn, escalation, Some(member), Kind::Taken, now).await?;
    tell_soon(conn, escalation, now).await
}

/// Tells somebody, by whatever they were told by before.
pub(crate) async fn tell(
    conn: &mut PgConnection,
    escalation: &Escalation,
    member: MemberId,
    kind: Kind,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let channel = sql::channel_of(conn, escalation, member).await?;
    let channel = channel.unwrap_or(Channel::Sms);
    let occasion = escalation.fence.to_string();
    sql::insert(conn, escalation, (member, channel, kind), &occasion, now).await
}

/// Tells everybody who was called.
pub(crate) async fn everybody(
    conn: &mut PgConnection,
    escalation: &Escalation,
    kind: Kind,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    sql::drop_calls(conn, escalation).await?;
    sql::insert_for_called(conn, escalation, None, kind, now).await?;
    tell_soon(conn, escalation, now).await
}

/// Tells all that waits for an escalation, each thing once: messaging knows each by its id, so whoever is killed in the middle
/// says again what was said, and nobody hears it twice.
pub(crate) async fn run(
    escalating: &Escalating,
    job: &Job,
    tenant: Tenant,
    id: EscalationId,
) -> Result<(), JobError> {
    let members = escalating
        .members
        .all(tenant)
        .await
        .map_err(JobError::retry)?;
    let members: HashMap<MemberId, Member> = members
        .into_iter()
        .map(|member| (member.id, member))
        .collect();
    let mut tx = escalating.database.tenant(tenant).await?;
    let found = escalation::sql::find(tx.conn(), tenant.agency, id).await?;
    let waiting = sql::waiting(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    let Some(escalation) = found else {
        return Ok(());
    };
    let mut later = None;
    for notice in waiting {
        let told = one(escalating, &escalation, &members, &notice).await?;
        // One that cannot be told now holds up nobody else.
        later = later.or(told.err());
    }
    match later {
        Some(problem) => Err(JobError::retry(problem)),
        None => {
            let mut tx = escalating.database.worker().tenant(tenant).await?;
            job.complete_in(tx.conn()).await?;
            tx.commit().await?;
            Ok(())
        }
    }
}

/// Tells one thing. The inner error: not now.
async fn one(
    escalating: &Escalating,
    escalation: &Escalation,
    members: &HashMap<MemberId, Member>,
    notice: &Waiting,
) -> mainstay_db::Result<Result<(), Problem>> {
    let tenant = escalation.tenant;
    let refuse = async |why: &str| {
        let mut tx = escalating.database.tenant(tenant).await?;
        sql::refused(tx.conn(), tenant, notice.id, why).await?;
        tx.commit().await
    };
    let Some(member) = members.get(&notice.member) else {
        refuse("the member has left, or does not serve the client any more").await?;
        return Ok(Ok(()));
    };
    // By the other channel where that one reaches nobody.
    let reach = |channel: Channel| member.address(channel).map(|address| (channel, address));
    let Some((channel, address)) = reach(notice.channel).or_else(|| reach(Channel::Email)) else {
        refuse("the member has no address for it").await?;
        return Ok(Ok(()));
    };
    // From here on whoever takes the escalation counts them among those who were called.
    let mut tx = escalating.database.tenant(tenant).await?;
    let stands = sql::begin(tx.conn(), tenant, notice.id).await?;
    tx.commit().await?;
    if !stands {
        return Ok(Ok(()));
    }
    let link = escalating.links.link(Subject {
        tenant,
        escalation: escalation.id,
        member: member.id,
    });
    let text = texts::of(notice.kind, escalation, &link);
    let now = escalating.clock.now();
    let letter = Letter {
        agency: tenant.agency,
        channel,
        address,
        subject: text.subject,
        body: text.body,
        once_key: format!("escalation_notice:{}", notice.id),
        expires_at: now + NEWS,
    };
    match way_out::send(escalating, letter).await {
        Sent::Taken(message) => {
            let mut tx = escalating.database.tenant(tenant).await?;
            sql::told(tx.conn(), tenant, notice.id, message).await?;
            tx.commit().await?;
            Ok(Ok(()))
        }
        Sent::Never(problem) => {
            tracing::warn!(
                escalation.id = %escalation.id, member.id = %member.id, channel = channel.as_str(), %problem,
                "somebody could not be told of an escalation"
            );
            refuse(&problem.to_string()).await?;
            Ok(Ok(()))
        }
        Sent::NotNow(problem) => Ok(Err(problem)),
    }
}
