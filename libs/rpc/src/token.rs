//! Who is who on the wire (IDN-07): tokens that services sign for themselves, and that identity signs for actors.
//!
//! The one algorithm is Ed25519, so there is no algorithm to confuse; a general JWT library would bring RSA with it,
//! whose Rust implementation has an open timing advisory (RUSTSEC-2023-0071). What is written here is the compact form
//! of RFC 7515 with RFC 8037's EdDSA, so any JWT library reads it.
//!
//! Deliberately absent: permissions' meaning, and revocation, which the short lives of these tokens bound.

pub mod access;
mod cache;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::{DateTime, Utc};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use mainstay_runtime::Clock;
use mainstay_types::{AgencyId, ApiKeyId, ClientId, MemberId, PersonId, ServiceName, SessionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::context::Actor;

pub(crate) use cache::Verified;

/// The audience of actor tokens.
const INTERNAL: &str = "mainstay-internal";
/// The longest life of an actor token that is accepted.
const ACTOR_MAX_SECONDS: i64 = 60;
/// How long a service token lives.
const SERVICE_SECONDS: i64 = 60;
/// How far machines' clocks may differ.
const SKEW_SECONDS: i64 = 5;

/// Facts about what an actor may: these permissions for these clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The permissions.
    pub permissions: Vec<String>,
    /// For these clients; none: the whole agency, clients made later too.
    pub clients: Option<Vec<ClientId>>,
}

impl Grant {
    /// Whether it reaches this client.
    pub fn reaches(&self, client: ClientId) -> bool {
        self.clients
            .as_ref()
            .is_none_or(|clients| clients.contains(&client))
    }

    /// Whether it holds this permission.
    pub fn holds(&self, permission: &str) -> bool {
        self.permissions.iter().any(|held| held == permission)
    }
}

/// What an actor's token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    jti: String,
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per: Option<PersonId>,
    /// The session that the actor is signed in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ses: Option<SessionId>,
    /// The agency that the actor acts in.
    pub agy: AgencyId,
    /// What it may.
    pub grants: Vec<Grant>,
    /// The principal's epoch when the token was made; a later one revokes it.
    pub epoch: i64,
}

impl Claims {
    /// Who acts.
    pub fn actor(&self) -> Option<Actor> {
        match (
            self.per,
            MemberId::parse(&self.sub),
            ApiKeyId::parse(&self.sub),
        ) {
            (Some(person), Ok(member), _) => Some(Actor::Member { member, person }),
            (None, _, Ok(key)) => Some(Actor::ApiKey { key }),
            _ => None,
        }
    }

    /// When the token ends.
    pub fn expires_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.exp, 0).unwrap_or_default()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ServiceClaims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

const ACTOR_TYPE: &str = "actor+jwt";
const SERVICE_TYPE: &str = "service+jwt";

/// Why a token or key does not hold. Never holds the token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is not a token of ours.
    #[error("the token is malformed")]
    Malformed,
    /// Nobody we trust signed it.
    #[error("the token's signature does not verify")]
    Untrusted,
    /// It is for somebody else, or from somebody who may not make it.
    #[error("the token is not for this service")]
    Misdirected,
    /// It ended, has not begun, or lives longer than allowed.
    #[error("the token has expired")]
    Expired,
    /// It is not a key.
    #[error("a service key is 64 hexadecimal digits (32 random bytes)")]
    NotAKey,
}

/// What a service signs with.
pub struct ServiceKey {
    service: ServiceName,
    signing: SigningKey,
    kid: String,
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceKey({}, {})", self.service, self.kid)
    }
}

impl ServiceKey {
    /// The key of a service, from its 32 secret bytes.
    pub fn from_seed(service: ServiceName, seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let kid = key_id(&signing.verifying_key());
        ServiceKey {
            service,
            signing,
            kid,
        }
    }

    /// The key of a service, from 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn from_hex(service: ServiceName, text: &str) -> Result<Self, TokenError> {
        let mut seed = [0; 32];
        hex::decode_to_slice(text, &mut seed).map_err(|_| TokenError::NotAKey)?;
        Ok(Self::from_seed(service, &seed))
    }

    /// A new key.
    pub fn generate(service: ServiceName) -> Self {
        Self::from_seed(service, &rand::random())
    }

    /// Whose it is.
    pub fn service(&self) -> ServiceName {
        self.service
    }

    /// What others verify with: 64 hexadecimal digits.
    pub fn public_hex(&self) -> String {
        hex::encode(self.signing.verifying_key().as_bytes())
    }

    /// A token that says "this call comes from me, for `audience`", and when it ends.
    pub fn service_token(&self, audience: ServiceName) -> (String, DateTime<Utc>) {
        let now = wall();
        let claims = ServiceClaims {
            iss: self.service.as_str().to_owned(),
            aud: audience.as_str().to_owned(),
            iat: now,
            exp: now + SERVICE_SECONDS,
        };
        (
            self.sign(SERVICE_TYPE, &claims),
            DateTime::from_timestamp(claims.exp, 0).unwrap_or_default(),
        )
    }

    /// An actor's token. Only identity's is believed.
    pub fn actor_token(
        &self,
        actor: &Actor,
        agency: AgencyId,
        grants: Vec<Grant>,
        epoch: i64,
        life: Duration,
    ) -> (String, Claims) {
        self.session_token(actor, None, agency, grants, epoch, life)
    }

    /// The same, of somebody who is signed in with a session.
    pub fn session_token(
        &self,
        actor: &Actor,
        session: Option<SessionId>,
        agency: AgencyId,
        grants: Vec<Grant>,
        epoch: i64,
        life: Duration,
    ) -> (String, Claims) {
        let now = wall();
        let seconds = i64::try_from(life.as_secs())
            .unwrap_or(ACTOR_MAX_SECONDS)
            .clamp(1, ACTOR_MAX_SECONDS);
        let person = match actor {
            Actor::Member { person, .. } => Some(*person),
            Actor::ApiKey { .. } | Actor::Service(_) | Actor::Anonymous => None,
        };
        let claims = Claims {
            iss: self.service.as_str().to_owned(),
            aud: INTERNAL.to_owned(),
            iat: now,
            exp: now + seconds,
            jti: uuid::Uuid::now_v7().simple().to_string(),
            sub: actor.to_string(),
            per: person,
            ses: session,
            agy: agency,
            grants,
            epoch,
        };
        (self.sign(ACTOR_TYPE, &claims), claims)
    }

    fn sign<C: Serialize>(&self, typ: &str, claims: &C) -> String {
        sign(&self.signing, &self.kid, typ, claims)
    }
}

/// Whose signatures are believed. A service may have several keys, so that one can be replaced while calls go on.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(HashMap<String, (ServiceName, VerifyingKey)>);

impl TrustedKeys {
    /// Nobody's.
    pub fn new() -> Self {
        Self::default()
    }

    /// Believes this public key (64 hexadecimal digits) for this service.
    ///
    /// # Errors
    /// When the text is no public key.
    pub fn trust(mut self, service: ServiceName, public_hex: &str) -> Result<Self, TokenError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(public_hex, &mut bytes).map_err(|_| TokenError::NotAKey)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| TokenError::NotAKey)?;
        if key.is_weak() {
            return Err(TokenError::NotAKey);
        }
        self.0.insert(key_id(&key), (service, key));
        Ok(self)
    }

    /// The services that are believed.
    pub fn services(&self) -> impl Iterator<Item = ServiceName> + '_ {
        self.0.values().map(|(service, _)| *service)
    }

    /// Which service a call comes from, and until when its token holds.
    pub(crate) fn service(
        &self,
        token: &str,
        me: ServiceName,
    ) -> Result<(ServiceName, i64), TokenError> {
        let (signer, claims) = self.verify::<ServiceClaims>(token, SERVICE_TYPE)?;
        if claims.iss != signer.as_str() || claims.aud != me.as_str() {
            return Err(TokenError::Misdirected);
        }
        alive(claims.iat, claims.exp, SERVICE_SECONDS)?;
        Ok((signer, claims.exp))
    }

    /// Who acts.
    pub(crate) fn actor(&self, token: &str) -> Result<(Actor, Claims), TokenError> {
        let (signer, claims) = self.verify::<Claims>(token, ACTOR_TYPE)?;
        if signer != ServiceName::Identity
            || claims.iss != signer.as_str()
            || claims.aud != INTERNAL
        {
            return Err(TokenError::Misdirected);
        }
        alive(claims.iat, claims.exp, ACTOR_MAX_SECONDS)?;
        let actor = claims.actor().ok_or(TokenError::Malformed)?;
        Ok((actor, claims))
    }

    fn verify<C: DeserializeOwned>(
        &self,
        token: &str,
        typ: &str,
    ) -> Result<(ServiceName, C), TokenError> {
        let (header, unverified) = open(token, typ)?;
        let (service, key) = self.0.get(&header.kid).ok_or(TokenError::Untrusted)?;
        Ok((*service, unverified.verify(key)?))
    }
}

/// The compact form, signed.
fn sign<C: Serialize>(signing: &SigningKey, kid: &str, typ: &str, claims: &C) -> String {
    let header = Header {
        alg: "EdDSA".to_owned(),
        typ: typ.to_owned(),
        kid: kid.to_owned(),
    };
    let part = |value: Result<Vec<u8>, serde_json::Error>| {
        BASE64.encode(value.expect("plain structs become JSON"))
    };
    let signed = format!(
        "{}.{}",
        part(serde_json::to_vec(&header)),
        part(serde_json::to_vec(claims))
    );
    let signature = signing.sign(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(signature.to_bytes()))
}

/// A token of the one algorithm and of this type, whose claims nobody has vouched for yet.
fn open<'t>(token: &'t str, typ: &str) -> Result<(Header, Unverified<'t>), TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    let header: Header = read(header)?;
    if header.alg != "EdDSA" || header.typ != typ {
        return Err(TokenError::Malformed);
    }
    Ok((
        header,
        Unverified {
            signed,
            claims,
            signature,
        },
    ))
}

struct Unverified<'t> {
    signed: &'t str,
    claims: &'t str,
    signature: &'t str,
}

impl Unverified<'_> {
    fn verify<C: DeserializeOwned>(&self, key: &VerifyingKey) -> Result<C, TokenError> {
        let signature = BASE64
            .decode(self.signature)
            .map_err(|_| TokenError::Malformed)?;
        let signature = Signature::from_slice(&signature).map_err(|_| TokenError::Malformed)?;
        key.verify_strict(self.signed.as_bytes(), &signature)
            .map_err(|_| TokenError::Untrusted)?;
        read(self.claims)
    }
}

fn read<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = BASE64.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

fn alive(iat: i64, exp: i64, longest: i64) -> Result<(), TokenError> {
    let now = wall();
    let began = iat <= now + SKEW_SECONDS;
    let short = exp
        .checked_sub(iat)
        .is_some_and(|life| (0..=longest).contains(&life));
    if began && short && exp > now - SKEW_SECONDS {
        Ok(())
    } else {
        Err(TokenError::Expired)
    }
}

/// Wall time, not the platform's: a shifted clock must not lengthen a credential's life.
pub(crate) fn wall() -> i64 {
    Clock::system(0).now().timestamp()
}

fn key_id(key: &VerifyingKey) -> String {
    hex::encode(&Sha256::digest(key.as_bytes())[..8])
}

impl FromStr for TrustedKeys {
    type Err = String;

    /// `identity=<hex>,billing=<hex>,billing=<hex>`, as the setting spells it.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut keys = TrustedKeys::new();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (service, key) = item
                .split_once('=')
                .ok_or_else(|| "each key must be written service=key".to_owned())?;
            let service: ServiceName =
                service.trim().parse().map_err(|error| format!("{error}"))?;
            keys = keys.trust(service, key.trim()).map_err(|_| {
                format!("the key of {service} is not 64 hexadecimal digits of a public key")
            })?;
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.4.
    #[test]
    fn signatures_are_the_standards() {
        let seed = BASE64
            .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .expect("base64");
        let key = SigningKey::from_bytes(&seed.try_into().expect("32 bytes"));
        let signature = key.sign(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc");
        assert_eq!(
            BASE64.encode(signature.to_bytes()),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    fn trusted(keys: &[&ServiceKey]) -> TrustedKeys {
        keys.iter().fold(TrustedKeys::new(), |trusted, key| {
            trusted
                .trust(key.service(), &key.public_hex())
                .expect("a key")
        })
    }

    #[test]
    fn a_service_is_believed_only_about_itself_and_only_by_whom_it_calls() {
        let (billing, messaging) = (
            ServiceKey::generate(ServiceName::Billing),
            ServiceKey::generate(ServiceName::Messaging),
        );
        let trusted = trusted(&[&billing, &messaging]);
        let (token, _) = billing.service_token(ServiceName::Identity);
        assert_eq!(
            trusted
                .service(&token, ServiceName::Identity)
                .expect("holds")
                .0,
            ServiceName::Billing
        );
        assert_eq!(
            trusted.service(&token, ServiceName::Messaging),
            Err(TokenError::Misdirected)
        );
        let forged = ServiceClaims {
            iss: "billing".into(),
            aud: "identity".into(),
            iat: wall(),
            exp: wall() + 30,
        };
        assert_eq!(
            trusted.service(
                &messaging.sign(SERVICE_TYPE, &forged),
                ServiceName::Identity
            ),
            Err(TokenError::Misdirected)
        );
        let stranger = ServiceKey::generate(ServiceName::Billing);
        let (token, _) = stranger.service_token(ServiceName::Identity);
        assert_eq!(
            trusted.service(&token, ServiceName::Identity),
            Err(TokenError::Untrusted)
        );
    }

    #[test]
    fn only_identity_speaks_for_actors() {
        let (identity, billing) = (
            ServiceKey::generate(ServiceName::Identity),
            ServiceKey::generate(ServiceName::Billing),
        );
        let trusted = trusted(&[&identity, &billing]);
        let actor = Actor::Member {
            member: MemberId::generate(),
            person: PersonId::generate(),
        };
        let agency = AgencyId::generate();
        let life = Duration::from_secs(30);
        let (token, claims) = identity.actor_token(&actor, agency, vec![], 3, life);
        assert_eq!(
            trusted.actor(&token).expect("holds"),
            (actor.clone(), claims)
        );
        let (token, _) = billing.actor_token(&actor, agency, vec![], 3, life);
        assert_eq!(trusted.actor(&token), Err(TokenError::Misdirected));
        // One kind of token is never taken for the other.
        let (token, _) = identity.service_token(ServiceName::Identity);
        assert_eq!(trusted.actor(&token), Err(TokenError::Malformed));
    }

    #[test]
    fn tokens_end_and_may_not_live_long() {
        let identity = ServiceKey::generate(ServiceName::Identity);
        let trusted = trusted(&[&identity]);
        let with = |iat: i64, exp: i64| {
            let claims = ServiceClaims {
                iss: "identity".into(),
                aud: "billing".into(),
                iat: wall() + iat,
                exp: wall() + exp,
            };
            trusted
                .service(&identity.sign(SERVICE_TYPE, &claims), ServiceName::Billing)
                .map(|_| ())
        };
        assert_eq!(with(-10, 40), Ok(()));
        assert_eq!(with(-60, -10), Err(TokenError::Expired));
        assert_eq!(with(0, 3600), Err(TokenError::Expired));
        assert_eq!(with(300, 330), Err(TokenError::Expired));
        assert_eq!(with(i64::MIN / 2, i64::MAX / 2), Err(TokenError::Expired));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let identity = ServiceKey::generate(ServiceName::Identity);
        let trusted = trusted(&[&identity]);
        let (token, _) = identity.service_token(ServiceName::Billing);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ascii");
            assert!(
                changed == token || trusted.service(&changed, ServiceName::Billing).is_err(),
                "byte {at}"
            );
        }
    }

    #[test]
    fn several_keys_of_a_service_hold_while_one_is_replaced() {
        let (old, new) = (
            ServiceKey::generate(ServiceName::Billing),
            ServiceKey::generate(ServiceName::Billing),
        );
        let trusted: TrustedKeys =
            format!("billing={}, billing={}", old.public_hex(), new.public_hex())
                .parse()
                .expect("keys");
        for key in [&old, &new] {
            let (token, _) = key.service_token(ServiceName::Identity);
            assert!(trusted.service(&token, ServiceName::Identity).is_ok());
        }
        assert!("billing".parse::<TrustedKeys>().is_err());
        assert!("sales=00".parse::<TrustedKeys>().is_err());
    }
}
