//! What is limited of signing in, counted in rows that all replicas share: each limit is one row, and each hit one statement
//! that looks, counts and refuses under the row's lock.
//! Deliberately absent: counting in memory.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Error, rules, sql};
use crate::Identity;
use crate::keys::Purpose;

/// So many within so long.
pub(super) struct Limit {
    key: Vec<u8>,
    most: i32,
    window: TimeDelta,
    /// Whether whoever is over it may be told so, and when to come again.
    told: bool,
}

impl Limit {
    /// Codes asked for with an address.
    pub(super) fn asked(identity: &Identity, address_hash: &[u8]) -> Self {
        Limit {
            key: of(identity, "asked", address_hash),
            most: identity.limits.per_address,
            window: rules::WINDOW,
            told: true,
        }
    }

    /// Codes asked for with any address.
    pub(super) fn asked_by_all(identity: &Identity) -> Self {
        Limit {
            key: of(identity, "asked by all", &[]),
            most: identity.limits.per_minute,
            window: rules::MINUTE,
            told: true,
        }
    }

    /// Wrong codes tried for an address, whatever the challenge.
    pub(super) fn tried(identity: &Identity, address_hash: &[u8]) -> Self {
        Limit {
            key: of(identity, "tried", address_hash),
            most: rules::MOST_TRIES,
            window: rules::WINDOW,
            told: false,
        }
    }

    /// Refuses when there is no room, and takes none.
    pub(super) async fn look(
        &self,
        conn: &mut PgConnection,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let hits = sql::hits(conn, &self.key).await?;
        match rules::full_until(&hits, self.most, self.window, now) {
            None => Ok(()),
            Some(until) => Err(self.refusal(until, now)),
        }
    }

    /// Takes room for one, or refuses.
    pub(super) async fn take(
        &self,
        conn: &mut PgConnection,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if sql::hit(conn, &self.key, now, self.window, self.most).await? {
            return Ok(());
        }
        // Somebody took the last room meanwhile.
        self.look(conn, now).await?;
        Err(self.refusal(now, now))
    }

    fn refusal(&self, until: DateTime<Utc>, now: DateTime<Utc>) -> Error {
        if !self.told {
            return Error::Refused;
        }
        let wait = (until - now).num_seconds().saturating_add(1).max(1);
        Error::TooMany {
            retry_after_seconds: i32::try_from(wait).unwrap_or(i32::MAX),
        }
    }
}

fn of(identity: &Identity, what: &str, address_hash: &[u8]) -> Vec<u8> {
    let text = format!("{what} {}", hex::encode(address_hash));
    identity.lookup.hash(Purpose::SignInLimit, &text)
}
