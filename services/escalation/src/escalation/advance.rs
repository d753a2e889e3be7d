//! The ladder goes on (ESC-04): whoever the step names is called, and the next step has its time.
//! Deliberately absent: a clock of its own. A timer is a job; whoever is killed leaves it, and another takes it up.

use chrono::TimeDelta;
use mainstay_jobs::record::By;
use mainstay_jobs::{Job, JobError};
use mainstay_types::{EscalationId, ServiceName, Tenant};

use super::sql::Happened;
use super::{Escalation, State, note, sql, timer};
use crate::Escalating;
use crate::alert;
use crate::jobs::advance_escalation::Payload;
use crate::ladder::{Channel, Member, Place};
use crate::notice::{self, Kind};

/// Whether a timer is for the place that the escalation is at.
fn is_for(payload: &Payload, found: &Escalation) -> bool {
    let place = Place {
        step: payload.step,
        round: payload.round,
    };
    found.state == State::Pending && found.fence == payload.fence && found.place == place
}

/// Takes the step that a timer is for.
pub(crate) async fn run(
    escalating: &Escalating,
    job: &Job,
    tenant: Tenant,
    payload: &Payload,
) -> Result<(), JobError> {
    let id = EscalationId::from_uuid(payload.escalation);
    let mut tx = escalating.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant.agency, id).await?;
    tx.commit().await?;
    let Some(found) = found.filter(|found| is_for(payload, found)) else {
        return Ok(());
    };
    // Asked before the transaction: identity may be slow, and nothing is locked meanwhile.
    let members = match found.ladder.step(found.place) {
        Some(_) => escalating
            .members
            .all(tenant)
            .await
            .map_err(JobError::retry)?,
        None => Vec::new(),
    };
    let by = By::itself(
        ServiceName::Escalation,
        tenant.agency,
        escalating.clock.now(),
    );
    let mut tx = escalating.database.worker().tenant(tenant).await?;
    let before = sql::lock(tx.conn(), tenant, id).await?;
    let Some(before) = before.filter(|found| is_for(payload, found)) else {
        tx.rollback().await?;
        return Ok(());
    };
    let after = match before.ladder.step(before.place) {
        None => expired(&before, &by),
        Some(step) => {
            let calls = step.calls(&members);
            let wait = TimeDelta::from_std(step.wait()).unwrap_or(TimeDelta::days(1));
            // Beyond the last step is the place at which it expires.
            let beyond = Place {
                step: 0,
                round: before.ladder.rounds + 1,
            };
            let after = Escalation {
                place: before.ladder.after(before.place).unwrap_or(beyond),
                next_step_at: Some(by.now + wait),
                revision: before.revision + 1,
                ..before.clone()
            };
            call(tx.conn(), &before, &calls, &by).await?;
            after
        }
    };
    sql::apply(tx.conn(), &after, by.now).await?;
    if after.state == State::Expired {
        let names = (
            "escalation.escalation.expire",
            "escalation.escalation.expired",
        );
        let entry = Happened {
            kind: "expired",
            member: None,
            reason: Some("nobody took it"),
        };
        note(tx.conn(), &by, names, entry, Some(&before), &after).await?;
        notice::everybody(tx.conn(), &after, Kind::Expired, by.now).await?;
        alert::raise(tx.conn(), &by, &unanswered(&after), told(&after, &by)).await?;
        tracing::error!(
            alert = "escalation_expired", escalation.id = %id,
            "nobody took an escalation: see the runbook on escalations"
        );
    }
    timer(tx.conn(), &after, by.now).await?;
    job.complete_in(tx.conn()).await?;
    tx.commit().await?;
    escalating.jobs.wake();
    Ok(())
}

/// Whoever runs the agency hears of it: nobody who was called took it.
fn unanswered(escalation: &Escalation) -> alert::New {
    let summary = escalation.summary.trim_end_matches('.');
    alert::New {
        thing: alert::Thing {
            kind: alert::Kind::EscalationUnanswered,
            subject: escalation.id.to_string(),
            item: None,
            client: Some(escalation.tenant.client),
        },
        severity: alert::Severity::Critical,
        summary: format!(
            "Nobody took an escalation: {summary}. See who was called and when, answer whoever waits, and look at the ladder."
        ),
    }
}

fn told(escalation: &Escalation, by: &By) -> alert::Told {
    alert::Told {
        at: by.now,
        traceparent: escalation.traceparent.clone(),
    }
}

fn expired(before: &Escalation, by: &By) -> Escalation {
    Escalation {
        state: State::Expired,
        next_step_at: None,
        ended_at: Some(by.now),
        revision: before.revision + 1,
        ..before.clone()
    }
}

/// Writes whom a step calls, each once.
async fn call(
    conn: &mut sqlx::PgConnection,
    escalation: &Escalation,
    calls: &[(&Member, Channel)],
    by: &By,
) -> mainstay_db::Result<()> {
    let place = escalation.place;
    let occasion = format!("{}/{}/{}", escalation.fence, place.round, place.step);
    if calls.is_empty() {
        let reason = format!("nobody could be called at step {}", place.step + 1);
        let entry = Happened {
            kind: "unreachable",
            member: None,
            reason: Some(&reason),
        };
        return sql::happened(conn, escalation, by, entry).await;
    }
    let mut told = None;
    for (member, channel) in calls {
        let to = (member.id, *channel, Kind::Call);
        notice::write(conn, escalation, to, &occasion, by.now).await?;
        if told != Some(member.id) {
            told = Some(member.id);
            let entry = Happened {
                kind: "called",
                member: Some(member.id),
                reason: None,
            };
            sql::happened(conn, escalation, by, entry).await?;
        }
    }
    notice::tell_soon(conn, escalation, by.now).await
}
