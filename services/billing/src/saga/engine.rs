//! The coordinator: whoever starts a saga runs it at once; a loop takes over what is due or was left. It talks to others
//! outside transactions, and stops the moment a write shows that its lease is another's.
//! Deliberately absent: memory. What a saga has done and will do stands in the log; a coordinator may die anywhere.

mod attempt;
mod interruption;
mod operator;
mod walking;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_db::{Error, Worker};
use mainstay_runtime::{clock::Clock, shutdown::Shutdown, telemetry};
use mainstay_types::{SagaId, Tenant};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;
use uuid::Uuid;

use super::definition::{Call, Definition, Direction, Stop, TRIES_A_KEY};
use super::log::{self, Lease, Leased, NewSaga, Standing};
use super::rules::{self, At, Next, Settled, Shape};
pub use interruption::{Interruption, Moment};
pub use operator::{DecisionError, Verdict};
use walking::{Walk, Walking};

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

/// Between looks at a saga that somebody waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

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
    /// What this coordinator walks now: it tells of it itself.
    walking: Walking,
    wake: Notify,
    /// Bounds what the loop takes over. What a request starts is bounded by the requests.
    slots: Arc<Semaphore>,
    /// Where tests kill it; nothing in service.
    interruption: Option<Arc<dyn Interruption>>,
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

/// Why a coordinator leaves a saga in the middle.
enum Broken {
    /// The lease is another's: whatever this coordinator was about to write, it must not.
    Fenced,
    /// The log could not be written.
    Database(Error),
    /// It was killed here, by a test.
    Killed,
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
        Self::interrupted(worker, clock, shutdown, definitions, limits, None)
    }

    /// A coordinator that dies where the interruption says: how the prover kills it between any two of its acts.
    pub fn interrupted(
        worker: Worker,
        clock: Clock,
        shutdown: Shutdown,
        definitions: Vec<Definition>,
        limits: EngineLimits,
        interruption: Option<Arc<dyn Interruption>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                worker,
                clock,
                shutdown,
                definitions: definitions.into_iter().map(Arc::new).collect(),
                limits,
                owner: Uuid::new_v4(),
                walking: Walking::default(),
                wake: Notify::new(),
                slots: Arc::new(Semaphore::new(limits.at_once)),
                interruption,
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
            signals: 0,
        }))
    }

    /// Runs a saga whose transaction is committed.
    pub fn launch(&self, started: Started) {
        self.spawn(started.0, None, None);
    }

    /// Tells a saga, in the transaction of what happened, that it may go on if it waits for that. After the commit
    /// [`wake`](Self::wake) makes it go on at once.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn signal(&self, conn: &mut PgConnection, id: SagaId) -> Result<(), Error> {
        log::signal(conn, id).await
    }

    /// Waits until the saga is at rest or waits itself, at most until then; tells how it stands. Works for sagas of other
    /// processes too.
    ///
    /// # Errors
    /// Those of the database, or when there is no such saga.
    pub async fn wait(&self, id: SagaId, until: Instant) -> Result<Standing, Error> {
        self.wait_while(id, until, |standing| !standing.at_rest && !standing.waiting)
            .await
    }

    /// Waits until the saga is at rest, also when it waits itself.
    ///
    /// # Errors
    /// Those of the database, or when there is no such saga.
    pub async fn wait_for_rest(&self, id: SagaId, until: Instant) -> Result<Standing, Error> {
        self.wait_while(id, until, |standing| !standing.at_rest)
            .await
    }

    async fn wait_while(
        &self,
        id: SagaId,
        until: Instant,
        goes_on: impl Fn(&Standing) -> bool,
    ) -> Result<Standing, Error> {
        loop {
            // Other processes do not tell: their sagas are looked at again after a moment, as is one that takes long.
            let look_again = (Instant::now() + LOOK_AGAIN).min(until);
            let walked = self.inner.walking.end_of(id);
            let is_walked = walked.is_some();
            if let Some(mut end) = walked {
                let told = end.wait_for(Option::is_some);
                if let Ok(Ok(standing)) = tokio::time::timeout_at(look_again.into(), told).await
                    && let Some(standing) = standing.as_ref()
                    && !goes_on(standing)
                {
                    return Ok(standing.clone());
                }
            }
            let standing = self.standing(id).await?;
            if !goes_on(&standing) || Instant::now() >= until {
                return Ok(standing);
            }
            if !is_walked {
                tokio::time::sleep_until(look_again.into()).await;
            }
        }
    }

    async fn standing(&self, id: SagaId) -> Result<Standing, Error> {
        let mut worker = self.inner.worker.connection().await?;
        let standing = log::standing(worker.conn(), id).await?;
        worker.give_back();
        standing.ok_or(Error::Other(sqlx::Error::RowNotFound))
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
        let limit = i64::try_from(free.min(16)).unwrap_or(16);
        let mut tx = inner.worker.claim().await?;
        let (owner, lease) = (inner.owner, inner.limits.lease);
        let claimed = log::claim(tx.conn(), owner, lease, &known, limit).await?;
        tx.commit().await?;
        let took = claimed.len();
        for saga in claimed {
            tracing::info!(saga = %saga.id, fence = saga.fence, "took over a saga");
            // Counted above; only a second loop of this coordinator could have taken it since.
            let slot = Arc::clone(&inner.slots).try_acquire_owned().ok();
            self.spawn(saga, None, slot);
        }
        Ok(took)
    }

    /// `known`: what came of the present step, where an operator has established it.
    fn spawn(
        &self,
        saga: Leased,
        known: Option<Result<Value, Stop>>,
        slot: Option<OwnedSemaphorePermit>,
    ) {
        let engine = self.clone();
        let walk = self.inner.walking.begin(saga.id);
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
            engine.drive(saga, known, walk).await;
            drop(slot);
        };
        self.inner.shutdown.spawn(work.instrument(span));
    }

    async fn drive(&self, mut saga: Leased, known: Option<Result<Value, Stop>>, walk: Walk) {
        let id = saga.id;
        let standing = match self.walk(&mut saga, known).await {
            Ok(standing) => standing,
            Err(Broken::Fenced) => {
                tracing::warn!(saga = %id, "the lease of this saga is another's; leaving it to them");
                None
            }
            Err(Broken::Database(error)) => {
                tracing::warn!(saga = %id, error = &error as &dyn std::error::Error, "left a saga because of the database");
                self.give_back(&saga).await;
                None
            }
            // As if by kill -9: nothing is written or told any more.
            Err(Broken::Killed) => None,
        };
        // After a break whoever waits looks at once.
        walk.end(standing);
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

    fn definition(&self, saga: &Leased) -> Option<Arc<Definition>> {
        let mut known = self.inner.definitions.iter();
        known
            .find(|known| known.name == saga.definition && known.version == saga.version)
            .cloned()
    }

    /// Goes on until it has to be left; tells how it stands then, where that is known.
    async fn walk(
        &self,
        saga: &mut Leased,
        mut known: Option<Result<Value, Stop>>,
    ) -> Result<Option<Standing>, Broken> {
        let inner = &self.inner;
        let definition = self
            .definition(saga)
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
                log::give_back(worker.conn(), lease, Duration::ZERO, 0).await?;
                return Ok(None);
            }
            let at = At {
                direction: saga.direction,
                position: saga.position,
                attempt: saga.attempt,
            };
            let step = definition.steps[at.position].as_ref();
            let call = Call {
                intended_for: saga.intended_for + intended_at.elapsed(),
                ..self.call(saga, step.name())
            };
            let span = tracing::info_span!(
                "saga.step",
                otel.name = format!("saga.step {} {}", step.name(), at.direction.as_str()),
                mainstay.role = "billing",
                saga.attempt = at.attempt,
            );
            let tried = attempt::Try {
                definition: &definition,
                shape: &shape,
                step,
                call: &call,
                at,
                lease,
                signals: saga.signals,
            };
            let came = async {
                match known.take() {
                    Some(established) => self.settle(&tried, established).await,
                    None => self.attempt(&tried).await,
                }
            };
            let attempt::Came {
                settled,
                output,
                next,
                signals,
            } = came.instrument(span).await?;
            let news = signals > saga.signals;
            saga.signals = signals;
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
                Next::Wait(_) => {
                    // Something happened while it looked: it is due already.
                    if news {
                        self.wake();
                    }
                    return Ok(Some(Standing::waiting(saga.refusal.take())));
                }
                Next::Again(_) => return Ok(None),
                Next::Completed => return Ok(Some(Standing::at_rest(true, saga.refusal.take()))),
                Next::Compensated => {
                    return Ok(Some(Standing::at_rest(false, saga.refusal.take())));
                }
                Next::Park => {
                    // An alert: nothing more happens until a person decides.
                    tracing::error!(saga = %saga.id, definition = definition.name, step = step.name(), "saga parked");
                    return Ok(Some(Standing::at_rest(false, saga.refusal.take())));
                }
            }
        }
    }
}
