//! The Idempotency-Key of a mutation (BIL-16): its answer is written in the transaction of its effect, or the effect's
//! saga is, and a repeat gets the same.
//! Deliberately absent: the answer's meaning. It is bytes here; the slice that made them reads them.

use mainstay_jobs::idempotency::{self, Begin, Scope};
use mainstay_rpc::{Context, ErrorReason, Problem};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::history::By;
use crate::wire::{database_problem, in_flight};

/// How a request can be told from others like it. Without a key nothing is.
#[derive(Debug, Clone)]
pub struct Repeat {
    key: Option<String>,
    method: &'static str,
    hash: [u8; 32],
}

/// What is known of the key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Nothing: do it, and store the answer.
    Now,
    /// It was done; this was the answer.
    Before(Vec<u8>),
    /// It was started; this names what was started.
    Started(Uuid),
}

/// The result of a mutation: made now, or the answer of the request that made it.
#[derive(Debug)]
pub enum Answered<T> {
    /// Now.
    Now(T),
    /// Before.
    Before(Vec<u8>),
}

/// Why a key is no good.
#[derive(Debug, thiserror::Error)]
pub enum RepeatError {
    /// It was used for another request.
    #[error("the Idempotency-Key was used for another request")]
    Reused,
    /// The first request with it has not ended.
    #[error("a request with this Idempotency-Key is still running")]
    InFlight,
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] mainstay_db::Error),
}

impl From<mainstay_db::Error> for RepeatError {
    fn from(error: mainstay_db::Error) -> Self {
        match error {
            mainstay_db::Error::LockTimeout(_) => RepeatError::InFlight,
            other => RepeatError::Database(other),
        }
    }
}

impl From<RepeatError> for Problem {
    fn from(error: RepeatError) -> Problem {
        match error {
            RepeatError::Reused => Problem::new(
                ErrorReason::IdempotencyKeyReused,
                "A request with this Idempotency-Key and other content was accepted before.",
            ),
            RepeatError::InFlight => in_flight(),
            RepeatError::Database(error) => database_problem(error),
        }
    }
}

fn told(known: Begin) -> Result<Begun, RepeatError> {
    match known {
        Begin::Fresh => Ok(Begun::Now),
        Begin::Replay(answer) => Ok(Begun::Before(answer)),
        Begin::Pending(Some(reference)) => Ok(Begun::Started(reference)),
        Begin::Pending(None) => Err(RepeatError::InFlight),
        Begin::Mismatch => Err(RepeatError::Reused),
    }
}

impl Repeat {
    /// Of a call with this command. The command is hashed rather than the request: its maps have an order.
    pub fn of(ctx: &Context, command: &impl Serialize) -> Self {
        let command = serde_json::to_vec(command).expect("commands are plain data");
        Self {
            key: ctx.idempotency_key.clone(),
            method: &ctx.method.path,
            hash: Sha256::digest(command).into(),
        }
    }

    /// Of a call that takes no key.
    pub fn none(ctx: &Context) -> Self {
        Self {
            key: None,
            method: &ctx.method.path,
            hash: [0; 32],
        }
    }

    /// Of what is done on the way to something else.
    pub(crate) fn unkeyed() -> Self {
        Self {
            key: None,
            method: "",
            hash: [0; 32],
        }
    }

    /// Claims the key in the transaction of the effect. Waits for another request with the same key to end.
    pub(crate) async fn begin(
        &self,
        conn: &mut PgConnection,
        by: &By,
    ) -> Result<Begun, RepeatError> {
        let Some(scope) = self.scope(by) else {
            return Ok(Begun::Now);
        };
        told(idempotency::begin(conn, &scope, &self.hash, by.now).await?)
    }

    /// What is known of the key, without claiming it: for looking before anybody else is asked anything.
    pub(crate) async fn find(
        &self,
        conn: &mut PgConnection,
        by: &By,
    ) -> Result<Begun, RepeatError> {
        let Some(scope) = self.scope(by) else {
            return Ok(Begun::Now);
        };
        match idempotency::find(conn, &scope, &self.hash, by.now).await? {
            Some(known) => told(known),
            None => Ok(Begun::Now),
        }
    }

    /// Notes what the effect is known by while it has no answer.
    pub(crate) async fn refer(
        &self,
        conn: &mut PgConnection,
        by: &By,
        reference: Uuid,
    ) -> Result<(), RepeatError> {
        if let Some(scope) = self.scope(by) {
            idempotency::refer(conn, &scope, reference).await?;
        }
        Ok(())
    }

    /// Keeps the answer, unless one is kept already.
    pub(crate) async fn store(
        &self,
        conn: &mut PgConnection,
        by: &By,
        answer: Vec<u8>,
    ) -> Result<(), RepeatError> {
        if let Some(scope) = self.scope(by) {
            idempotency::store(conn, &scope, &answer).await?;
        }
        Ok(())
    }

    /// Keeps the answer unless one is kept already, and gives the one that is.
    pub(crate) async fn keep(
        &self,
        conn: &mut PgConnection,
        by: &By,
        answer: Vec<u8>,
    ) -> Result<Vec<u8>, RepeatError> {
        self.store(conn, by, answer.clone()).await?;
        match self.begin(conn, by).await? {
            Begun::Before(kept) => Ok(kept),
            // The key has expired meanwhile; this answer is as good as any.
            Begun::Now | Begun::Started(_) => Ok(answer),
        }
    }

    /// Whether there is a key at all.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    fn scope<'a>(&'a self, by: &'a By) -> Option<Scope<'a>> {
        self.key.as_deref().map(|key| Scope {
            agency: by.agency,
            client: by.client,
            principal: &by.principal,
            method: self.method,
            key,
        })
    }
}
