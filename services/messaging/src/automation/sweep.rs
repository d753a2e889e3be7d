//! Sweeps (MSG-31, 32): once a day an automation looks at all leads with whom nothing was said for long, five hundred at a time.
//! Each batch is one transaction with the place that was reached: whoever is killed leaves it there, and nobody is taken in twice.
//! A sweep of which more than one in ten messages fail stops, takes back what waits, and pauses its automation.
//! Deliberately absent: sending, and a memory of who was looked at.

mod sql;

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::record::By;
use mainstay_jobs::{Handler, Job, JobError, NewJob};
use mainstay_rpc::ServiceName;
use mainstay_types::{AutomationId, AutomationRunId, LeadId, MessageId, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::definition::{Action, Send, Trigger};
use super::occasion::{NewRun, insert_runs};
use super::{Automation, Error, Halt, halt, rules};
use crate::address::Address;
use crate::gate::{Decision, decide};
use crate::message::places_of;
use crate::standing::{self, Asked};
use crate::{Messaging, jobs};

/// The job's kind.
pub const KIND: &str = "sweep_leads";

/// How many leads are looked at in one transaction.
const BATCH: i64 = 500;

/// How a sweep stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    pub(super) id: Uuid,
    /// The day.
    pub period: String,
    /// By which version.
    pub version: i32,
    /// `running`, `done`, `stopped`.
    pub state: String,
    /// Why it stopped.
    pub reason: Option<String>,
    /// The lead that was looked at last.
    pub(super) reached: Option<LeadId>,
    /// How many answered the conditions.
    pub looked_at: i64,
    /// For how many it began.
    pub taken_in: i64,
    /// How many the gate would refuse for good.
    pub passed_over: i64,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A lead that answers the conditions.
#[derive(Debug, Clone)]
struct Candidate {
    lead: LeadId,
    address: Option<Address>,
    zone: Option<chrono_tz::Tz>,
    state: Option<String>,
}

/// What the job is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payload {
    /// The automation.
    pub automation_id: AutomationId,
}

/// The job of an automation: at most one waits or runs.
pub fn job(tenant: Tenant, automation: AutomationId, now: DateTime<Utc>) -> NewJob {
    let payload = Payload {
        automation_id: automation,
    };
    NewJob::new(KIND, &payload, now)
        .for_tenant(tenant)
        .unique(automation.to_string())
}

/// Runs the job.
#[derive(Clone)]
pub struct SweepLeads(pub(crate) Messaging);

#[tonic::async_trait]
impl Handler for SweepLeads {
    async fn run(&self, job: &Job) -> Result<(), JobError> {
        let messaging = &self.0;
        let payload: Payload = job.payload()?;
        let tenant = job
            .tenant
            .ok_or_else(|| JobError::dead("the job is for no client"))?;
        loop {
            let now = messaging.clock.now();
            let mut tx = messaging.database.worker().tenant(tenant).await?;
            let next = batch(tx.conn(), tenant, payload.automation_id, now).await?;
            if let Next::Tomorrow | Next::Never = next {
                job.complete_in(tx.conn()).await?;
            }
            if let Next::Tomorrow = next {
                let tomorrow = rules::next_sweep(now);
                let again = self::job(tenant, payload.automation_id, now).at(tomorrow);
                mainstay_jobs::enqueue(tx.conn(), again).await?;
            }
            tx.commit().await?;
            messaging.wake_jobs();
            if !matches!(next, Next::Batch) {
                return Ok(());
            }
        }
    }
}

/// What comes after a batch.
enum Next {
    /// There are more leads.
    Batch,
    /// This day is done.
    Tomorrow,
    /// It is paused, or looks at nothing any more.
    Never,
}

/// Looks at the next five hundred.
async fn batch(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: AutomationId,
    now: DateTime<Utc>,
) -> mainstay_db::Result<Next> {
    let automation = super::sql::find(conn, tenant, id).await?;
    let automation = automation.filter(|one| one.active);
    let Some((automation, days)) = automation
        .filter(|one| one.definition.trigger == Trigger::LeadInactive)
        .and_then(|one| one.definition.inactive_days.map(|days| (one, days)))
    else {
        return Ok(Next::Never);
    };
    let period = rules::period(now);
    let sweep = sql::begin(conn, tenant, &automation, &period, now).await?;
    if sweep.state != "running" {
        return Ok(Next::Tomorrow);
    }
    let send = first_message(&automation);
    let wanted = sql::Wanted {
        automation: id,
        conditions: &automation.definition.conditions,
        channel: send.map(|send| send.channel),
        silent_since: now - TimeDelta::days(i64::from(days)),
        not_since: now - TimeDelta::seconds(automation.definition.cooldown_seconds),
        after: sweep.reached,
        limit: BATCH,
    };
    let candidates = sql::candidates(conn, tenant, &wanted).await?;
    let last = candidates.last().map(|candidate| candidate.lead);
    let looked_at = i64::try_from(candidates.len()).unwrap_or(i64::MAX);
    let taken = reachable(conn, tenant, candidates, send, now).await?;
    let taken_in = i64::try_from(taken.len()).unwrap_or(i64::MAX);
    let first = rules::next_step(&automation.definition, 0, None, now);
    if let Some((step, due_at)) = first
        && !taken.is_empty()
    {
        let runs: Vec<NewRun> = taken
            .into_iter()
            .map(|lead| NewRun {
                id: AutomationRunId::generate(),
                automation: id,
                version: automation.version,
                occasion: format!("sweep:{period}:{lead}"),
                lead,
                step: i32::try_from(step).unwrap_or(i32::MAX),
                due_at,
            })
            .collect();
        let common = (None, None, Some(sweep.id), &json!({}));
        insert_runs(conn, tenant, &runs, common, now).await?;
        mainstay_jobs::enqueue(conn, jobs::advance_runs::job(tenant, now).at(due_at)).await?;
    }
    let done = looked_at < BATCH;
    let reached = sql::Reached {
        sweep: sweep.id,
        last,
        looked_at,
        taken_in,
        done,
    };
    sql::reach(conn, tenant, &reached, now).await?;
    Ok(match done {
        true => Next::Tomorrow,
        false => Next::Batch,
    })
}

/// The message that it begins with.
fn first_message(automation: &Automation) -> Option<&Send> {
    let mut steps = automation.definition.steps.iter();
    steps.find_map(|step| match &step.action {
        Action::Send(send) => Some(send),
        Action::Answer(_) | Action::HandOver { .. } => None,
    })
}

/// Those whom waiting would help, decided together: to whom nothing may ever leave, nothing is begun.
async fn reachable(
    conn: &mut PgConnection,
    tenant: Tenant,
    candidates: Vec<Candidate>,
    send: Option<&Send>,
    now: DateTime<Utc>,
) -> mainstay_db::Result<Vec<LeadId>> {
    let Some(send) = send else {
        return Ok(candidates.into_iter().map(|one| one.lead).collect());
    };
    let known: Vec<(Candidate, Address)> = candidates
        .into_iter()
        .filter_map(|one| one.address.clone().map(|address| (one, address)))
        .collect();
    let asked: Vec<Asked> = known
        .iter()
        .map(|(_, address)| Asked {
            channel: send.channel,
            address: address.clone(),
            message: None,
        })
        .collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let standings = standing::find(conn, tenant, &asked, now).await?;
    let reachable = known
        .iter()
        .zip(&standings)
        .filter(|((one, address), row)| {
            let places = places_of(address, one.zone, one.state.as_deref());
            let facts = standing::facts(Ok(row), places);
            match decide(&facts, send.purpose, send.channel, now) {
                Decision::Allowed { .. } => true,
                Decision::Refused { retry_at, .. } => retry_at.is_some(),
            }
        });
    Ok(reachable.map(|((one, _), _)| one.lead).collect())
}

/// Hears that messages have failed: the sweeps that they belong to stop where more than one in ten do. In a transaction that has
/// the sending lock.
pub(crate) async fn heed_failures(
    conn: &mut PgConnection,
    tenant: Tenant,
    failed: &[MessageId],
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    for count in sql::outcomes(conn, tenant, failed).await? {
        if !rules::fails_too_often(count.failed, count.ended) {
            continue;
        }
        let because = format!(
            "{} of {} messages of the sweep of {} have failed",
            count.failed, count.ended, count.period
        );
        sql::stop(conn, tenant, count.sweep, &because, now).await?;
        let Some(automation) = super::sql::lock(conn, tenant, count.automation).await? else {
            continue;
        };
        tracing::error!(
            alert = "automation_fails", automation.id = %count.automation, because,
            "an automation has paused itself"
        );
        if automation.active {
            let by = By::itself(ServiceName::Messaging, tenant.agency, now);
            halt(conn, tenant, &by, automation, Halt::Failed(because)).await?;
        }
    }
    Ok(())
}

/// The sweeps of an automation, newest first.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn page(
    messaging: &Messaging,
    tenant: Tenant,
    automation: AutomationId,
    page: PageRequest<Uuid>,
) -> Result<Page<Sweep>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let known = super::sql::find(tx.conn(), tenant, automation).await?;
    known.ok_or(Error::NotFound)?;
    let (after, limit) = (page.after().copied(), page.limit());
    let rows = sql::list(tx.conn(), tenant, automation, after, limit).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id))
}
