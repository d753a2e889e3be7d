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
}

impl Failure {
    /// A failure with these words.
    pub fn new(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            retry_after: None,
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
pub const TRIES_A_KEY: i32 = 5;

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
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}
