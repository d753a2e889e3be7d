//! Signing in (IDN-03): a code is asked for with an address, sent there, and opens a session once.
//!
//! ```text
//!  asked ─▶ limits ─▶ challenge and job, one transaction ─▶ job: whose address? ─▶ messaging's house
//!  tried ─▶ limit of the address ─▶ right? ─▶ one conditional update ─▶ session, in the same transaction
//! ```
//! Whoever asks with an address that nobody has gets the same answer by the same work: who has it is looked up by the job.
//! Deliberately absent: codes at rest. A code follows from its challenge's id and a key, so there is nothing to read and
//! nothing to hash.

pub(crate) mod error;
mod limit;
mod rpc;
pub mod rules;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_types::{AgencyId, AgencyScope, ChallengeId, Visible};
use uuid::Uuid;

pub use error::Error;

use crate::address::Address;
use crate::keys::Purpose;
use crate::session::{self, Opened};
use crate::{Identity, agency, jobs, member};
use limit::Limit;

/// A code that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// Its id.
    pub id: ChallengeId,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Asks for a code.
///
/// # Errors
/// [`Error::TooMany`].
pub async fn request(
    identity: &Identity,
    address: &Address,
    slug: Option<&str>,
    idempotency_key: Option<&str>,
) -> Result<Challenge, Error> {
    let now = identity.clock.now();
    let hash = address.hash(&identity.lookup);
    let id = match idempotency_key {
        Some(key) => identity.sign_in.challenge(&hash, key),
        None => ChallengeId::generate(),
    };
    let mut tx = identity.database.directory().await?;
    if idempotency_key.is_some()
        && let Some(known) = sql::find(tx.conn(), id).await?
    {
        let expires_at = known.expires_at;
        return Ok(Challenge { id, expires_at });
    }
    // Whoever is over a limit takes no lock: a flood must not stand in line for one.
    let limits = [Limit::asked(identity, &hash), Limit::asked_by_all(identity)];
    for limit in &limits {
        limit.look(tx.conn(), now).await?;
    }
    for limit in &limits {
        limit.take(tx.conn(), now).await?;
    }
    let wanted = match slug {
        None => None,
        Some(slug) => {
            let hash = identity.lookup.hash(Purpose::AgencySlug, slug);
            let named = agency::find_slug(tx.conn(), &hash).await?;
            // What names no agency is nobody's, and is told no differently.
            Some(named.unwrap_or(AgencyId::from_uuid(Uuid::nil())))
        }
    };
    let expires_at = now + rules::CODE_LIFE;
    sql::insert(tx.conn(), id, &hash, wanted, now, expires_at).await?;
    let job = jobs::send_sign_in_code::job(id, now);
    mainstay_jobs::enqueue(tx.conn(), job).await?;
    tx.commit().await?;
    identity.jobs.wake();
    Ok(Challenge { id, expires_at })
}

/// Tries a code: opens a session, once.
///
/// # Errors
/// [`Error::Refused`], whatever is wrong.
pub async fn verify(identity: &Identity, id: ChallengeId, code: &str) -> Result<Opened, Error> {
    let now = identity.clock.now();
    let right = identity.sign_in.opens(id, code);
    let mut tx = identity.database.directory().await?;
    let challenge = sql::find(tx.conn(), id)
        .await?
        .filter(|challenge| challenge.used_at.is_none() && challenge.expires_at > now)
        .ok_or(Error::Refused)?;
    let limit = Limit::tried(identity, &challenge.address_hash);
    // A right one counts for nothing, and opens nothing once five wrong ones were counted.
    if right {
        limit.look(tx.conn(), now).await?;
    } else {
        limit.take(tx.conn(), now).await?;
    }
    tx.commit().await?;
    // Of an address that nobody has nothing was sent, so no code is right.
    let sent = challenge.sent_for.filter(|_| right);
    let (agency, member) = sent.ok_or(Error::Refused)?;

    let scope = AgencyScope {
        agency,
        visible: Visible::All,
    };
    let mut tx = identity.database.agency(&scope).await?;
    // Of any number who try the right code at once, one passes here.
    if !sql::spend(tx.conn(), id, now).await? {
        return Err(Error::Refused);
    }
    let member = member::sql::get(tx.conn(), agency, member).await?;
    let member = member
        .filter(|member| member.state == member::State::Active)
        .ok_or(Error::Refused)?;
    let opened = session::open(tx.conn(), identity, agency, member, now).await?;
    tx.commit().await?;
    Ok(opened)
}
