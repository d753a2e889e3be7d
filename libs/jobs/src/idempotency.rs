//! The first answer to an `Idempotency-Key`, kept with the effect. A duplicate waits on the unique index until the first
//! transaction has ended, and then finds its answer; only when that takes longer than the lock timeout does
//! [`begin`] give [`mainstay_db::Error::LockTimeout`], which services answer with `IDEMPOTENCY_IN_FLIGHT`.
//! Deliberately absent: a cache; the row is the truth.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

/// How long an answer is kept.
pub const KEPT: TimeDelta = TimeDelta::hours(48);

/// Whose key: the same text from another principal, or for another method or client, is another key.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The agency.
    pub agency: AgencyId,
    /// The client, for methods of one client. It must be that of the transaction.
    pub client: Option<ClientId>,
    /// Who asks: `Context::principal()`.
    pub principal: &'a str,
    /// The full method name.
    pub method: &'a str,
    /// The key, 1 to 255 characters.
    pub key: &'a str,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Nothing: make the effect and [`store`] its answer in this transaction.
    Fresh,
    /// The answer.
    Replay(Vec<u8>),
    /// The effect was started but has no answer yet; `reference` is what it is known by (a saga).
    Pending(Option<Uuid>),
    /// The key was used with another request: 422.
    Mismatch,
}

/// The hash of a request: of its deterministic protobuf encoding, without what differs between tries.
pub fn request_hash(request: &impl prost::Message) -> [u8; 32] {
    Sha256::digest(request.encode_to_vec()).into()
}

/// Claims the key in the caller's transaction, or says what is known of it. An expired one counts as unknown.
///
/// # Errors
/// [`mainstay_db::Error::LockTimeout`] when another request with this key is still in flight.
pub async fn begin(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    request_hash: &[u8; 32],
    now: DateTime<Utc>,
) -> Result<Begin> {
    let claimed = sqlx::query!(
        "insert into idempotency_key (agency_id, tenant_id, principal, method, key, request_hash, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict on constraint idempotency_key_scope_key do update
           set request_hash = excluded.request_hash, reference = null, answer = null,
               created_at = excluded.created_at, expires_at = excluded.expires_at
           where idempotency_key.expires_at <= $7",
        scope.agency.uuid(),
        scope.client.map(|client| client.uuid()),
        scope.principal,
        scope.method,
        scope.key,
        request_hash.as_slice(),
        now,
        now + KEPT,
    )
    .execute(&mut *connection)
    .await?;
    if claimed.rows_affected() == 1 {
        return Ok(Begin::Fresh);
    }
    // The claim failed, so the row stands and is not expired.
    let known = find(connection, scope, request_hash, now).await?;
    Ok(known.unwrap_or(Begin::Pending(None)))
}

/// What is known of the key, without claiming it or waiting for whoever is claiming it; none when nothing is. For looking
/// before work that should not be done twice: a claim that is given back would make all repeats wait for one another.
///
/// # Errors
/// Whatever the database says.
pub async fn find(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    request_hash: &[u8; 32],
    now: DateTime<Utc>,
) -> Result<Option<Begin>> {
    let known = sqlx::query!(
        "select request_hash, reference, answer from idempotency_key
         where agency_id = $1 and tenant_id is not distinct from $2 and principal = $3 and method = $4 and key = $5
           and expires_at > $6",
        scope.agency.uuid(),
        scope.client.map(|client| client.uuid()),
        scope.principal,
        scope.method,
        scope.key,
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(known.map(|known| {
        if known.request_hash != request_hash {
            return Begin::Mismatch;
        }
        match known.answer {
            Some(answer) => Begin::Replay(answer),
            None => Begin::Pending(known.reference),
        }
    }))
}

/// Notes what the effect is known by, in the transaction that starts it.
///
/// # Errors
/// Whatever the database says.
pub async fn refer(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    reference: Uuid,
) -> Result<()> {
    sqlx::query!(
        "update idempotency_key set reference = $6
         where agency_id = $1 and tenant_id is not distinct from $2 and principal = $3 and method = $4 and key = $5",
        scope.agency.uuid(),
        scope.client.map(|client| client.uuid()),
        scope.principal,
        scope.method,
        scope.key,
        reference,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the answer. The first one stands: an answer is never changed.
///
/// # Errors
/// Whatever the database says.
pub async fn store(connection: &mut PgConnection, scope: &Scope<'_>, answer: &[u8]) -> Result<()> {
    sqlx::query!(
        "update idempotency_key set answer = $6
         where agency_id = $1 and tenant_id is not distinct from $2 and principal = $3 and method = $4 and key = $5
           and answer is null",
        scope.agency.uuid(),
        scope.client.map(|client| client.uuid()),
        scope.principal,
        scope.method,
        scope.key,
        answer,
    )
    .execute(connection)
    .await?;
    Ok(())
}
