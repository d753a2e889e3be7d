//! Exchanges a credential from outside for a short-lived token that every service verifies again.
//! Deliberately absent: a cache. A revoked key is refused at its very next exchange; tokens bound the rest.

mod rpc;

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use mainstay_rpc::{Actor, Claims, Problem};
use mainstay_types::{AgencyScope, Visible};

use crate::api_key::{self, secret::Secret};
use crate::keys::Purpose;
use crate::{Identity, failure, member, session};

/// The longest life of an actor token: how long a revocation can go unnoticed.
const TOKEN_LIFE: TimeDelta = TimeDelta::seconds(30);

/// Why a credential does not hold. The caller is told the same for each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Mistyped, unknown, expired, revoked, or of an agency, client or member that is gone.
    #[error("the credential does not hold")]
    Refused,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::Refused => {
                Problem::unauthenticated("The credential is unknown, expired or revoked.")
            }
            Error::Database(error) => failure::database(error),
        }
    }
}

/// A token and what it says.
#[derive(Debug)]
pub struct Exchanged {
    /// The token.
    pub token: String,
    /// What it says.
    pub claims: Claims,
    /// `key_…` or `mem_…`.
    pub principal: String,
}

/// Exchanges an API key, or the access token of somebody who signed in.
///
/// # Errors
/// [`Error::Refused`] for whatever does not open anything.
pub async fn exchange(identity: &Identity, credential: &str) -> Result<Exchanged, Error> {
    // A typing error costs no query.
    match Secret::parse(credential) {
        Some(secret) => exchange_key(identity, &secret).await,
        None => exchange_token(identity, credential).await,
    }
}

/// A token holds as long as its session, and opens what its member may now: neither is believed of the token itself.
async fn exchange_token(identity: &Identity, token: &str) -> Result<Exchanged, Error> {
    let now = identity.clock.now();
    let claims = identity.access.read(token, now);
    let claims = claims.map_err(|_| Error::Refused)?;
    let session = session::find_alive(identity, claims.sid, now).await?;
    let session = session
        .filter(|session| {
            (session.person, session.agency, session.member) == (claims.sub, claims.agy, claims.mem)
        })
        .ok_or(Error::Refused)?;
    let scope = AgencyScope {
        agency: session.agency,
        visible: Visible::All,
    };
    let mut tx = identity.database.agency(&scope).await?;
    let stands = api_key::sql::stands(tx.conn(), scope.agency, None).await?;
    let member = member::sql::get(tx.conn(), scope.agency, session.member).await?;
    // None for a member who is deactivated.
    let grants = member::sql::grants(tx.conn(), scope.agency, session.member).await?;
    tx.commit().await?;
    let member = member
        .filter(|_| stands && !grants.is_empty())
        .ok_or(Error::Refused)?;
    let actor = Actor::Member {
        member: member.id,
        person: member.person_id,
    };
    let life = life(now, [Some(claims.expires_at()), Some(session.expires_at)]);
    let grants = grants.into_iter().map(crate::grant_of).collect();
    let (agency, id) = (scope.agency, Some(session.id));
    let (token, claims) =
        identity
            .signer
            .session_token(&actor, id, agency, grants, member.version, life);
    Ok(Exchanged {
        token,
        claims,
        principal: actor.to_string(),
    })
}

async fn exchange_key(identity: &Identity, secret: &Secret) -> Result<Exchanged, Error> {
    let hash = identity.lookup.hash(Purpose::ApiKey, secret.expose());
    let now = identity.clock.now();

    let mut directory = identity.database.directory().await?;
    let found = api_key::sql::find_secret(directory.conn(), &hash).await?;
    directory.commit().await?;
    let found = found
        .filter(|found| alive(found.valid_until, now))
        .ok_or(Error::Refused)?;

    let scope = AgencyScope {
        agency: found.agency_id,
        visible: Visible::All,
    };
    let mut tx = identity.database.agency(&scope).await?;
    let key = api_key::sql::get(tx.conn(), scope.agency, found.api_key_id).await?;
    let key = key
        .filter(|key| key.revoked_at.is_none() && alive(key.expires_at, now))
        .ok_or(Error::Refused)?;
    let stands = api_key::sql::stands(tx.conn(), scope.agency, key.client_id).await?;
    let grants = api_key::grants(tx.conn(), scope.agency, &key).await?;
    let minute = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now);
    if stands && !grants.is_empty() && found.last_used_at.is_none_or(|at| at < minute) {
        api_key::sql::note_use(tx.conn(), &hash, minute).await?;
    }
    tx.commit().await?;
    // No grants: the member it belongs to is deactivated.
    if !stands || grants.is_empty() {
        return Err(Error::Refused);
    }

    let actor = Actor::ApiKey { key: key.id };
    let life = life(now, [key.expires_at, found.valid_until]);
    let grants = grants.into_iter().map(crate::grant_of).collect();
    let (token, claims) =
        identity
            .signer
            .actor_token(&actor, scope.agency, grants, key.version, life);
    Ok(Exchanged {
        token,
        claims,
        principal: actor.to_string(),
    })
}

fn alive(until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    until.is_none_or(|until| until > now)
}

/// No token outlives the credential it was made from.
fn life(now: DateTime<Utc>, ends: [Option<DateTime<Utc>>; 2]) -> Duration {
    let soonest = ends.into_iter().flatten().map(|end| end - now).min();
    let life = soonest.map_or(TOKEN_LIFE, |left| left.min(TOKEN_LIFE));
    life.to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_30_seconds_or_as_long_as_what_it_was_made_from() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        let after = |seconds| Some(now + TimeDelta::seconds(seconds));
        assert_eq!(life(now, [None, None]), Duration::from_secs(30));
        assert_eq!(life(now, [after(3600), None]), Duration::from_secs(30));
        assert_eq!(life(now, [after(3600), after(7)]), Duration::from_secs(7));
        assert!(!alive(after(0), now));
        assert!(alive(after(1), now));
        assert!(alive(None, now));
    }
}
