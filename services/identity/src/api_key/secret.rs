//! What an API key looks like: `msk_`, 40 random characters, 6 that check the others.
//! Deliberately absent: storage. Only a keyed hash of a secret is ever stored, made by [`crate::keys`].

use rand::Rng;
use secrecy::{ExposeSecret, SecretString};

const PREFIX: &str = "msk_";
const RANDOM_LEN: usize = 40;
const CHECK_LEN: usize = 6;
const SHOWN_LEN: usize = 8;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A secret with the right shape and checksum; whether it opens anything, only the database knows.
#[derive(Clone)]
pub struct Secret(SecretString);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one: 238 bits of the operating system's randomness.
    pub fn generate(random: &mut impl Rng) -> Self {
        let mut body = String::with_capacity(RANDOM_LEN);
        while body.len() < RANDOM_LEN {
            // Six bits, thrown away beyond the alphabet: every character is equally likely.
            let draw = (random.next_u32() >> 26) as usize;
            if let Some(character) = ALPHABET.get(draw) {
                body.push(char::from(*character));
            }
        }
        let check = checksum(&body);
        Self(SecretString::from(format!("{PREFIX}{body}{check}")))
    }

    /// Reads a credential as it was sent. A typing error ends here, before any database is asked.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        if rest.len() != RANDOM_LEN + CHECK_LEN || !rest.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return None;
        }
        let (body, check) = rest.split_at(RANDOM_LEN);
        // The checksum is no secret: comparing it in constant time would protect nothing.
        (check == checksum(body)).then(|| Self(SecretString::from(text.to_owned())))
    }

    /// The whole text: for the one answer that shows it, and for the hash.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What a person recognises it by: `msk_` and eight characters, which leaves 190 bits to guess.
    pub fn shown(&self) -> String {
        self.expose()[..PREFIX.len() + SHOWN_LEN].to_owned()
    }
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [b'0'; CHECK_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_shows_little() {
        let secret = Secret::generate(&mut rand::rng());
        assert_eq!(secret.expose().len(), 50);
        let again = Secret::parse(secret.expose()).expect("its own text");
        assert_eq!(again.expose(), secret.expose());
        assert_eq!(secret.shown().len(), 12);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn every_single_typing_error_is_caught() {
        let secret = Secret::generate(&mut rand::rng());
        for at in 4..secret.expose().len() {
            let mut typed: Vec<u8> = secret.expose().bytes().collect();
            typed[at] = if typed[at] == b'a' { b'b' } else { b'a' };
            let typed = String::from_utf8(typed).expect("ASCII");
            assert!(Secret::parse(&typed).is_none(), "position {at}");
        }
    }

    #[test]
    fn other_credentials_are_not_keys() {
        for text in [
            "",
            "msk_",
            "sk_live_123",
            "msk_é",
            &"msk_0".repeat(10),
            "Bearer x",
        ] {
            assert!(Secret::parse(text).is_none(), "{text}");
        }
    }
}
