//! What a saga is made of: steps in order, one of which is the pivot. Steps that can be undone stand before it; what
//! stands after it is tried until it is done.
//! Deliberately absent: when a step runs again and when it is undone. That is `rules.rs`, the same for all sagas.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use mainstay_db::TenantTx;
use mainstay_rpc::ErrorReason;
use mainstay_types::{SagaId, Tenant};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Whether a step is being done or undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It is being done.
    Do,
    /// It is being undone.
    Undo,
}

impl Direction {
    /// As the log and Stripe's idempotency keys spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Do => "do",
            Direction::Undo => "undo",
        }
    }

    pub(super) fn from_text(text: &str) -> Self {
        match text {
            "undo" => Direction::Undo,
            _ => Direction::Do,
        }
    }
}

/// A definitive no: whoever gives it knows that neither this try nor an earlier one had an effect. It is what the
/// caller is told, so its text is for people and holds nothing internal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Name of the `ErrorReason`.
    pub reason: String,
    /// This occurrence, for people.
    pub detail: String,
    /// The card issuer's code, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline_code: Option<String>,
}

impl Refusal {
    /// A no, with the reason the caller is given.
    pub fn new(reason: ErrorReason, detail: impl Into<String>) -> Self {
        Self {
            reason: reason.as_str_name().to_owned(),
            detail: detail.into(),
            decline_code: None,
        }
    }

    /// The reason; one that a newer binary wrote is told as a conflict.
    pub fn reason(&self) -> ErrorReason {
        ErrorReason::from_str_name(&self.reason).unwrap_or(ErrorReason::Conflict)
    }
}

/// It cannot be known whether there was an effect, or it is known that there was none and another try may do better.
/// For the log and the operator, never for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub error: String,
    /// The earliest time for another try, where the other side named one.
    pub retry_after: Option<Duration>,
    /// The other side has answered, with an error that it keeps under the key of this intent: nothing is under way any
    /// more, and the key will never give another answer.
    pub key_is_spent: bool,
}

impl Failure {
    /// A failure with these words.
    pub fn new(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            retry_after: None,
            key_is_spent: false,
        }
    }
}

/// Nothing is wrong; what the step needs has to happen elsewhere first. No try is counted. Whoever brings the news signals
/// the saga ([`Engine::signal`](super::Engine::signal)); the pause is for news that got lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// For what, for the operator.
    pub what: String,
    /// Until it looks again by itself.
    pub pause: Duration,
}

impl Wait {
    /// For this, looking again after so long.
    pub fn new(what: impl Into<String>, pause: Duration) -> Self {
        Self {
            what: what.into(),
            pause,
        }
    }
}

/// Why a step is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Definitively, without effect.
    Refused(Refusal),
    /// Perhaps with effect. Tried again with the same idempotency key; never undone from here.
    Unknown(Failure),
    /// Not yet: it waits for something outside. Only for steps that had no effect of their own so far.
    Waiting(Wait),
}

impl From<Wait> for Stop {
    fn from(wait: Wait) -> Self {
        Stop::Waiting(wait)
    }
}

/// What looking for the effect of earlier tries found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It was done; this is what it left.
    Done(Value),
    /// It was not done.
    NotDone,
    /// This cannot be looked for. Only the same intent under the same key can tell.
    Unknowable,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Unknown(failure)
    }
}

impl From<mainstay_db::Error> for Stop {
    fn from(error: mainstay_db::Error) -> Self {
        // The driver's text can hold values of rows; the kind of failure is what an operator needs.
        Stop::Unknown(Failure::new(error.to_string()))
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        mainstay_db::Error::from(error).into()
    }
}

/// Tries after which a key has told what it will ever tell.
pub const TRIES_A_KEY: i32 = 4;

/// From this try on the effect of the earlier ones is looked for before the step is done again.
pub const PROBED_FROM: i32 = 2;

/// Providers may forget an idempotency key after 24 hours; from here on an intent is looked for before it is sent again.
pub const KEY_LIFE: Duration = Duration::from_secs(23 * 3600);

/// One try of one step, as the step sees it.
#[derive(Debug)]
pub struct Call<'a> {
    /// The saga.
    pub saga: SagaId,
    /// For whom.
    pub tenant: Tenant,
    /// The step.
    pub step: &'static str,
    /// Done or undone.
    pub direction: Direction,
    /// The fence of the lease under which it runs; our own services refuse lower ones.
    pub fence: i64,
    /// 0 for the first try.
    pub attempt: i32,
    /// How long ago the step was first intended, by the database's clock.
    pub intended_for: Duration,
    /// The platform's time.
    pub now: DateTime<Utc>,
    /// Why the saga is being undone.
    pub refusal: Option<&'a Refusal>,
    pub(super) input: &'a Value,
    pub(super) outputs: &'a BTreeMap<String, Value>,
}

impl Call<'_> {
    /// What the saga was started with.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        T::deserialize(self.input).map_err(|error| {
            Failure::new(format!(
                "the saga's input is not what its definition takes: {error}"
            ))
        })
    }

    /// What an earlier step gave.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T, Failure> {
        let output = self.outputs.get(step).unwrap_or(&Value::Null);
        T::deserialize(output)
            .map_err(|error| Failure::new(format!("what step {step} left is unreadable: {error}")))
    }

    /// The idempotency key of this intent: the same for every try, by whichever process.
    pub fn key(&self) -> String {
        format!(
            "saga/{}/{}/{}",
            self.saga,
            self.step,
            self.direction.as_str()
        )
    }

    /// Whether the effect of earlier tries is to be looked for first: the key may be forgotten, or hold an answer from
    /// which nothing can be learned.
    pub(super) fn is_probed(&self) -> bool {
        self.direction == Direction::Do
            && (self.attempt >= PROBED_FROM || self.intended_for > KEY_LIFE)
    }

    /// The key of one of several intents of an undoing. A key under which Stripe keeps an error would never give another
    /// answer, and undoing must not end there; so after some tries the intent is made anew. Only for what is safe to do
    /// twice and whose state is read before every try.
    pub fn undo_key(&self, part: &str) -> String {
        match self.attempt / TRIES_A_KEY {
            0 => format!("{}/{part}", self.key()),
            again => format!("{}/{part}/{again}", self.key()),
        }
    }
}

/// One step. `run` and `undo` talk to others and hold no transaction; `record` and `record_undo` write our own rows in
/// the transaction that also writes the outcome to the log, so that both are true or neither.
#[tonic::async_trait]
pub trait Step: Send + Sync {
    /// Its name, unique within the saga and unchanged for ever: idempotency keys are made from it.
    fn name(&self) -> &'static str;

    /// Does it. Called again, perhaps by another process, until it is done or refused.
    async fn run(&self, _call: &Call<'_>) -> Result<Value, Stop> {
        Ok(Value::Null)
    }

    /// Whether a definitive no of this step undoes the saga. Where it may not, one counts as not known: tried again, then
    /// parked for a person.
    fn may_refuse(&self) -> bool {
        true
    }

    /// Looks for what earlier tries did. What it finds done is recorded as if `run` had given it.
    async fn probe(&self, _call: &Call<'_>) -> Result<Probed, Stop> {
        Ok(Probed::Unknowable)
    }

    /// What an operator says that was done, verified: with an id where the effect has one. The words of an error are
    /// told to the operator.
    async fn verify(&self, call: &Call<'_>, _evidence: Option<&str>) -> Result<Value, String> {
        match self.probe(call).await {
            Ok(Probed::Done(output)) => Ok(output),
            Ok(Probed::NotDone) => Err("it was looked for and is not done".to_owned()),
            Ok(Probed::Unknowable) => {
                Err("this step leaves nothing that could be verified; retry it instead".to_owned())
            }
            Err(_) => Err("it could not be verified now; try again".to_owned()),
        }
    }

    /// Whether [`record`](Self::record) has something to write.
    fn records(&self) -> bool {
        false
    }

    /// Writes what `run` gave; what it returns is the step's output.
    async fn record(
        &self,
        _tx: &mut TenantTx,
        _call: &Call<'_>,
        output: Value,
    ) -> Result<Value, Stop> {
        Ok(output)
    }

    /// Whether undoing the saga undoes this step.
    fn undoable(&self) -> bool {
        false
    }

    /// Undoes it. Only ever called for a step that is known to be done.
    async fn undo(&self, _call: &Call<'_>) -> Result<(), Stop> {
        Ok(())
    }

    /// Whether [`record_undo`](Self::record_undo) has something to write.
    fn records_undo(&self) -> bool {
        false
    }

    /// Writes what the undoing means for our own rows.
    async fn record_undo(&self, _tx: &mut TenantTx, _call: &Call<'_>) -> Result<(), Stop> {
        Ok(())
    }
}

/// A kind of saga.
pub struct Definition {
    /// Its name in the log and the API.
    pub name: &'static str,
    /// Rises when steps change; a coordinator leaves alone what it does not know.
    pub version: i32,
    /// The steps, in order.
    pub steps: Vec<Box<dyn Step>>,
    /// The place of the step after which only going forward makes sense.
    pub pivot: usize,
    /// The saga that is started with the same input when an operator abandons one of these, so that others come to know
    /// what stands.
    pub followed_by: Option<&'static str>,
}

impl Definition {
    /// The same saga with each of its steps replaced: how the prover breaks them.
    #[must_use]
    pub fn with_steps(mut self, replace: impl FnMut(Box<dyn Step>) -> Box<dyn Step>) -> Self {
        self.steps = self.steps.into_iter().map(replace).collect();
        self
    }
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}
