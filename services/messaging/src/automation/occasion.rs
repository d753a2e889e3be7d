//! Occasions: something happened that automations may act on. Whoever knows of it says so in the transaction that keeps it; from
//! then on the run is durable, and the same occasion sets it off once.
//! Deliberately absent: acting. The job that is queued here takes the steps.

mod sql;

use chrono::{DateTime, Utc};
use mainstay_types::{AutomationRunId, ConversationId, LeadId, Tenant};
use serde_json::Value;
use sqlx::PgConnection;

use super::definition::Trigger;
use super::rules;
use crate::{jobs, lead};

pub(super) use sql::{NewRun, insert_runs};

/// Something happened.
#[derive(Debug, Clone)]
pub(crate) struct Occasion<'a> {
    /// What.
    pub trigger: Trigger,
    /// What there is only one of: `call:CA…`, `form:…`, `burst:…`, `appointment:appt_…@<time>`.
    pub key: String,
    /// With whom.
    pub lead: LeadId,
    /// In which conversation.
    pub conversation: Option<ConversationId>,
    /// On which number or address of ours.
    pub sender: Option<&'a str>,
    /// What texts tell of it: an object by noun.
    pub facts: Value,
    /// When the appointment is.
    pub starts_at: Option<DateTime<Utc>>,
}

/// Sets off what acts on it. Gives how many runs began. Wake the jobs after the commit.
///
/// # Errors
/// Only the database's.
pub(crate) async fn happened(
    conn: &mut PgConnection,
    tenant: Tenant,
    occasion: &Occasion<'_>,
    now: DateTime<Utc>,
) -> mainstay_db::Result<usize> {
    let acting = sql::acting(conn, tenant, occasion.trigger).await?;
    if acting.is_empty() {
        return Ok(0);
    }
    let Some(known) = lead::known(conn, tenant, occasion.lead).await? else {
        return Ok(0);
    };
    let mut runs = Vec::with_capacity(acting.len());
    for one in acting {
        if !one.definition.conditions.hold(&known.1) {
            continue;
        }
        let first = rules::next_step(&one.definition, 0, occasion.starts_at, now);
        let Some((step, due_at)) = first else {
            continue;
        };
        let cooldown = one.definition.cooldown_seconds;
        if cooldown > 0 && sql::ran_lately(conn, tenant, one.id, known.0, cooldown, now).await? {
            continue;
        }
        runs.push(NewRun {
            id: AutomationRunId::generate(),
            automation: one.id,
            version: one.version,
            occasion: occasion.key.clone(),
            lead: known.0,
            step: i32::try_from(step).unwrap_or(i32::MAX),
            due_at,
        });
    }
    let common = (
        occasion.conversation,
        occasion.sender,
        None,
        &occasion.facts,
    );
    let begun = insert_runs(conn, tenant, &runs, common, now).await?;
    let mut due: Vec<DateTime<Utc>> = begun.iter().map(|run| run.due_at).collect();
    due.sort_unstable();
    due.dedup();
    for at in due {
        mainstay_jobs::enqueue(conn, jobs::advance_runs::job(tenant, now).at(at)).await?;
    }
    Ok(begun.len())
}
