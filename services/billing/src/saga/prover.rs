//! The prover (BIL-24): takes any saga and breaks it at every place there is, once each: every step repeated, failed before
//! and after its effect, silent after its effect, refused; coordinators killed between any two acts, and one that hangs,
//! is taken over and wakes up; the same for every undoing. Afterwards the world must agree with itself.
//! Deliberately absent: what agreement means. The world of the saga says that ([`World`]), from outside.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_db::{Error, TenantTx, Worker};
use mainstay_rpc::ErrorReason;
use mainstay_types::{ClientId, SagaId};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::definition::{Call, Definition, Direction, Failure, Probed, Refusal, Step, Stop};
use super::engine::{Engine, Interruption, Moment};
use super::log;

/// One way to break one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Break {
    /// It is done twice, one right after the other.
    Repeat,
    /// It fails before it does anything, and nobody knows.
    FailBefore,
    /// It does it, and nobody knows.
    FailAfter,
    /// It fails twice before it does anything, so that its effect is looked for, and not there.
    FailTwiceBefore,
    /// It does it and nobody knows, twice, so that its effect is looked for, and there.
    FailTwiceAfter,
    /// It does it and never answers.
    Silence,
    /// Its coordinator dies.
    Death(Moment),
    /// Its coordinator hangs after the step, is taken over, and goes on when the other has ended the saga.
    Hang,
}

impl Break {
    const ALL: [Break; 11] = [
        Break::Repeat,
        Break::FailBefore,
        Break::FailAfter,
        Break::FailTwiceBefore,
        Break::FailTwiceAfter,
        Break::Silence,
        Break::Death(Moment::BeforeStep),
        Break::Death(Moment::AfterStep),
        Break::Death(Moment::BeforeCommit),
        Break::Death(Moment::AfterCommit),
        Break::Hang,
    ];

    /// How often it strikes.
    const fn times(self) -> u32 {
        match self {
            Break::FailTwiceBefore | Break::FailTwiceAfter => 2,
            _ => 1,
        }
    }

    /// Those there are for a step: where it writes no rows of its own, the log is one statement, with nothing before its
    /// commit.
    fn of(records: bool) -> impl Iterator<Item = Break> {
        let all = Break::ALL.into_iter();
        all.filter(move |how| records || *how != Break::Death(Moment::BeforeCommit))
    }
}

/// What is done to one run of a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Case {
    /// Nothing is refused, or this step refuses, once and for all.
    pub refuses: Option<&'static str>,
    /// What breaks, where: the step, done or undone.
    pub breaks: Option<(&'static str, bool, Break)>,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.refuses, self.breaks) {
            (None, None) => write!(f, "undisturbed"),
            (Some(step), None) => write!(f, "{step} refuses"),
            (None, Some((step, _, how))) => write!(f, "{how:?} at {step}"),
            (Some(refuses), Some((step, _, how))) => {
                write!(f, "{refuses} refuses, {how:?} at the undoing of {step}")
            }
        }
    }
}

/// Everything that can be done to a saga: each step broken in each way, each step that may refuse refusing, and then each
/// undoing that follows broken in each way.
pub fn cases(definition: &Definition) -> Vec<Case> {
    let mut cases = vec![Case {
        refuses: None,
        breaks: None,
    }];
    for step in &definition.steps {
        cases.extend(Break::of(step.records()).map(|how| Case {
            refuses: None,
            breaks: Some((step.name(), false, how)),
        }));
    }
    for (place, step) in definition.steps.iter().enumerate() {
        if !step.may_refuse() {
            continue;
        }
        let refuses = Some(step.name());
        cases.push(Case {
            refuses,
            breaks: None,
        });
        // The undoings that only this refusal, or the first one after them, sets off.
        let before = &definition.steps[..place];
        let last = before
            .iter()
            .rposition(|step| step.may_refuse())
            .unwrap_or(0);
        for (at, undone) in before.iter().enumerate() {
            if undone.undoable() && (at >= last || place + 1 == definition.steps.len()) {
                cases.extend(Break::of(undone.records_undo()).map(|how| Case {
                    refuses,
                    breaks: Some((undone.name(), true, how)),
                }));
            }
        }
    }
    cases.sort_by_key(|case| format!("{case}"));
    cases.dedup();
    cases
}

/// Breaks the sagas of clients as they were told to. Clones are the same.
#[derive(Clone, Default)]
pub struct Sabotage {
    plans: Arc<Mutex<HashMap<ClientId, Plan>>>,
    changed: Arc<Notify>,
    woken: Arc<Notify>,
}

#[derive(Debug, Clone)]
struct Plan {
    case: Case,
    saga: &'static str,
    fired: u32,
    hanging: bool,
    expired: bool,
    released: bool,
}

impl std::fmt::Debug for Sabotage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sabotage({} plans)", self.plans().len())
    }
}

impl Sabotage {
    fn plans(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this saga of the client is broken so.
    pub fn plan(&self, client: ClientId, saga: &'static str, case: Case) {
        let plan = Plan {
            case,
            saga,
            fired: 0,
            hanging: false,
            expired: false,
            released: false,
        };
        self.plans().insert(client, plan);
    }

    /// The definition with all its steps able to break.
    #[must_use]
    pub fn over(&self, definition: Definition) -> Definition {
        let saga = definition.name;
        definition.with_steps(|step| {
            Box::new(Breakable {
                inner: step,
                saga,
                sabotage: self.clone(),
            })
        })
    }

    /// Whether something breaks here, now; each plan breaks so often and no more.
    fn strikes(&self, call: &Call<'_>, wanted: impl Fn(Break) -> bool) -> Option<Break> {
        let mut plans = self.plans();
        let plan = plans.get_mut(&call.tenant.client)?;
        let (step, undoing, how) = plan.case.breaks?;
        let here = step == call.step && undoing == (call.direction == Direction::Undo);
        if plan.fired >= how.times() || !here || !wanted(how) {
            return None;
        }
        plan.fired += 1;
        drop(plans);
        self.changed.notify_waiters();
        Some(how)
    }

    fn refuses(&self, call: &Call<'_>, saga: &str) -> bool {
        let plans = self.plans();
        let plan = plans.get(&call.tenant.client);
        plan.is_some_and(|plan| {
            plan.saga == saga
                && plan.case.refuses == Some(call.step)
                && call.direction == Direction::Do
        })
    }

    /// Whether a coordinator has just died or hangs, so that its lease is to expire; said once.
    fn left_behind(&self, client: ClientId) -> bool {
        let mut plans = self.plans();
        let Some(plan) = plans.get_mut(&client).filter(|plan| !plan.expired) else {
            return false;
        };
        let dead = matches!(plan.case.breaks, Some((_, _, Break::Death(_)))) && plan.fired > 0;
        plan.expired = dead || plan.hanging;
        plan.expired
    }

    /// Whether the plan has broken what it was to break, or does so yet.
    pub async fn fires(&self, client: ClientId, until: Instant) -> bool {
        let fired = || {
            let plans = self.plans();
            plans
                .get(&client)
                .is_none_or(|plan| plan.fired > 0 || plan.case.breaks.is_none())
        };
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if fired() {
                return true;
            }
            if timeout_at(until.into(), changed).await.is_err() {
                return fired();
            }
        }
    }

    /// Wakes the coordinator that hangs.
    fn release(&self, client: ClientId) {
        if let Some(plan) = self.plans().get_mut(&client) {
            plan.released = true;
        }
        self.woken.notify_waiters();
    }
}

#[tonic::async_trait]
impl Interruption for Sabotage {
    async fn kills(&self, moment: Moment, call: &Call<'_>) -> bool {
        if self
            .strikes(call, |how| how == Break::Death(moment))
            .is_some()
        {
            return true;
        }
        if moment == Moment::AfterStep && self.strikes(call, |how| how == Break::Hang).is_some() {
            if let Some(plan) = self.plans().get_mut(&call.tenant.client) {
                plan.hanging = true;
            }
            self.changed.notify_waiters();
            loop {
                let woken = self.woken.notified();
                let released = {
                    let plans = self.plans();
                    plans
                        .get(&call.tenant.client)
                        .is_none_or(|plan| plan.released)
                };
                if released {
                    return false;
                }
                woken.await;
            }
        }
        false
    }
}

struct Breakable {
    inner: Box<dyn Step>,
    saga: &'static str,
    sabotage: Sabotage,
}

impl Breakable {
    /// Does what the call asks for.
    async fn does(&self, call: &Call<'_>) -> Result<Value, Stop> {
        match call.direction {
            Direction::Do => self.inner.run(call).await,
            Direction::Undo => self.inner.undo(call).await.map(|()| Value::Null),
        }
    }

    /// Does it as the plan has it.
    async fn broken(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let speaks = |how| {
            matches!(
                how,
                Break::Repeat
                    | Break::FailBefore
                    | Break::FailAfter
                    | Break::FailTwiceBefore
                    | Break::FailTwiceAfter
                    | Break::Silence
            )
        };
        match self.sabotage.strikes(call, speaks) {
            Some(Break::FailBefore | Break::FailTwiceBefore) => {
                Err(Failure::new("broken before the effect").into())
            }
            Some(Break::FailAfter | Break::FailTwiceAfter) => {
                self.does(call).await?;
                Err(Failure::new("broken after the effect").into())
            }
            Some(Break::Silence) => {
                self.does(call).await?;
                std::future::pending().await
            }
            Some(Break::Repeat) => {
                self.does(call).await?;
                self.does(call).await
            }
            _ => self.does(call).await,
        }
    }
}

#[tonic::async_trait]
impl Step for Breakable {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        if self.sabotage.refuses(call, self.saga) {
            let refusal = Refusal::new(ErrorReason::ProviderRefused, "refused by the prover");
            return Err(refusal.into());
        }
        self.broken(call).await
    }

    fn may_refuse(&self) -> bool {
        self.inner.may_refuse()
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        self.inner.probe(call).await
    }

    async fn verify(&self, call: &Call<'_>, evidence: Option<&str>) -> Result<Value, String> {
        self.inner.verify(call, evidence).await
    }

    fn records(&self) -> bool {
        self.inner.records()
    }

    async fn record(
        &self,
        tx: &mut TenantTx,
        call: &Call<'_>,
        output: Value,
    ) -> Result<Value, Stop> {
        self.inner.record(tx, call, output).await
    }

    fn undoable(&self) -> bool {
        self.inner.undoable()
    }

    async fn undo(&self, call: &Call<'_>) -> Result<(), Stop> {
        self.broken(call).await.map(|_| ())
    }

    fn records_undo(&self) -> bool {
        self.inner.records_undo()
    }

    async fn record_undo(&self, tx: &mut TenantTx, call: &Call<'_>) -> Result<(), Stop> {
        self.inner.record_undo(tx, call).await
    }
}

/// How a saga ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything was done.
    Completed,
    /// Everything was undone.
    Compensated,
}

/// The world around a saga: how one run is begun, and what must agree when it has ended.
#[tonic::async_trait]
pub trait World: Send + Sync {
    /// The saga.
    fn saga(&self) -> &'static str;

    /// A client of its own for one run, with everything in place before the saga starts.
    async fn client(&self) -> ClientId;

    /// Starts the saga for the client, and gives its id; whoever asked may have heard nothing.
    async fn begin(&self, client: ClientId) -> SagaId;

    /// Something outside happens that a waiting saga waits for. Called until it ends.
    async fn go_on(&self, _client: ClientId, _saga: SagaId) {}

    /// What does not agree now that it has ended: nothing, when all is well.
    async fn disagreements(&self, client: ClientId, saga: SagaId, ended: Ended) -> Vec<String>;
}

/// What proving takes: two coordinators, both sabotaged; each break happens once, to whichever runs the saga then.
#[derive(Debug)]
pub struct Prover {
    /// What breaks them.
    pub sabotage: Sabotage,
    /// One of them, to wait with.
    pub second: Engine,
    /// The log.
    pub worker: Worker,
    /// How long a run may take before it counts as stuck.
    pub patience: Duration,
}

impl Prover {
    /// Runs one case and says what is wrong afterwards.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn prove(&self, world: &dyn World, case: Case) -> Result<Vec<String>, Error> {
        let client = world.client().await;
        self.sabotage.plan(client, world.saga(), case);
        let saga = world.begin(client).await;
        let until = Instant::now() + self.patience;
        let standing = loop {
            let changed = self.sabotage.changed.notified();
            if self.sabotage.left_behind(client) {
                self.expire(saga).await?;
                self.second.wake();
            }
            let soon = (Instant::now() + Duration::from_millis(200)).min(until);
            let standing = tokio::select! {
                standing = self.second.wait(saga, soon) => standing?,
                () = changed => continue,
            };
            if standing.at_rest || Instant::now() >= until {
                break standing;
            }
            if standing.waiting {
                world.go_on(client, saga).await;
            }
        };
        // Whoever hung wakes up when all is over, and must find that nothing is its to write.
        self.sabotage.release(client);
        if !standing.at_rest {
            return Ok(vec!["it does not end".to_owned()]);
        }
        let mut wrong = Vec::new();
        // What strikes after the last commit comes after the saga is seen at rest.
        if !self.sabotage.fires(client, until).await {
            wrong.push("the break never happened: the case proves nothing".to_owned());
        }
        let ended = match (standing.completed, case.refuses) {
            (true, None) => Ended::Completed,
            (false, Some(_)) => Ended::Compensated,
            (true, Some(step)) => {
                wrong.push(format!("{step} refused, and it completed"));
                Ended::Completed
            }
            (false, None) => {
                wrong.push(format!("it did not complete: {:?}", standing.refusal));
                Ended::Compensated
            }
        };
        wrong.extend(world.disagreements(client, saga, ended).await);
        Ok(wrong)
    }

    /// As time would: the lease of whoever is dead or hangs expires.
    async fn expire(&self, saga: SagaId) -> Result<(), Error> {
        let mut worker = self.worker.connection().await?;
        log::expire_lease(worker.conn(), saga).await
    }
}
