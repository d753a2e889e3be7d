//! What is said of alerts: that something happens, that it has become worse, and to whoever heard of it, once, that it is over. Each
//! is a row for an address, and leaves by the one way out.
//! Deliberately absent: a digest, and preferences of people (ESC-11).

pub(crate) mod rules;
mod sql;
mod texts;

use std::time::Duration;

use chrono::TimeDelta;
use mainstay_jobs::{Job, JobError};
use mainstay_types::{AgencyId, AgencyScope, AlertId, Visible};

use crate::Escalating;
use crate::alert::{self, Alert, Severity, State};
use crate::alert_route;
use crate::way_out::{self, Letter, Sent};
use rules::{Kind, Notice, Standing};

/// After this nobody is told any more: it would be no news.
const NEWS: TimeDelta = TimeDelta::hours(24);
/// When what cannot be said now is tried again. No attempt is counted: messaging or identity may be away for long, and this is how
/// people hear of that.
const PAUSE: Duration = Duration::from_secs(15);
/// Rounds of saying: what cannot be said to one is then to be said to another, who may be unreachable as well.
const ROUNDS: usize = 3;

/// Says all that is to be said of an alert as it stands now, each thing once: whoever is killed in the middle says again what was said,
/// and messaging knows it by its id.
pub(crate) async fn run(
    escalating: &Escalating,
    job: &Job,
    agency: AgencyId,
    id: AlertId,
) -> Result<(), JobError> {
    for _ in 0..ROUNDS {
        let Some((alert, waiting)) = prepare(escalating, job, agency, id).await? else {
            return Ok(());
        };
        // One that cannot be told now holds up nobody else; but nobody hears that it is over before they hear of it.
        let mut later: Vec<Notice> = Vec::new();
        for notice in waiting {
            let held =
                |one: &Notice| (one.channel, &one.address) == (notice.channel, &notice.address);
            if later.iter().any(held) || !one(escalating, &alert, &notice).await? {
                later.push(notice);
            }
        }
        if !later.is_empty() {
            break;
        }
    }
    Err(JobError::Snooze(PAUSE))
}

/// Decides what is to be said, and gives what waits. None: everything was said, and the job is done.
async fn prepare(
    escalating: &Escalating,
    job: &Job,
    agency: AgencyId,
    id: AlertId,
) -> Result<Option<(Alert, Vec<Notice>)>, JobError> {
    let scope = AgencyScope {
        agency,
        visible: Visible::All,
    };
    let worker = escalating.database.worker();
    let mut tx = worker.agency(&scope).await?;
    let found = alert::sql::find(tx.conn(), agency, id).await?;
    tx.commit().await?;
    let Some(found) = found else {
        return Ok(None);
    };
    // Asked before the transaction: identity may be slow, and nothing is locked meanwhile.
    let people = match found.state {
        State::Resolved => Vec::new(),
        State::Open | State::Acknowledged => {
            let asked = escalating.members.seeing_alerts(agency, found.client);
            match asked.await {
                Ok(people) => people,
                Err(error) => {
                    tracing::warn!(alert.id = %id, %error, "nobody can be told of an alert now");
                    return Err(JobError::Snooze(PAUSE));
                }
            }
        }
    };
    let now = escalating.clock.now();
    let mut tx = worker.agency(&scope).await?;
    let alert = alert::sql::lock(tx.conn(), agency, id).await?;
    let alert = alert.ok_or_else(|| JobError::dead("the alert is gone"))?;
    let routes = alert_route::sql::list(tx.conn(), agency, None, alert_route::MOST).await?;
    let notices = sql::list(tx.conn(), &alert).await?;
    let plan = rules::plan(
        &alert,
        &notices,
        &alert_route::rules::recipients(&alert, &routes, &people),
        &alert_route::rules::owners(&people),
    );
    for (notice, why) in &plan.drop {
        sql::refused(tx.conn(), &alert, *notice, why).await?;
    }
    for (kind, to) in &plan.say {
        sql::insert(tx.conn(), &alert, (*kind, to), now).await?;
    }
    if plan.is_told {
        alert::sql::told(tx.conn(), &alert).await?;
        unheard(&alert, &notices);
    }
    let mut waiting = sql::list(tx.conn(), &alert).await?;
    waiting.retain(|one| matches!(one.standing, Standing::Pending | Standing::Telling));
    if waiting.is_empty() {
        job.complete_in(tx.conn()).await?;
        tx.commit().await?;
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some((alert, waiting)))
}

/// What is critical and nobody could be told of is at least said in the log.
fn unheard(alert: &Alert, notices: &[Notice]) {
    let heard = notices.iter().any(|one| one.standing == Standing::Told);
    if alert.severity == Severity::Critical && !heard {
        tracing::error!(
            alert = "alert_untold", alert.id = %alert.id, kind = alert.kind.as_str(),
            "nobody could be told of an alert: see the runbook on alerts"
        );
    }
}

/// Says one thing. False: not now.
async fn one(escalating: &Escalating, alert: &Alert, notice: &Notice) -> mainstay_db::Result<bool> {
    let scope = AgencyScope {
        agency: alert.agency,
        visible: Visible::All,
    };
    let worker = escalating.database.worker();
    let now = escalating.clock.now();
    let since = match notice.kind {
        Kind::Opened => alert.last_seen_at,
        Kind::Resolved => alert.resolved_at.unwrap_or(alert.last_seen_at),
    };
    if now > since + NEWS {
        let mut tx = worker.agency(&scope).await?;
        sql::refused(tx.conn(), alert, notice.id, "it would be no news").await?;
        tx.commit().await?;
        return Ok(true);
    }
    // From here on they count among those who heard of it.
    let mut tx = worker.agency(&scope).await?;
    let stands = sql::begin(tx.conn(), alert, notice.id).await?;
    tx.commit().await?;
    if !stands {
        return Ok(true);
    }
    let text = texts::of(notice.kind, alert);
    let letter = Letter {
        agency: alert.agency,
        channel: notice.channel,
        address: &notice.address,
        subject: text.subject,
        body: text.body,
        once_key: format!("alert_notice:{}", notice.id),
        expires_at: since + NEWS,
    };
    let sent = way_out::send(escalating, letter).await;
    let mut tx = worker.agency(&scope).await?;
    match sent {
        Sent::Taken(message) => sql::told(tx.conn(), alert, notice.id, message).await?,
        Sent::Never(problem) => {
            tracing::warn!(
                alert.id = %alert.id, channel = notice.channel.as_str(), %problem,
                "somebody could not be told of an alert"
            );
            sql::refused(tx.conn(), alert, notice.id, &problem.to_string()).await?;
        }
        Sent::NotNow(problem) => {
            tracing::debug!(alert.id = %alert.id, %problem, "somebody cannot be told of an alert now");
            return Ok(false);
        }
    }
    tx.commit().await?;
    Ok(true)
}
