//! Taking steps: those of all runs of a client that are due, by the same few statements for one as for five hundred. What a step
//! makes, and that it was taken, is one transaction: whoever is killed leaves the step untaken, or taken once.
//! Deliberately absent: a look at consent. What is queued here is decided by the gate when it leaves.

mod sql;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use mainstay_jobs::record::{self, By, Change};
use mainstay_jobs::{Job, JobError};
use mainstay_types::{AutomationId, AutomationRunId, ConversationId, LeadId, ServiceName, Tenant};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::definition::{Action, Definition, Send};
use super::rules::{self, Known};
use super::{RunState, render};
use crate::address::Address;
use crate::carrier::Account;
use crate::gate::Channel;
use crate::message::{self, Draft};
use crate::{Messaging, jobs};

pub(crate) use sql::{Step, find_answering, link, step};

/// How many runs take a step in one transaction.
pub(crate) const BATCH: i64 = 500;

/// A run that is due, with all that its step needs.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) id: AutomationRunId,
    pub(crate) automation: AutomationId,
    pub(crate) active: bool,
    pub(crate) definition: Definition,
    pub(crate) lead: LeadId,
    pub(crate) lead_name: Option<String>,
    pub(crate) known: Known,
    pub(crate) phone: Option<Address>,
    pub(crate) email: Option<Address>,
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) sender: Option<String>,
    pub(crate) facts: Value,
    pub(crate) step: usize,
    pub(crate) starts_at: Option<DateTime<Utc>>,
    /// Whether they have written since it began.
    pub(crate) replied: bool,
    /// Whether somebody has taken the conversation over.
    pub(crate) taken_over: bool,
}

/// Whom a message may leave as: by channel, and by the number that they know.
type Senders = BTreeMap<(Channel, Option<String>), Option<Account>>;

/// Takes all steps that are due, batch by batch, and ends the job with the last.
pub(crate) async fn all(messaging: &Messaging, tenant: Tenant, job: &Job) -> Result<(), JobError> {
    loop {
        let now = messaging.clock.now();
        let wanted = peek(messaging, tenant, now).await?;
        // No transaction is open meanwhile: integrations is asked.
        let mut senders = Senders::new();
        for (channel, sender) in wanted {
            let found = messaging
                .senders
                .resolve(tenant, channel, sender.as_deref())
                .await
                .map_err(JobError::retry)?;
            senders.insert((channel, sender), found.into_iter().next());
        }
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        let due = sql::due(tx.conn(), tenant, now, BATCH).await?;
        let full = i64::try_from(due.len()).is_ok_and(|count| count >= BATCH);
        take(tx.conn(), tenant, due, &senders, now).await?;
        if !full {
            job.complete_in(tx.conn()).await?;
        }
        tx.commit().await?;
        messaging.wake();
        messaging.wake_jobs();
        if !full {
            return Ok(());
        }
    }
}

/// Which senders the next batch needs.
async fn peek(
    messaging: &Messaging,
    tenant: Tenant,
    now: DateTime<Utc>,
) -> mainstay_db::Result<BTreeSet<(Channel, Option<String>)>> {
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    let due = sql::due(tx.conn(), tenant, now, BATCH).await?;
    tx.commit().await?;
    let wanted = due.iter().filter_map(|run| {
        let step = run.definition.steps.get(run.step)?;
        match &step.action {
            Action::Send(send) => Some((send.channel, known_as(run, send.channel))),
            Action::Answer(_) | Action::HandOver { .. } => None,
        }
    });
    Ok(wanted.collect())
}

/// The number that they know, if the message leaves on that channel.
fn known_as(run: &Due, channel: Channel) -> Option<String> {
    let sender = run.sender.as_ref()?;
    (sender.contains('@') == (channel == Channel::Email)).then(|| sender.clone())
}

/// What comes of a run's step.
enum Outcome {
    Sends(Box<Message>),
    Answers,
    HandsOver(String),
    Ends(RunState, String),
    /// Its senders were not asked for: it became due meanwhile.
    Waits,
}

/// A message that a step makes.
struct Message {
    address: Address,
    account: Account,
    send: Send,
    subject: Option<String>,
    body: String,
    caused_by: String,
}

/// Takes a batch's steps.
async fn take(
    conn: &mut PgConnection,
    tenant: Tenant,
    due: Vec<Due>,
    senders: &Senders,
    now: DateTime<Utc>,
) -> Result<(), JobError> {
    let (mut steps, mut made, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for run in &due {
        match outcome(run, senders) {
            Outcome::Waits => {}
            Outcome::Ends(state, reason) => steps.push(Step::ends(run, state, reason)),
            Outcome::HandsOver(reason) => {
                hand_over(conn, tenant, run, &reason, now).await?;
                steps.push(Step::after(run, now));
            }
            Outcome::Answers => {
                answers.push(run.id);
                steps.push(Step::answering(run));
            }
            Outcome::Sends(message) => {
                made.push((run, message));
                steps.push(Step::after(run, now));
            }
        }
    }
    let drafts = made.iter().map(|(run, message)| Draft {
        lead: run.lead,
        address: &message.address,
        channel: message.send.channel,
        sender: &message.account.sender,
        rate: message.account.rate,
        purpose: message.send.purpose,
        caused_by: &message.caused_by,
        once_key: Some(format!("automation:{}:{}", run.id, run.step)),
        subject: message.subject.clone(),
        body: message.body.clone(),
        send_at: None,
        // A reminder is of no use afterwards.
        expires_at: run.starts_at.filter(|starts_at| *starts_at > now),
    });
    let ids = message::enqueue_all(conn, tenant, drafts.collect(), now).await?;
    let linked: Vec<_> = made
        .iter()
        .zip(ids)
        .filter_map(|((run, _), id)| Some((run.id, run.step, id?)))
        .collect();
    link(conn, tenant, &linked, now).await?;
    step(conn, tenant, &steps, now).await?;
    for run in answers {
        mainstay_jobs::enqueue(conn, jobs::answer_run::job(tenant, run, now)).await?;
    }
    let mut due_next: Vec<DateTime<Utc>> = steps.iter().filter_map(|step| step.due_at).collect();
    due_next.sort_unstable();
    due_next.dedup();
    for at in due_next {
        mainstay_jobs::enqueue(conn, jobs::advance_runs::job(tenant, now).at(at)).await?;
    }
    Ok(())
}

fn outcome(run: &Due, senders: &Senders) -> Outcome {
    let stops = |reason: &str| Outcome::Ends(RunState::Stopped, reason.to_owned());
    let fails = |reason: String| Outcome::Ends(RunState::Failed, reason);
    if !run.active {
        return stops("automation_paused");
    }
    if run.definition.stop_on_reply && run.replied {
        return stops("replied");
    }
    if !run.definition.conditions.hold(&run.known) {
        return stops("conditions");
    }
    let Some(step) = run.definition.steps.get(run.step) else {
        return Outcome::Ends(RunState::Done, String::new());
    };
    let send = match &step.action {
        Action::HandOver { reason } => return Outcome::HandsOver(reason.clone()),
        Action::Answer(_) if run.taken_over => return stops("taken_over"),
        Action::Answer(_) => return Outcome::Answers,
        Action::Send(send) => send,
    };
    let address = match send.channel {
        Channel::Email => &run.email,
        Channel::Sms | Channel::Whatsapp | Channel::Voice => &run.phone,
    };
    let Some(address) = address else {
        return fails("lead_unreachable".to_owned());
    };
    let account = match senders.get(&(send.channel, known_as(run, send.channel))) {
        None => return Outcome::Waits,
        Some(None) => return fails("no_sender".to_owned()),
        Some(Some(account)) => account,
    };
    let tells = tells(run);
    let texts = render::render(&send.body, &tells).and_then(|body| {
        let subject = send.subject.as_deref();
        let subject = subject.map(|text| render::render(text, &tells)).transpose();
        subject.map(|subject| (subject, body))
    });
    match texts {
        Err(wrong) => fails(format!("text: {wrong}")),
        Ok((subject, body)) => Outcome::Sends(Box::new(Message {
            address: address.clone(),
            account: account.clone(),
            send: send.clone(),
            subject,
            body,
            caused_by: format!("automation:{}", run.automation),
        })),
    }
}

/// What texts see: the automation's variables, the occasion, the lead. What is not known is not there.
pub(crate) fn tells(run: &Due) -> Value {
    let mut told: Map<String, Value> = run
        .definition
        .variables
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    if let Value::Object(facts) = &run.facts {
        told.extend(facts.clone());
    }
    told.insert("lead".to_owned(), render::lead(run.lead_name.as_deref()));
    Value::Object(told)
}

/// Calls for a person: an event that escalation takes in, once for a run's step.
pub(crate) async fn hand_over(
    conn: &mut PgConnection,
    tenant: Tenant,
    run: &Due,
    reason: &str,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let change = Change {
        action: "messaging.automation_run.hand_over",
        event: "messaging.hand_over.requested",
        noun: "automation_run",
        target: run.id.to_string(),
        client: Some(tenant.client),
        sequence: i64::try_from(run.step).unwrap_or(i64::MAX) + 1,
        before: None,
        after: json!({
            "automation_id": run.automation,
            "lead_id": run.lead,
            "lead_name": run.lead_name,
            "conversation_id": run.conversation,
            "reason": reason,
        }),
    };
    let by = By::itself(ServiceName::Messaging, tenant.agency, now);
    record::write_to(conn, &by, change, &[ServiceName::Escalation]).await
}

impl Step {
    /// It ends here.
    pub(crate) fn ends(run: &Due, state: RunState, reason: String) -> Self {
        Step {
            run: run.id,
            state,
            reason: (state != RunState::Done).then_some(reason),
            step: run.step,
            due_at: None,
        }
    }

    fn answering(run: &Due) -> Self {
        Step {
            run: run.id,
            state: RunState::Answering,
            reason: None,
            step: run.step,
            due_at: None,
        }
    }

    /// The step was taken; there is a next one or there is none.
    pub(crate) fn after(run: &Due, now: DateTime<Utc>) -> Self {
        let next = rules::next_step(&run.definition, run.step + 1, run.starts_at, now);
        match next {
            Some((step, due_at)) => Step {
                run: run.id,
                state: RunState::Running,
                reason: None,
                step,
                due_at: Some(due_at),
            },
            None => Step {
                run: run.id,
                state: RunState::Done,
                reason: None,
                step: run.definition.steps.len(),
                due_at: None,
            },
        }
    }
}
