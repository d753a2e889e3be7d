//! What follows from what about an account, decided on values alone.
//! Deliberately absent: what credentials look like ([`super::credentials`]).

use chrono::{DateTime, TimeDelta, Utc};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Account, Edit, Error, State};
use crate::vault::VaultError;

/// What a caller sends back to say which version it has read.
pub fn etag(revision: i64) -> String {
    format!("v{revision}")
}

/// Whether the caller has read the account as it stands. Whoever sends no etag takes what there is.
pub fn current(account: &Account, sent: Option<&str>) -> Result<(), Error> {
    let current = etag(account.revision);
    // If-Match arrives quoted, the body's etag does not.
    match sent {
        Some(sent) if sent.trim_matches('"') != current => Err(Error::EtagMismatch { current }),
        _ => Ok(()),
    }
}

/// The account with these changes; none when it is so already.
pub fn edited(before: &Account, edit: Edit, now: DateTime<Utc>) -> Option<Account> {
    let after = Account {
        name: edit.name.unwrap_or_else(|| before.name.clone()),
        state: edit.state.unwrap_or(before.state),
        is_default: before.is_default || edit.make_default,
        overlap_ends_at: before.overlap_ends_at.filter(|_| !edit.end_overlap),
        ..before.clone()
    };
    (after != *before).then(|| Account {
        revision: before.revision + 1,
        updated_at: now,
        ..after
    })
}

/// The account with new credentials, those before verifying webhooks for a while.
pub fn rotated(before: &Account, hint: String, overlap: TimeDelta, now: DateTime<Utc>) -> Account {
    Account {
        hint,
        credentials_revision: before.credentials_revision + 1,
        overlap_ends_at: (overlap > TimeDelta::zero()).then_some(now + overlap),
        revision: before.revision + 1,
        updated_at: now,
        ..before.clone()
    }
}

/// The account, gone.
pub fn deleted(before: &Account, now: DateTime<Utc>) -> Account {
    Account {
        state: State::Deleted,
        is_default: false,
        overlap_ends_at: None,
        revision: before.revision + 1,
        updated_at: now,
        ..before.clone()
    }
}

/// A new token for the addresses of an account's webhooks: 24 random bytes.
pub fn endpoint_token() -> Result<String, VaultError> {
    let mut bytes = [0; 24];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| VaultError::Broken)?;
    Ok(hex::encode(bytes))
}

/// What a token is found by. It is random and long, so its hash needs no key.
pub fn token_hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::Provider;
    use super::*;
    use mainstay_types::ProviderAccountId;

    fn account() -> Account {
        Account {
            id: ProviderAccountId::generate(),
            provider: Provider::Twilio,
            name: "Main".to_owned(),
            state: State::Active,
            is_default: false,
            hint: "9687".to_owned(),
            credentials_revision: 1,
            overlap_ends_at: None,
            endpoint_token: None,
            revision: 3,
            created_at: at(0),
            updated_at: at(0),
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    #[test]
    fn a_rotation_lets_the_old_secret_verify_for_a_while_or_not_at_all() {
        let day = rotated(&account(), "1234".into(), TimeDelta::days(1), at(100));
        assert_eq!(
            (day.credentials_revision, day.revision, day.overlap_ends_at),
            (2, 4, Some(at(100 + 86_400)))
        );
        let at_once = rotated(&account(), "1234".into(), TimeDelta::zero(), at(100));
        assert_eq!(at_once.overlap_ends_at, None);
        let end = Edit {
            end_overlap: true,
            ..Edit::default()
        };
        let ended = edited(&day, end, at(200)).expect("changed");
        assert_eq!((ended.overlap_ends_at, ended.revision), (None, 5));
    }

    #[test]
    fn what_is_so_already_is_no_change() {
        let same = Edit {
            name: Some("Main".to_owned()),
            state: Some(State::Active),
            make_default: false,
            end_overlap: true,
        };
        assert_eq!(edited(&account(), same, at(100)), None);
    }

    #[test]
    fn an_old_etag_is_refused() {
        assert!(current(&account(), Some("\"v3\"")).is_ok());
        assert!(current(&account(), None).is_ok());
        assert!(current(&account(), Some("v2")).is_err());
    }
}
