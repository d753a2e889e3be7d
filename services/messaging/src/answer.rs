//! Answers that a model writes (MSG-33): to a burst of texts, once, unless somebody has said something meanwhile. Where there is
//! none, a person is called and the lead is told that somebody will come.
//!
//! ```text
//!  run waits for its answer ─▶ what was said ─▶ model ─▶ still wanted? ─▶ message, or nothing
//!                                    └ too many, no model, it asks for a person ─▶ hand-over, fall-back text
//! ```
//! Deliberately absent: a transaction while the model thinks, and any power of what it says. The gate decides about its text as
//! about any other.

mod sql;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use mainstay_jobs::{Job, JobError};
use mainstay_types::{AutomationRunId, ConversationId, MessageId, Tenant};
use serde_json::json;
use sqlx::PgConnection;

use crate::Messaging;
use crate::address::Address;
use crate::alarm;
use crate::automation::RunState;
use crate::automation::advance::{self, Due, Step};
use crate::automation::definition::{Action, Answer};
use crate::carrier::Account;
use crate::gate::{Channel, Purpose};
use crate::message::sql::lock_sending;
use crate::message::{self, Draft};
use crate::model::{Reply, Usage, Voice};

/// How much of a conversation the model reads.
const MOST_SAID: i64 = 30;
/// How many answers there may be in a row without a word of a person of ours: a machine may be at the other end.
const MOST_IN_A_ROW: i64 = 20;
/// How many of a client's the model writes at once: one client's burst holds up nobody else's.
const MOST_AT_ONCE: usize = 2;
/// How soon whoever had no place asks again.
const TURN: Duration = Duration::from_secs(1);
/// The longest answer that is sent.
const MOST_CHARS: usize = 1000;

/// Who is being answered, by client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<Tenant, usize>>>);

/// A place; given back when it is dropped.
struct Turn(Turns, Tenant);

impl Turns {
    fn take(&self, tenant: Tenant) -> Option<Turn> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(tenant).or_default();
        if *count >= MOST_AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Turn(self.clone(), tenant))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

/// A conversation as the model reads it, and what was decided before.
struct Talk {
    conversation: ConversationId,
    channel: Channel,
    sender: String,
    address: Address,
    /// Oldest first.
    said: Vec<(Voice, String)>,
    /// How many answers there were since a person of ours said something.
    in_a_row: i64,
    /// How many answers the client had within a day.
    today: i64,
}

/// What is made of it.
enum Verdict {
    Says(String, Usage),
    Person(String, Option<Usage>),
    /// The model gave none, and why.
    Silence(String),
}

/// Answers a run's burst, and ends the job with it.
pub(crate) async fn run(
    messaging: &Messaging,
    tenant: Tenant,
    run: AutomationRunId,
    job: &Job,
) -> Result<(), JobError> {
    let Some(_turn) = messaging.turns.take(tenant) else {
        return Err(JobError::Snooze(TURN));
    };
    let now = messaging.clock.now();
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    // Whoever ends a run that waits for its answer has this lock: one that is not found has ended, and is not being ended.
    lock_sending(tx.conn(), tenant).await?;
    let Some(due) = advance::find_answering(tx.conn(), tenant, run, now).await? else {
        job.complete_in(tx.conn()).await?;
        tx.commit().await?;
        return Ok(());
    };
    let talk = talk(tx.conn(), tenant, &due, now).await?;
    let (Some(answer), Some(talk)) = (wanted(&due), talk) else {
        let ends = Step::ends(&due, RunState::Failed, "nothing to answer".to_owned());
        advance::step(tx.conn(), tenant, &[ends], now).await?;
        job.complete_in(tx.conn()).await?;
        tx.commit().await?;
        return Ok(());
    };
    tx.commit().await?;
    // No transaction is open meanwhile: integrations and the model are asked.
    let account = messaging
        .senders
        .resolve(tenant, talk.channel, Some(&talk.sender))
        .await
        .map_err(JobError::retry)?
        .into_iter()
        .next();
    let verdict = verdict(messaging, &due, &answer, &talk).await;
    let now = messaging.clock.now();
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    // What they write has the one, and what somebody of ours writes or takes over the other: it is committed before this, and
    // seen, or comes after it.
    lock_sending(tx.conn(), tenant).await?;
    sql::lock(tx.conn(), tenant, talk.conversation).await?;
    if let Some(due) = advance::find_answering(tx.conn(), tenant, run, now).await? {
        let stale = match due.taken_over {
            true => Some("taken_over"),
            false => sql::overtaken(tx.conn(), tenant, talk.conversation, last(&due)).await?,
        };
        match stale {
            Some(why) => {
                let ends = Step::ends(&due, RunState::Stopped, why.to_owned());
                advance::step(tx.conn(), tenant, &[ends], now).await?;
            }
            None => {
                let to = To {
                    tenant,
                    due: &due,
                    talk: &talk,
                    account,
                    model: messaging.model.name(),
                    now,
                };
                say(tx.conn(), &to, &answer, verdict).await?;
            }
        }
    }
    job.complete_in(tx.conn()).await?;
    tx.commit().await?;
    messaging.wake();
    messaging.wake_jobs();
    Ok(())
}

/// What the step says that the run waits in.
fn wanted(due: &Due) -> Option<Answer> {
    match due.definition.steps.get(due.step).map(|step| &step.action) {
        Some(Action::Answer(answer)) => Some(answer.clone()),
        Some(Action::Send(_) | Action::HandOver { .. }) | None => None,
    }
}

/// The last text that is to be answered.
fn last(due: &Due) -> Option<MessageId> {
    due.facts["last_message_id"].as_str()?.parse().ok()
}

async fn talk(
    conn: &mut PgConnection,
    tenant: Tenant,
    due: &Due,
    now: DateTime<Utc>,
) -> mainstay_db::Result<Option<Talk>> {
    let Some(conversation) = due.conversation else {
        return Ok(None);
    };
    sql::talk(conn, tenant, conversation, MOST_SAID, now).await
}

async fn verdict(messaging: &Messaging, due: &Due, answer: &Answer, talk: &Talk) -> Verdict {
    if talk.in_a_row >= MOST_IN_A_ROW {
        return Verdict::Person("too many answers in a row".to_owned(), None);
    }
    if talk.today >= messaging.answers_per_day {
        return Verdict::Person("the day's answers are used up".to_owned(), None);
    }
    let told = crate::automation::advance::tells(due);
    let name = told["lead"]["first_name"].as_str();
    let instructions = match name {
        Some(name) => format!("{}\nYou write to {name}.", answer.instructions),
        None => answer.instructions.clone(),
    };
    match messaging.model.ask(&instructions, &talk.said).await {
        Ok(Reply::Says { text, usage }) => Verdict::Says(text, usage),
        Ok(Reply::CallsForPerson { reason, usage }) => Verdict::Person(reason, Some(usage)),
        Err(cause) => {
            tracing::error!(
                alert = "model_unavailable", automation_run.id = %due.id, cause,
                "a model gave no answer: a person is called"
            );
            Verdict::Silence(cause.to_string())
        }
    }
}

/// To whom it is said, in the transaction in which it is.
struct To<'a> {
    tenant: Tenant,
    due: &'a Due,
    talk: &'a Talk,
    account: Option<Account>,
    model: &'a str,
    now: DateTime<Utc>,
}

async fn say(
    conn: &mut PgConnection,
    to: &To<'_>,
    answer: &Answer,
    verdict: Verdict,
) -> mainstay_db::Result<()> {
    let (reason, usage) = match &verdict {
        Verdict::Says(_, usage) => (None, Some(usage)),
        Verdict::Person(reason, usage) => (Some(reason.as_str()), usage.as_ref()),
        Verdict::Silence(cause) => {
            let told = json!({ "cause": cause });
            alarm::tell(conn, to.tenant, "messaging.model.unavailable", told, to.now).await?;
            (Some("the model gave no answer"), None)
        }
    };
    let next = match reason {
        None => Step::after(to.due, to.now),
        Some(reason) => {
            advance::hand_over(conn, to.tenant, to.due, reason, to.now).await?;
            Step::ends(to.due, RunState::Stopped, format!("handed_over: {reason}"))
        }
    };
    if let Some(usage) = usage {
        sql::note(conn, to.tenant, to.due, to.model, *usage, to.now).await?;
    }
    let text = match verdict {
        Verdict::Says(text, _) => Some(text),
        Verdict::Person(..) | Verdict::Silence(_) => answer.fallback.clone(),
    };
    if let Some(text) = text {
        let Some(account) = &to.account else {
            let fails = Step::ends(to.due, RunState::Failed, "no_sender".to_owned());
            return advance::step(conn, to.tenant, &[fails], to.now).await;
        };
        let draft = Draft {
            lead: to.due.lead,
            address: &to.talk.address,
            channel: to.talk.channel,
            sender: &account.sender,
            rate: account.rate,
            purpose: Purpose::Conversational,
            caused_by: &format!("automation:{}", to.due.automation),
            once_key: Some(format!("automation:{}:{}", to.due.id, to.due.step)),
            subject: None,
            body: text.chars().take(MOST_CHARS).collect(),
            send_at: None,
            expires_at: None,
        };
        if let Some(id) = message::enqueue(conn, to.tenant, draft, to.now).await? {
            let made = [(to.due.id, to.due.step, id)];
            advance::link(conn, to.tenant, &made, to.now).await?;
        }
    }
    advance::step(conn, to.tenant, &[next], to.now).await
}
