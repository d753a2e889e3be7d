//! One try of one step: talking to the other side, and the log's account of what came of it.
//! Deliberately absent: what follows from it; `rules.rs` decides.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;

use super::{Broken, Engine, Moment, WAIT_IN_HAND};
use crate::history;
use crate::saga::definition::{Call, Definition, Direction, Failure, Probed, Step, Stop};
use crate::saga::log::{self, Lease, Move};
use crate::saga::rules::{self, At, Next, Settled, Shape};
use crate::stripe::did_not_happen;
use crate::subscription::sql as accounts;

/// How often a last look is tried again, and after which pause: longer than a provider that failed is first left alone.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2_500);

/// A try, as it is begun.
pub(super) struct Try<'a> {
    pub definition: &'a Definition,
    pub shape: &'a Shape,
    pub step: &'a dyn Step,
    pub call: &'a Call<'a>,
    pub at: At,
    pub lease: Lease,
    pub signals: i64,
}

/// What came of it, as the log has it.
pub(super) struct Came {
    pub settled: Settled,
    pub output: Value,
    pub next: Next,
    pub signals: i64,
}

impl Engine {
    /// One try of one step, and the log's account of it.
    pub(super) async fn attempt(&self, tried: &Try<'_>) -> Result<Came, Broken> {
        self.passes(Moment::BeforeStep, tried).await?;
        let spoken = self.speak(tried.step, tried.call).await;
        self.passes(Moment::AfterStep, tried).await?;
        self.settle(tried, spoken).await
    }

    /// Writes what came of a try: our own rows and the log, or the log alone.
    pub(super) async fn settle(
        &self,
        tried: &Try<'_>,
        spoken: Result<Value, Stop>,
    ) -> Result<Came, Broken> {
        let jitter = rand::random::<f64>();
        let records = match tried.at.direction {
            Direction::Do => tried.step.records(),
            Direction::Undo => tried.step.records_undo(),
        };
        let done = match spoken {
            Ok(output) if records => self.record(tried, output, jitter).await?,
            Ok(output) => {
                let next = rules::decide(tried.shape, tried.at, &Settled::Done, jitter);
                Ok((output, next, None))
            }
            Err(stop) => Err(stop),
        };
        let (settled, output, next, written) = match done {
            Ok((output, next, written)) => (Settled::Done, output, next, written),
            Err(stop) => {
                let settled = match stop {
                    // What follows a sale does not refuse it: that would undo what others have been told.
                    Stop::Refused(refusal)
                        if tried.at.direction == Direction::Do && !tried.step.may_refuse() =>
                    {
                        Settled::Unknown(Failure::new(format!(
                            "refused, which this step may not: {}",
                            refusal.detail
                        )))
                    }
                    Stop::Refused(refusal) => Settled::Refused(refusal),
                    Stop::Unknown(failure) => Settled::Unknown(failure),
                    Stop::Waiting(wait) => Settled::Waiting(wait),
                };
                let next = rules::decide(tried.shape, tried.at, &settled, jitter);
                (settled, Value::Null, next, None)
            }
        };
        let signals = match written {
            Some(signals) => signals,
            None => {
                let account = self.account(tried, &settled, &output, &next);
                match next {
                    Next::Park => self.park(tried, &account).await?,
                    _ => {
                        let mut worker = self.inner.worker.connection().await?;
                        let written = log::write(worker.conn(), tried.lease, &account).await?;
                        worker.give_back();
                        written.ok_or(Broken::Fenced)?
                    }
                }
            }
        };
        self.passes(Moment::AfterCommit, tried).await?;
        Ok(Came {
            settled,
            output,
            next,
            signals,
        })
    }

    /// The part that talks to others: what earlier tries did is looked for where they may have done it, and where the key
    /// has nothing more to tell, looking decides.
    async fn speak(&self, step: &dyn Step, call: &Call<'_>) -> Result<Value, Stop> {
        if call.direction == Direction::Undo {
            return self
                .guard(async { step.undo(call).await.map(|()| Value::Null) })
                .await;
        }
        if call.is_probed()
            && let Probed::Done(output) = self.guard(step.probe(call)).await?
        {
            return Ok(output);
        }
        let spoken = self.guard(step.run(call)).await;
        let Err(Stop::Unknown(failure)) = spoken else {
            return spoken;
        };
        if !failure.key_is_spent || call.attempt < super::TRIES_A_KEY {
            return Err(failure.into());
        }
        // The errors just had may keep us from asking for a moment; by the next try there would be as many again.
        let mut probed = self.guard(step.probe(call)).await;
        for _ in 0..LOOKS {
            let Err(Stop::Unknown(_)) = probed else {
                break;
            };
            tokio::time::sleep(BETWEEN_LOOKS).await;
            probed = self.guard(step.probe(call)).await;
        }
        match probed? {
            Probed::Done(output) => Ok(output),
            Probed::NotDone => Err(did_not_happen()),
            Probed::Unknowable => Err(failure.into()),
        }
    }

    /// Bounded, and isolated from our own mistakes.
    pub(super) async fn guard<T>(
        &self,
        said: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let bounded = tokio::time::timeout(self.inner.limits.step, said);
        match AssertUnwindSafe(bounded).catch_unwind().await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                Err(Failure::new(format!("no answer within {:?}", self.inner.limits.step)).into())
            }
            Err(_) => Err(Failure::new("the step panicked").into()),
        }
    }

    /// The part that writes our own rows, in the transaction that also writes the log. The saga's row is locked before
    /// anything is written: a coordinator that lost its lease changes nothing. The client's account is locked before that,
    /// as everywhere: whoever brings a saga news holds the account when it signals.
    async fn record(
        &self,
        tried: &Try<'_>,
        output: Value,
        jitter: f64,
    ) -> Result<Result<(Value, Next, Option<i64>), Stop>, Broken> {
        let (step, call) = (tried.step, tried.call);
        let mut tx = self.inner.worker.tenant(call.tenant).await?;
        accounts::lock_account(tx.conn(), call.tenant).await?;
        if !log::hold(tx.conn(), tried.lease).await? {
            return Err(Broken::Fenced);
        }
        let recorded = self.guard(async {
            match call.direction {
                Direction::Do => step.record(&mut tx, call, output).await,
                Direction::Undo => step.record_undo(&mut tx, call).await.map(|()| Value::Null),
            }
        });
        let output = match recorded.await {
            Ok(output) => output,
            // Dropped uncommitted: rolled back.
            Err(stop) => return Ok(Err(stop)),
        };
        let next = rules::decide(tried.shape, tried.at, &Settled::Done, jitter);
        let account = self.account(tried, &Settled::Done, &output, &next);
        let written = log::write(tx.conn(), tried.lease, &account).await?;
        let signals = written.ok_or(Broken::Fenced)?;
        self.passes(Moment::BeforeCommit, tried).await?;
        tx.commit().await?;
        Ok(Ok((output, next, Some(signals))))
    }

    /// Writes that nothing more happens by itself, and tells whoever alerts people, in one.
    async fn park(&self, tried: &Try<'_>, account: &Move<'_>) -> Result<i64, Broken> {
        let call = tried.call;
        let mut tx = self.inner.worker.tenant(call.tenant).await?;
        let written = log::write(tx.conn(), tried.lease, account).await?;
        let signals = written.ok_or(Broken::Fenced)?;
        let parked = history::Parked {
            saga: call.saga,
            fence: tried.lease.fence,
            definition: tried.definition.name,
            step: tried.step.name(),
            error: account.error.unwrap_or_default(),
        };
        history::saga_parked(tx.conn(), call.tenant, &parked, self.inner.clock.now()).await?;
        tx.commit().await?;
        Ok(signals)
    }

    async fn passes(&self, moment: Moment, tried: &Try<'_>) -> Result<(), Broken> {
        match &self.inner.interruption {
            Some(interruption) if interruption.kills(moment, tried.call).await => {
                Err(Broken::Killed)
            }
            _ => Ok(()),
        }
    }

    fn account<'a>(
        &self,
        tried: &Try<'a>,
        settled: &'a Settled,
        output: &'a Value,
        next: &Next,
    ) -> Move<'a> {
        let at = tried.at;
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
            Settled::Waiting(wait) => ("waiting", Some(wait.what.as_str()), None),
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
            Next::Wait(pause) => ("waiting", *pause, false),
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
            step: tried.definition.steps[position].name(),
            attempt: if unsettled { at.attempt + 1 } else { 0 },
            refusal,
            pause,
            lease: held.then_some(self.inner.limits.lease),
            intends: matches!(next, Next::Step(..)),
            ended: matches!(next, Next::Completed | Next::Compensated),
            signals: tried.signals,
        }
    }
}
