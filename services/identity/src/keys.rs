//! The keyed hash by which the directory knows secrets, addresses and slugs.
//! Deliberately absent: comparison. A hash is looked up by its index; whoever times that learns about a keyed hash
//! that they cannot compute, and nothing about the secret.

use hmac::{Hmac, KeyInit, Mac};
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
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Purpose::ApiKey => b"api_key\0",
            Purpose::Email => b"email\0",
            Purpose::AgencySlug => b"agency_slug\0",
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

    /// The hash of an email address: upper and lower case are the same person.
    pub fn email(&self, email: &str) -> Vec<u8> {
        self.hash(Purpose::Email, &email.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
