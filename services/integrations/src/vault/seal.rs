//! Sealing: AES-256-GCM with a random nonce before each text, bound to what it is about.
//! Deliberately absent: a choice of ciphers. The first byte says which one it was, for the day there is another.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::zeroize::Zeroizing;

use super::VaultError;

/// Bytes that are overwritten when they are let go of.
pub type Opened = Zeroizing<Vec<u8>>;

/// The bytes of a key.
pub const KEY_BYTES: usize = 32;
const AES_256_GCM_1: u8 = 1;

/// A key that seals and opens.
pub struct Key(LessSafeKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Of 32 bytes.
    ///
    /// # Errors
    /// [`VaultError::Broken`] for any other number.
    pub fn of(bytes: &[u8]) -> Result<Self, VaultError> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| VaultError::Broken)?;
        Ok(Key(LessSafeKey::new(key)))
    }

    /// Seals a text about something: it opens for the same thing only.
    ///
    /// # Errors
    /// [`VaultError::Broken`] when the system has no randomness.
    pub fn seal(&self, plain: &[u8], about: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| VaultError::Broken)?;
        let mut text = Zeroizing::new(plain.to_vec());
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(about),
                &mut text[..],
            )
            .map_err(|_| VaultError::Broken)?;
        let mut sealed = vec![AES_256_GCM_1];
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed about the same thing.
    ///
    /// # Errors
    /// [`VaultError::Broken`] for anything else.
    pub fn open(&self, sealed: &[u8], about: &[u8]) -> Result<Opened, VaultError> {
        let (&cipher, rest) = sealed.split_first().ok_or(VaultError::Broken)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(VaultError::Broken)?;
        if cipher != AES_256_GCM_1 {
            return Err(VaultError::Broken);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Broken)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(about), &mut text[..])
            .map_err(|_| VaultError::Broken)?
            .len();
        text.truncate(length);
        Ok(text)
    }
}

/// The bytes of a new key.
///
/// # Errors
/// [`VaultError::Broken`] when the system has no randomness.
pub fn random_key() -> Result<Opened, VaultError> {
    let mut bytes = Zeroizing::new(vec![0; KEY_BYTES]);
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| VaultError::Broken)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_its_key_about_its_matter_and_unchanged_only() {
        let (key, other) = (Key::of(&[7; 32]), Key::of(&[8; 32]));
        let (key, other) = (key.expect("a key"), other.expect("a key"));
        let sealed = key.seal(b"b3a1f0c2", b"one").expect("sealed");
        assert_eq!(key.open(&sealed, b"one").expect("opened")[..], *b"b3a1f0c2");
        assert_ne!(sealed, key.seal(b"b3a1f0c2", b"one").expect("sealed"));
        assert!(!sealed.windows(8).any(|part| part == b"b3a1f0c2"));
        assert!(key.open(&sealed, b"two").is_err());
        assert!(other.open(&sealed, b"one").is_err());
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(key.open(&bent, b"one").is_err(), "byte {at}");
            assert!(key.open(&sealed[..at], b"one").is_err(), "cut at {at}");
        }
        assert!(Key::of(&[7; 31]).is_err());
        assert_eq!(format!("{key:?}"), "Key(…)");
    }
}
