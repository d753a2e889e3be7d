//! The keyed hash by which the directory knows secrets, addresses and slugs, and the key that codes and refresh tokens follow
//! from.
//! Deliberately absent: comparison of hashes. A hash is looked up by its index; whoever times that learns about a keyed hash
//! that they cannot compute, and nothing about the secret. A code is compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use mainstay_types::ChallengeId;
use sha2::Sha256;

/// What is hashed. One purpose's hash never answers for another's.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// The secret of an API key.
    ApiKey,
    /// A person's email address, in lower case.
    Email,
    /// An agency's slug.
    AgencySlug,
    /// A telephone number that somebody signs in with.
    Phone,
    /// A refresh token.
    RefreshToken,
    /// What is counted of signing in.
    SignInLimit,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Purpose::ApiKey => b"api_key\0",
            Purpose::Email => b"email\0",
            Purpose::AgencySlug => b"agency_slug\0",
            Purpose::Phone => b"phone\0",
            Purpose::RefreshToken => b"refresh_token\0",
            Purpose::SignInLimit => b"sign_in_limit\0",
        }
    }
}

/// Makes lookup hashes: HMAC-SHA-256 under `MAINSTAY_IDENTITY_LOOKUP_KEY`, so that a stolen table of hashes cannot be
/// searched for known addresses.
#[derive(Clone)]
pub struct LookupKey(Hmac<Sha256>);

impl std::fmt::Debug for LookupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LookupKey(…)")
    }
}

impl LookupKey {
    /// From its 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        // HMAC takes a key of any length.
        let mac = Hmac::<Sha256>::new_from_slice(bytes).expect("any length is a valid HMAC key");
        Self(mac)
    }

    /// The hash that the directory stores.
    pub fn hash(&self, purpose: Purpose, text: &str) -> Vec<u8> {
        let mut mac = self.0.clone();
        mac.update(purpose.label());
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    /// The hash of a telephone number in E.164 form.
    pub fn phone(&self, phone: &str) -> Vec<u8> {
        self.hash(Purpose::Phone, phone)
    }

    /// The hash of an email address: upper and lower case are the same person.
    pub fn email(&self, email: &str) -> Vec<u8> {
        self.hash(Purpose::Email, &email.to_lowercase())
    }
}

/// What codes and refresh tokens follow from: `MAINSTAY_IDENTITY_SIGN_IN_KEY`. Neither is stored, not even hashed: a code is
/// computed when it is sent and again when one is tried.
#[derive(Clone)]
pub struct SignInKey(Hmac<Sha256>);

impl std::fmt::Debug for SignInKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignInKey(…)")
    }
}

/// How many codes there are.
const CODES: u32 = 1_000_000;

impl SignInKey {
    /// From its 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(bytes).expect("any length is a valid HMAC key");
        Self(mac)
    }

    /// The six digits of a challenge, each as likely as any other.
    pub fn code(&self, challenge: ChallengeId) -> String {
        // What is left over beyond the last whole million would make some codes likelier; then the next draw counts.
        let even = u32::MAX - u32::MAX % CODES;
        let drawn = (0_u32..).find_map(|turn| {
            let mut mac = self.0.clone();
            mac.update(b"sign in code\0");
            mac.update(challenge.uuid().as_bytes());
            mac.update(&turn.to_be_bytes());
            let bytes = mac.finalize().into_bytes();
            let draw = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            (draw < even).then_some(draw)
        });
        format!("{:06}", drawn.unwrap_or_default() % CODES)
    }

    /// Whether this is the code of the challenge, in a time that does not depend on how much of it is right.
    pub fn opens(&self, challenge: ChallengeId, code: &str) -> bool {
        let told = |code: &str| {
            let mut mac = self.0.clone();
            mac.update(b"sign in compare\0");
            mac.update(challenge.uuid().as_bytes());
            mac.update(code.as_bytes());
            mac
        };
        let right = told(&self.code(challenge)).finalize().into_bytes();
        told(code).verify_slice(&right).is_ok()
    }

    /// The challenge that an Idempotency-Key of somebody who asks for an address names.
    pub fn challenge(&self, address_hash: &[u8], idempotency_key: &str) -> ChallengeId {
        let mut mac = self.0.clone();
        mac.update(b"challenge\0");
        mac.update(address_hash);
        mac.update(idempotency_key.as_bytes());
        let bytes = mac.finalize().into_bytes();
        let mut half = [0; 16];
        half.copy_from_slice(&bytes[..16]);
        ChallengeId::from_uuid(uuid::Builder::from_custom_bytes(half).into_uuid())
    }

    /// The refresh token after this one: always the same, so that it need not be stored to be given twice.
    pub fn successor(&self, refresh_token: &str) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(b"refresh successor\0");
        mac.update(refresh_token.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_its_challenges_alone_and_has_six_digits() {
        let key = SignInKey::new(&[7; 32]);
        let mut leading_zero = false;
        for _ in 0..200 {
            let challenge = ChallengeId::generate();
            let code = key.code(challenge);
            assert!(code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()));
            leading_zero |= code.starts_with('0');
            assert!(key.opens(challenge, &code));
            assert!(!key.opens(challenge, &code[1..]));
            assert!(!key.opens(challenge, &format!("{code}0")));
            assert!(!key.opens(challenge, ""));
        }
        assert!(leading_zero, "a code may begin with a zero");
        // By chance two are the same once in a million.
        let (one, other) = (ChallengeId::generate(), ChallengeId::generate());
        let others = SignInKey::new(&[8; 32]);
        assert!(key.code(one) != key.code(other) || key.code(one) != others.code(one));
    }

    #[test]
    fn a_successor_is_always_the_same_and_nobody_elses() {
        let key = SignInKey::new(&[7; 32]);
        assert_eq!(key.successor("a"), key.successor("a"));
        assert_ne!(key.successor("a"), key.successor("b"));
        assert_ne!(key.successor("a"), SignInKey::new(&[8; 32]).successor("a"));
        let hash = [1; 32];
        assert_eq!(key.challenge(&hash, "k"), key.challenge(&hash, "k"));
        assert_ne!(key.challenge(&hash, "k"), key.challenge(&[2; 32], "k"));
    }

    #[test]
    fn one_purpose_never_answers_for_another() {
        let key = LookupKey::new(&[7; 32]);
        let as_email = key.hash(Purpose::Email, "x");
        assert_ne!(as_email, key.hash(Purpose::ApiKey, "x"));
        assert_ne!(as_email, LookupKey::new(&[8; 32]).hash(Purpose::Email, "x"));
        assert_eq!(key.email("Ana@Agency.test"), key.email("ana@agency.test"));
        assert_eq!(as_email.len(), 32);
    }
}
