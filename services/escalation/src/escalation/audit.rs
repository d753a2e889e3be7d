//! The auditor (ESC-04): looks at every open escalation there is, by itself, and finds those that nobody will come back to: whose
//! timer is gone, or whose owner has left. It goes on with them and says so.
//! Deliberately absent: trust in the timers, and in the events. It compares rows.

use chrono::TimeDelta;
use mainstay_jobs::record::By;
use mainstay_types::{EscalationId, ServiceName, Tenant};
use uuid::Uuid;

use super::sql::Happened;
use super::{State, act, sql, timer};
use crate::Escalating;
use crate::jobs::advance_escalation;

/// Looked at in one go.
const PAGE: i64 = 200;
/// How late a step may be before its timer is taken for lost. Longer than a runner that was killed keeps its lease, and than
/// identity may be away without anybody noticing.
const LATE: TimeDelta = TimeDelta::seconds(60);

/// Looks at all of them. Gives how many were found that nobody would have come back to.
pub(crate) async fn run(escalating: &Escalating) -> mainstay_db::Result<u64> {
    let (mut after, mut found): (Option<Uuid>, u64) = (None, 0);
    loop {
        let watched = {
            let mut worker = escalating.database.worker().connection().await?;
            sql::watched(worker.conn(), after, PAGE).await?
        };
        let Some((_, last)) = watched.last() else {
            return Ok(found);
        };
        after = Some(last.uuid());
        for (tenant, id) in watched {
            found += u64::from(look(escalating, tenant, id).await?);
        }
    }
}

/// Looks at one. True: it was left.
async fn look(
    escalating: &Escalating,
    tenant: Tenant,
    id: EscalationId,
) -> mainstay_db::Result<bool> {
    let now = escalating.clock.now();
    let mut tx = escalating.database.worker().tenant(tenant).await?;
    let Some(escalation) = sql::lock(tx.conn(), tenant, id).await? else {
        sql::unwatch(tx.conn(), id).await?;
        tx.commit().await?;
        return Ok(false);
    };
    match (escalation.state, escalation.next_step_at, &escalation.claim) {
        (State::Resolved | State::Expired, _, _) => {
            sql::unwatch(tx.conn(), id).await?;
            tx.commit().await?;
            Ok(false)
        }
        (State::Claimed, _, Some(claim)) => {
            let member = claim.member;
            let departed = sql::has_departed(tx.conn(), tenant.agency, member).await?;
            tx.commit().await?;
            if !departed {
                return Ok(false);
            }
            tracing::error!(
                alert = "escalation_left", escalation.id = %id,
                "an escalation was owned by a member who has left"
            );
            act::release_of(escalating, tenant, id, member).await
        }
        (_, Some(due), _)
            if due < now - LATE
                && !advance_escalation::is_queued(tx.conn(), &escalation).await? =>
        {
            tracing::error!(
                alert = "escalation_left", escalation.id = %id,
                "an escalation had no next step"
            );
            let by = By::itself(ServiceName::Escalation, tenant.agency, now);
            let entry = Happened {
                kind: "found",
                member: None,
                reason: Some("its next step was overdue and nothing was to take it"),
            };
            sql::happened(tx.conn(), &escalation, &by, entry).await?;
            timer(tx.conn(), &escalation, now).await?;
            tx.commit().await?;
            escalating.jobs.wake();
            Ok(true)
        }
        _ => {
            tx.rollback().await?;
            Ok(false)
        }
    }
}
