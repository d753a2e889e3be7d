//! The coordinator: whoever starts a saga runs it at once; a loop takes over what is due or was left. It talks to others
//! outside transactions, and stops the moment a write shows that its lease is another's.
//! Deliberately absent: memory. What a saga has done and will do stands in the log; a coordinator may die anywhere.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use mainstay_db::{Error, Worker};
use mainstay_runtime::{clock::Clock, shutdown::Shutdown, telemetry};
use mainstay_types::{SagaId, Tenant};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tracing::Instrument;
use uuid::Uuid;

use super::definition::{Call, Definition, Direction, Failure, Step, Stop};
use super::log::{self, Lease, Leased, Move, NewSaga, Standing};
use super::rules::{self, At, Next, Settled, Shape};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct EngineLimits {
    /// One try of one step; longer is an unknown outcome.
    pub step: Duration,
    /// From one write to the next; must be longer than a step and its writes.
    pub lease: Duration,
    /// Between looks for what is due.
    pub poll: Duration,
    /// Sagas run at once by the loop.
    pub at_once: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(20),
            lease: Duration::from_secs(45),
            poll: Duration::from_millis(500),
            at_once: 32,
        }
    }
}

/// Pauses up to this are waited for with the lease in hand; longer ones go back to the log.
const WAIT_IN_HAND: Duration = Duration::from_millis(1_500);

/// Runs sagas. Clones are the same coordinator.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    worker: Worker,
    clock: Clock,
    shutdown: Shutdown,
    definitions: Vec<Arc<Definition>>,
    limits: EngineLimits,
    /// This coordinator, as leases name it.
    owner: Uuid,
    rested: broadcast::Sender<SagaId>,
    wake: Notify,
    /// Bounds what the loop takes over. What a request starts is bounded by the requests.
    slots: Arc<Semaphore>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.inner.owner)
    }
}

/// A saga that was written in a transaction, to be launched when that is committed.
#[derive(Debug)]
#[must_use = "a saga that is not launched waits for its lease to expire"]
pub struct Started(Leased);

impl Started {
    /// The saga.
    pub fn id(&self) -> SagaId {
        self.0.id
    }
}

/// The lease is another's: whatever this coordinator was about to write, it must not.
enum Broken {
    Fenced,
    Database(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Broken::Database(error)
    }
}

impl Engine {
    /// A coordinator of these sagas.
    pub fn new(
        worker: Worker,
        clock: Clock,
        shutdown: Shutdown,
        definitions: Vec<Definition>,
        limits: EngineLimits,
    ) -> Self {
        let (rested, _) = broadcast::channel(1_024);
        Self {
            inner: Arc::new(Inner {
                worker,
                clock,
                shutdown,
                definitions: definitions.into_iter().map(Arc::new).collect(),
                limits,
                owner: Uuid::new_v4(),
                rested,
                wake: Notify::new(),
                slots: Arc::new(Semaphore::new(limits.at_once)),
            }),
        }
    }

    /// Writes a saga in the caller's transaction. Launch it after the commit.
    ///
    /// # Errors
    /// Those of the database.
    ///
    /// # Panics
    /// When the definition is not one of this coordinator's: a mistake of the program.
    pub async fn start(
        &self,
        conn: &mut PgConnection,
        tenant: Tenant,
        definition: &str,
        id: SagaId,
        input: &impl Serialize,
    ) -> Result<Started, Error> {
        let definition = self
            .inner
            .definitions
            .iter()
            .filter(|known| known.name == definition)
            .max_by_key(|known| known.version)
            .unwrap_or_else(|| panic!("no saga is called {definition}"));
        let input = serde_json::to_value(input).expect("inputs are plain data");
        let traceparent = telemetry::current_traceparent();
        let saga = NewSaga {
            id,
            tenant,
            definition: definition.name,
            version: definition.version,
            first_step: definition.steps[0].name(),
            input: &input,
            owner: self.inner.owner,
            lease: self.inner.limits.lease,
            traceparent: traceparent.clone(),
        };
        log::insert(conn, &saga).await?;
        Ok(Started(Leased {
            id,
            tenant,
            definition: definition.name.to_owned(),
            version: definition.version,
            direction: Direction::Do,
            position: 0,
            attempt: 0,
            input,
            outputs: Default::default(),
            refusal: None,
            traceparent,
            fence: log::FIRST_FENCE,
            intended_for: Duration::ZERO,
        }))
    }

    /// Runs a saga whose transaction is committed.
    pub fn launch(&self, started: Started) {
        self.spawn(started.0, None);
    }

    /// Waits until the saga is at rest, at most until then; tells how it stands. Works for sagas of other processes too.
    ///
    /// # Errors
    /// Those of the database, or when there is no such saga.
    pub async fn wait(&self, id: SagaId, until: Instant) -> Result<Standing, Error> {
        // Subscribed before the first look: what comes to rest in between is not missed.
        let mut rested = self.inner.rested.subscribe();
        loop {
            let mut worker = self.inner.worker.connection().await?;
            let standing = log::standing(worker.conn(), id).await?;
            drop(worker);
            let standing = standing.ok_or(Error::Other(sqlx::Error::RowNotFound))?;
            if standing.at_rest || Instant::now() >= until {
                return Ok(standing);
            }
            // Other processes do not tell: their sagas are looked at again after a moment.
            let look_again = (Instant::now() + Duration::from_millis(250)).min(until);
            let heard = async {
                while let Ok(other) = rested.recv().await {
                    if other == id {
                        return;
                    }
                }
            };
            tokio::select! {
                () = heard => {}
                () = tokio::time::sleep_until(look_again.into()) => {}
            }
        }
    }

    /// Looks for due sagas now rather than at the next look.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Takes over what is due until the stop is triggered.
    pub async fn run(&self) {
        let inner = &self.inner;
        loop {
            let took = match self.take_over().await {
                Ok(took) => took,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "could not look for due sagas"
                    );
                    0
                }
            };
            if took > 0 && !inner.shutdown.is_triggered() {
                continue;
            }
            tokio::select! {
                () = inner.shutdown.triggered() => return,
                () = inner.wake.notified() => {}
                () = tokio::time::sleep(inner.limits.poll) => {}
            }
        }
    }

    /// Claims what is due and starts running it; tells how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_over(&self) -> Result<usize, Error> {
        let inner = &self.inner;
        let free = inner.slots.available_permits();
        if free == 0 {
            return Ok(0);
        }
        let known: Vec<(String, i32)> = inner
            .definitions
            .iter()
            .map(|definition| (definition.name.to_owned(), definition.version))
            .collect();
        let mut worker = inner.worker.connection().await?;
        let limit = i64::try_from(free.min(16)).unwrap_or(16);
        let claimed = log::claim(
            worker.conn(),
            inner.owner,
            inner.limits.lease,
            &known,
            limit,
        )
        .await?;
        drop(worker);
        let took = claimed.len();
        for saga in claimed {
            tracing::info!(saga = %saga.id, fence = saga.fence, "took over a saga");
            // Counted above; only a second loop of this coordinator could have taken it since.
            let slot = Arc::clone(&inner.slots).try_acquire_owned().ok();
            self.spawn(saga, slot);
        }
        Ok(took)
    }

    fn spawn(&self, saga: Leased, slot: Option<OwnedSemaphorePermit>) {
        let engine = self.clone();
        let span = tracing::info_span!(
            "saga",
            otel.name = format!("saga {}", saga.definition),
            mainstay.role = "billing",
            saga.id = %saga.id,
            saga.fence = saga.fence,
        );
        if let Some(traceparent) = &saga.traceparent {
            telemetry::set_parent(&span, traceparent);
        }
        let work = async move {
            engine.drive(saga).await;
            drop(slot);
        };
        self.inner.shutdown.spawn(work.instrument(span));
    }

    async fn drive(&self, mut saga: Leased) {
        let id = saga.id;
        match self.walk(&mut saga).await {
            Ok(()) => {}
            Err(Broken::Fenced) => {
                tracing::warn!(saga = %id, "the lease of this saga is another's; leaving it to them");
            }
            Err(Broken::Database(error)) => {
                tracing::warn!(saga = %id, error = &error as &dyn std::error::Error, "left a saga because of the database");
                self.give_back(&saga).await;
            }
        }
        // Also after a break, so that whoever waits looks at once.
        let _ = self.inner.rested.send(id);
    }

    /// Hands a saga back to the log after a failure of the database. Where even that fails the lease expires.
    async fn give_back(&self, saga: &Leased) {
        let lease = self.lease(saga);
        let pause = rules::pause_after_break(saga.attempt);
        if let Ok(mut worker) = self.inner.worker.connection().await {
            let _ = log::give_back(worker.conn(), lease, pause, 1).await;
        }
    }

    fn lease(&self, saga: &Leased) -> Lease {
        Lease {
            id: saga.id,
            owner: self.inner.owner,
            fence: saga.fence,
        }
    }

    async fn walk(&self, saga: &mut Leased) -> Result<(), Broken> {
        let inner = &self.inner;
        let definition = inner
            .definitions
            .iter()
            .find(|known| known.name == saga.definition && known.version == saga.version)
            .expect("only known definitions are claimed");
        let shape = Shape {
            undoable: definition
                .steps
                .iter()
                .map(|step| step.undoable())
                .collect(),
            pivot: definition.pivot,
        };
        let lease = self.lease(saga);
        let mut intended_at = Instant::now();
        loop {
            if inner.shutdown.is_triggered() {
                let mut worker = inner.worker.connection().await?;
                return Ok(log::give_back(worker.conn(), lease, Duration::ZERO, 0).await?);
            }
            let at = At {
                direction: saga.direction,
                position: saga.position,
                attempt: saga.attempt,
            };
            let step = definition.steps[at.position].as_ref();
            let call = Call {
                saga: saga.id,
                tenant: saga.tenant,
                step: step.name(),
                direction: at.direction,
                fence: saga.fence,
                attempt: at.attempt,
                intended_for: saga.intended_for + intended_at.elapsed(),
                now: inner.clock.now(),
                refusal: saga.refusal.as_ref(),
                input: &saga.input,
                outputs: &saga.outputs,
            };
            let span = tracing::info_span!(
                "saga.step",
                otel.name = format!("saga.step {} {}", step.name(), at.direction.as_str()),
                mainstay.role = "billing",
                saga.attempt = at.attempt,
            );
            let (settled, output, next) = self
                .attempt(definition, &shape, step, &call, at, lease)
                .instrument(span)
                .await?;
            match (&settled, at.direction) {
                (Settled::Done, Direction::Do) => {
                    saga.outputs.insert(step.name().to_owned(), output);
                }
                (Settled::Refused(refusal), Direction::Do) => {
                    tracing::info!(saga = %saga.id, step = step.name(), reason = refusal.reason, "refused; undoing");
                    saga.refusal = Some(refusal.clone());
                }
                (Settled::Unknown(failure), _) => {
                    tracing::info!(saga = %saga.id, step = step.name(), attempt = at.attempt, error = failure.error, "not known to be done");
                }
                _ => {}
            }
            match next {
                Next::Step(direction, position) => {
                    saga.direction = direction;
                    saga.position = position;
                    saga.attempt = 0;
                    saga.intended_for = Duration::ZERO;
                    intended_at = Instant::now();
                }
                Next::Again(pause) if pause <= WAIT_IN_HAND => {
                    saga.attempt += 1;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = inner.shutdown.triggered() => {}
                    }
                }
                Next::Again(_) | Next::Completed | Next::Compensated => return Ok(()),
                Next::Park => {
                    // An alert: nothing more happens until a person decides.
                    tracing::error!(saga = %saga.id, definition = definition.name, step = step.name(), "saga parked");
                    return Ok(());
                }
            }
        }
    }

    /// One try of one step, and the log's account of it.
    async fn attempt(
        &self,
        definition: &Definition,
        shape: &Shape,
        step: &dyn Step,
        call: &Call<'_>,
        at: At,
        lease: Lease,
    ) -> Result<(Settled, Value, Next), Broken> {
        let records = match at.direction {
            Direction::Do => step.records(),
            Direction::Undo => step.records_undo(),
        };
        let jitter = rand::random::<f64>();
        let spoken = self.speak(step, call).await;
        let stop = match spoken {
            Ok(output) if !records => {
                let next = rules::decide(shape, at, &Settled::Done, jitter);
                let mut worker = self.inner.worker.connection().await?;
                let account = self.account(definition, at, &Settled::Done, &output, &next);
                return match log::write(worker.conn(), lease, &account).await? {
                    true => Ok((Settled::Done, output, next)),
                    false => Err(Broken::Fenced),
                };
            }
            Ok(output) => {
                let next = rules::decide(shape, at, &Settled::Done, jitter);
                match self
                    .record(definition, step, call, at, lease, output, &next)
                    .await?
                {
                    Ok(output) => return Ok((Settled::Done, output, next)),
                    Err(stop) => stop,
                }
            }
            Err(stop) => stop,
        };
        let settled = match stop {
            Stop::Refused(refusal) => Settled::Refused(refusal),
            Stop::Unknown(failure) => Settled::Unknown(failure),
        };
        let next = rules::decide(shape, at, &settled, jitter);
        let account = self.account(definition, at, &settled, &Value::Null, &next);
        let mut worker = self.inner.worker.connection().await?;
        match log::write(worker.conn(), lease, &account).await? {
            true => Ok((settled, Value::Null, next)),
            false => Err(Broken::Fenced),
        }
    }

    /// The part that talks to others, bounded, and isolated from our own mistakes.
    async fn speak(&self, step: &dyn Step, call: &Call<'_>) -> Result<Value, Stop> {
        let said = async {
            match call.direction {
                Direction::Do => step.run(call).await,
                Direction::Undo => step.undo(call).await.map(|()| Value::Null),
            }
        };
        let bounded = tokio::time::timeout(self.inner.limits.step, said);
        match AssertUnwindSafe(bounded).catch_unwind().await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                Err(Failure::new(format!("no answer within {:?}", self.inner.limits.step)).into())
            }
            Err(_) => Err(Failure::new("the step panicked").into()),
        }
    }

    /// The part that writes our own rows, in the transaction that also writes the log. The saga's row is locked first:
    /// a coordinator that lost its lease changes nothing.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of one try; a struct for one caller says no more"
    )]
    async fn record(
        &self,
        definition: &Definition,
        step: &dyn Step,
        call: &Call<'_>,
        at: At,
        lease: Lease,
        output: Value,
        next: &Next,
    ) -> Result<Result<Value, Stop>, Broken> {
        let mut tx = self.inner.worker.tenant(call.tenant).await?;
        if !log::hold(tx.conn(), lease).await? {
            return Err(Broken::Fenced);
        }
        let recorded = async {
            match call.direction {
                Direction::Do => step.record(&mut tx, call, output).await,
                Direction::Undo => step.record_undo(&mut tx, call).await.map(|()| Value::Null),
            }
        };
        let bounded = tokio::time::timeout(self.inner.limits.step, recorded);
        let recorded = match AssertUnwindSafe(bounded).catch_unwind().await {
            Ok(Ok(recorded)) => recorded,
            Ok(Err(_)) => Err(Failure::new("writing took too long").into()),
            Err(_) => Err(Failure::new("the step panicked while writing").into()),
        };
        match recorded {
            Ok(output) => {
                let account = self.account(definition, at, &Settled::Done, &output, next);
                if !log::write(tx.conn(), lease, &account).await? {
                    return Err(Broken::Fenced);
                }
                tx.commit().await?;
                Ok(Ok(output))
            }
            // Dropped uncommitted: rolled back.
            Err(stop) => Ok(Err(stop)),
        }
    }

    fn account<'a>(
        &self,
        definition: &'a Definition,
        at: At,
        settled: &'a Settled,
        output: &'a Value,
        next: &Next,
    ) -> Move<'a> {
        let (outcome, error, refusal) = match settled {
            Settled::Done => ("done", None, None),
            Settled::Refused(refusal) => {
                // An undo that is refused stays open: it is tried again, and the saga keeps its first reason.
                let (outcome, kept) = match at.direction {
                    Direction::Do => ("refused", serde_json::to_value(refusal).ok()),
                    Direction::Undo => ("unknown", None),
                };
                (outcome, Some(refusal.detail.as_str()), kept)
            }
            Settled::Unknown(failure) => ("unknown", Some(failure.error.as_str()), None),
        };
        let (direction, position) = match next {
            Next::Step(direction, position) => (*direction, *position),
            _ => (at.direction, at.position),
        };
        let moving = match direction {
            Direction::Do => "running",
            Direction::Undo => "compensating",
        };
        let (state, pause, held) = match next {
            Next::Step(..) => (moving, Duration::ZERO, true),
            Next::Again(pause) => (moving, *pause, *pause <= WAIT_IN_HAND),
            Next::Park => ("parked", Duration::ZERO, false),
            Next::Completed => ("completed", Duration::ZERO, false),
            Next::Compensated => ("compensated", Duration::ZERO, false),
        };
        let unsettled = matches!(next, Next::Again(_) | Next::Park);
        Move {
            settled_position: at.position,
            settled_direction: at.direction,
            outcome,
            tries: at.attempt + 1,
            output: (outcome == "done").then_some(output),
            error,
            state,
            direction,
            position,
            step: definition.steps[position].name(),
            attempt: if unsettled { at.attempt + 1 } else { 0 },
            refusal,
            pause,
            lease: held.then_some(self.inner.limits.lease),
            intends: matches!(next, Next::Step(..)),
            ended: matches!(next, Next::Completed | Next::Compensated),
        }
    }
}
