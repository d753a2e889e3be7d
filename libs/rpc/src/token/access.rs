//! Access tokens (IDN-04): what a person who signed in holds, and nobody but identity reads. They are tokens as all others
//! here, with a type, an audience and keys of their own, so that none is ever taken for a token between services.
//!
//! Deliberately absent: grants. What a member may is looked up whenever the token is exchanged, so it is never older than that.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use ed25519_dalek::{SigningKey, VerifyingKey};
use mainstay_types::{AgencyId, MemberId, PersonId, SessionId};
use serde::{Deserialize, Serialize};

use super::{BASE64, Engine as _, SKEW_SECONDS, TokenError, key_id, open, sign};

/// How long an access token holds.
pub const LIFE: TimeDelta = TimeDelta::minutes(15);

const TYPE: &str = "at+jwt";
const ISSUER: &str = "mainstay-identity";
const AUDIENCE: &str = "mainstay";
/// The most keys that are believed beside the one that signs.
const MOST_OTHERS: usize = 4;

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    jti: String,
    /// Who signed in.
    pub sub: PersonId,
    /// In which session.
    pub sid: SessionId,
    /// The agency that they act in.
    pub agy: AgencyId,
    /// As which member.
    pub mem: MemberId,
}

impl AccessClaims {
    /// When the token ends.
    pub fn expires_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.exp, 0).unwrap_or_default()
    }
}

/// Who is signed in, in which session, as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The person.
    pub person: PersonId,
    /// The session.
    pub session: SessionId,
    /// The agency.
    pub agency: AgencyId,
    /// The member.
    pub member: MemberId,
}

/// A public key as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its id, as tokens name it.
    pub kid: String,
    /// The key, base64url.
    pub x: String,
}

/// The keys of access tokens: one signs; others are believed beside it while one replaces another.
#[derive(Clone)]
pub struct AccessKeys {
    signing: SigningKey,
    believed: Vec<(String, VerifyingKey)>,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKeys({}, …)", self.kid())
    }
}

impl AccessKeys {
    /// A key that signs, from its 32 secret bytes.
    pub fn new(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let public = signing.verifying_key();
        AccessKeys {
            signing,
            believed: vec![(key_id(&public), public)],
        }
    }

    /// Believes these public keys too, each 64 hexadecimal digits, separated by commas.
    ///
    /// # Errors
    /// What is wrong.
    pub fn and_others(mut self, text: &str) -> Result<Self, String> {
        self.believed.extend(others(text)?);
        Ok(self)
    }

    fn kid(&self) -> &str {
        self.believed.first().map_or("", |(kid, _)| kid)
    }

    /// A token from now on.
    pub fn issue(&self, bearer: Bearer, now: DateTime<Utc>) -> String {
        let claims = AccessClaims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now.timestamp(),
            exp: (now + LIFE).timestamp(),
            jti: uuid::Uuid::now_v7().simple().to_string(),
            sub: bearer.person,
            sid: bearer.session,
            agy: bearer.agency,
            mem: bearer.member,
        };
        sign(&self.signing, self.kid(), TYPE, &claims)
    }

    /// What a token says that holds now.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(&self, token: &str, now: DateTime<Utc>) -> Result<AccessClaims, TokenError> {
        let (header, unverified) = open(token, TYPE)?;
        let known = self.believed.iter().find(|(kid, _)| *kid == header.kid);
        let (_, key) = known.ok_or(TokenError::Untrusted)?;
        let claims: AccessClaims = unverified.verify(key)?;
        if claims.iss != ISSUER || claims.aud != AUDIENCE {
            return Err(TokenError::Misdirected);
        }
        let life = claims.exp.checked_sub(claims.iat);
        let short = life.is_some_and(|life| (0..=LIFE.num_seconds()).contains(&life));
        let now = now.timestamp();
        if !short || claims.iat > now + SKEW_SECONDS || claims.exp <= now {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// What others verify with, the one that signs first.
    pub fn published(&self) -> Vec<PublicKey> {
        let all = self.believed.iter();
        all.map(|(kid, key)| PublicKey {
            kid: kid.clone(),
            x: BASE64.encode(key.as_bytes()),
        })
        .collect()
    }

    /// The key that signs, for whoever replaces it: 64 hexadecimal digits.
    pub fn public_hex(&self) -> String {
        hex::encode(self.signing.verifying_key().as_bytes())
    }
}

/// Whether a text lists public keys, for the check of a setting.
///
/// # Errors
/// What is wrong.
pub fn check_others(text: &str) -> Result<(), String> {
    others(text).map(|_| ())
}

fn others(text: &str) -> Result<Vec<(String, VerifyingKey)>, String> {
    let mut keys = Vec::new();
    for item in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
        let mut bytes = [0; 32];
        hex::decode_to_slice(item, &mut bytes)
            .map_err(|_| "a public key is 64 hexadecimal digits".to_owned())?;
        let key = VerifyingKey::from_bytes(&bytes)
            .ok()
            .filter(|key| !key.is_weak())
            .ok_or_else(|| "one of the keys is no public key".to_owned())?;
        keys.push((key_id(&key), key));
    }
    if keys.len() > MOST_OTHERS {
        return Err(format!("at most {MOST_OTHERS} keys"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Actor;
    use crate::token::{ServiceKey, TrustedKeys};
    use mainstay_types::ServiceName;

    fn bearer() -> Bearer {
        Bearer {
            person: PersonId::generate(),
            session: SessionId::generate(),
            agency: AgencyId::generate(),
            member: MemberId::generate(),
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time")
    }

    #[test]
    fn a_token_says_who_is_signed_in_for_a_quarter_of_an_hour() {
        let keys = AccessKeys::new(&[7; 32]);
        let who = bearer();
        let token = keys.issue(who, now());
        let said = keys
            .read(&token, now() + TimeDelta::seconds(899))
            .expect("holds");
        let read = (said.sub, said.sid, said.agy, said.mem);
        assert_eq!(read, (who.person, who.session, who.agency, who.member));
        for at in [now() + LIFE, now() - TimeDelta::minutes(5)] {
            assert_eq!(keys.read(&token, at), Err(TokenError::Expired));
        }
    }

    #[test]
    fn the_old_key_is_believed_while_the_new_one_signs_and_no_longer() {
        let (old, new) = (AccessKeys::new(&[7; 32]), AccessKeys::new(&[8; 32]));
        let token = old.issue(bearer(), now());
        assert_eq!(new.read(&token, now()), Err(TokenError::Untrusted));
        let both = new
            .clone()
            .and_others(&format!("{}, ", old.public_hex()))
            .expect("a key");
        both.read(&token, now()).expect("overlap");
        let published = both.published();
        assert_eq!(published.len(), 2);
        assert_eq!(published[0], new.published()[0]);
        // Before the new one signs anywhere, it is believed everywhere.
        let early = old.clone().and_others(&new.public_hex()).expect("a key");
        early
            .read(&both.issue(bearer(), now()), now())
            .expect("believed");
    }

    #[test]
    fn no_other_kind_of_token_is_taken_for_one_nor_one_for_another() {
        let keys = AccessKeys::new(&[7; 32]);
        // Even of the same secret.
        let service = ServiceKey::from_seed(ServiceName::Identity, &[7; 32]);
        let trusted = TrustedKeys::new()
            .trust(ServiceName::Identity, &service.public_hex())
            .expect("a key");
        let token = keys.issue(bearer(), now());
        assert_eq!(trusted.actor(&token), Err(TokenError::Malformed));
        assert_eq!(
            trusted.service(&token, ServiceName::Billing).map(|_| ()),
            Err(TokenError::Malformed)
        );
        let who = bearer();
        let actor = Actor::Member {
            member: who.member,
            person: who.person,
        };
        let life = std::time::Duration::from_secs(30);
        let (token, _) = service.actor_token(&actor, who.agency, Vec::new(), 1, life);
        assert_eq!(keys.read(&token, now()), Err(TokenError::Malformed));
    }

    #[test]
    fn a_setting_that_lists_no_keys_is_refused() {
        assert_eq!(check_others(""), Ok(()));
        for wrong in ["00", "x", &"00".repeat(32), &"zz".repeat(32)] {
            assert!(check_others(wrong).is_err(), "{wrong}");
        }
    }
}
