//! A request's Idempotency-Key: the first answer is stored with its effect, and given again.
//! Deliberately absent: secrets. Whoever answers with one stores the answer before it goes in.

use chrono::{DateTime, Utc};
use mainstay_rpc::{Context, ErrorReason, Problem};
use mainstay_types::{AgencyId, ClientId};
use prost::Message;
use sqlx::PgConnection;

use crate::failure;
use crate::idempotency::{self, Begin, Scope};

/// What the key of this request says about it. Without a key every request is a new one.
#[derive(Debug)]
pub struct Once {
    agency: AgencyId,
    client: Option<ClientId>,
    principal: String,
    method: &'static str,
    key: Option<String>,
    hash: [u8; 32],
    now: DateTime<Utc>,
}

/// Why the request goes no further.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key belongs to another request.
    #[error("the Idempotency-Key was used for another request")]
    Reused,
    /// The first request with the key has not ended.
    #[error("a request with this Idempotency-Key is still running")]
    InFlight,
    /// An answer was stored that this binary cannot read.
    #[error("a stored answer cannot be read")]
    Unreadable(#[source] prost::DecodeError),
    /// The database.
    #[error(transparent)]
    Database(mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::Reused => Problem::new(
                ErrorReason::IdempotencyKeyReused,
                "This Idempotency-Key was used for a request with other content.",
            ),
            Error::InFlight => Problem::new(
                ErrorReason::IdempotencyInFlight,
                "A request with this Idempotency-Key is still running.",
            )
            .retry_after(1),
            Error::Unreadable(error) => Problem::internal(error),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl Once {
    /// For a method of the agency.
    pub fn for_agency(ctx: &Context, request: &impl Message, now: DateTime<Utc>) -> Self {
        Once {
            agency: ctx.agency,
            client: None,
            principal: ctx.principal(),
            method: &ctx.method.path,
            key: ctx.idempotency_key.clone(),
            hash: idempotency::request_hash(request),
            now,
        }
    }

    /// For a method of one client.
    pub fn for_client(ctx: &Context, request: &impl Message, now: DateTime<Utc>) -> Self {
        Once {
            client: Some(ctx.tenant().client),
            ..Self::for_agency(ctx, request, now)
        }
    }

    /// The answer that the first request got; none when this is the first. A duplicate waits here for the first to end.
    ///
    /// # Errors
    /// [`Error::Reused`], [`Error::InFlight`].
    pub async fn begin<A: Message + Default>(
        &self,
        conn: &mut PgConnection,
    ) -> Result<Option<A>, Error> {
        let Some(scope) = self.scope() else {
            return Ok(None);
        };
        let begun = idempotency::begin(conn, &scope, &self.hash, self.now).await;
        match begun.map_err(|error| match error {
            mainstay_db::Error::LockTimeout(_) => Error::InFlight,
            other => Error::Database(other),
        })? {
            Begin::Fresh => Ok(None),
            Begin::Replay(answer) => A::decode(answer.as_slice())
                .map(Some)
                .map_err(Error::Unreadable),
            Begin::Pending(_) => Err(Error::InFlight),
            Begin::Mismatch => Err(Error::Reused),
        }
    }

    /// The answer that an earlier request got, without claiming the key: for whoever has to ask somebody else before the
    /// transaction of the effect, and would refuse now what was done then.
    ///
    /// # Errors
    /// [`Error::Reused`].
    pub async fn known<A: Message + Default>(
        &self,
        conn: &mut PgConnection,
    ) -> Result<Option<A>, Error> {
        let Some(scope) = self.scope() else {
            return Ok(None);
        };
        let known = idempotency::find(conn, &scope, &self.hash, self.now).await;
        match known.map_err(Error::Database)? {
            Some(Begin::Replay(answer)) => A::decode(answer.as_slice())
                .map(Some)
                .map_err(Error::Unreadable),
            Some(Begin::Mismatch) => Err(Error::Reused),
            // Whoever is at it now is waited for where the key is claimed.
            Some(Begin::Pending(_) | Begin::Fresh) | None => Ok(None),
        }
    }

    /// Keeps the answer, in the transaction of the effect.
    ///
    /// # Errors
    /// Only the database's.
    pub async fn store(&self, conn: &mut PgConnection, answer: &impl Message) -> Result<(), Error> {
        match self.scope() {
            None => Ok(()),
            Some(scope) => idempotency::store(conn, &scope, &answer.encode_to_vec())
                .await
                .map_err(Error::Database),
        }
    }

    fn scope(&self) -> Option<Scope<'_>> {
        Some(Scope {
            agency: self.agency,
            client: self.client,
            principal: &self.principal,
            method: self.method,
            key: self.key.as_deref()?,
        })
    }
}
