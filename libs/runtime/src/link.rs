//! Tokens that stand in links: a few ids, signed. Whoever made none of ours cannot make another's, and the same ids always make
//! the same token.
//! Deliberately absent: a table, and an end. Who reads a token looks at what it names, and decides by that.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

/// Says which form of token it is; the next form has another number.
const FORM: u8 = 1;
const ID: usize = 16;
const SIGNATURE: usize = 32;

/// Makes tokens for one use and reads them.
#[derive(Clone)]
pub struct LinkTokens(Hmac<Sha256>);

impl std::fmt::Debug for LinkTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkTokens(…)")
    }
}

impl LinkTokens {
    /// With a key of their own that is derived from this one by what it is for: tokens of one use are none of another's.
    pub fn new(secret: &[u8; 32], purpose: &str) -> Self {
        let keyed = |key: &[u8]| {
            Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")
        };
        let mut derived = keyed(secret);
        derived.update(purpose.as_bytes());
        LinkTokens(keyed(&derived.finalize().into_bytes()))
    }

    /// The token of these.
    pub fn make(&self, ids: &[Uuid]) -> String {
        let mut bytes = Vec::with_capacity(1 + ids.len() * ID + SIGNATURE);
        bytes.push(FORM);
        for id in ids {
            bytes.extend_from_slice(id.as_bytes());
        }
        let mut mac = self.0.clone();
        mac.update(&bytes);
        bytes.extend_from_slice(&mac.finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token is about; none unless it is, to the last character, one of so many ids that was made here.
    pub fn read<const N: usize>(&self, token: &str) -> Option<[Uuid; N]> {
        // One spelling alone: it takes no padding, and no bits that nobody reads.
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let signed_length = 1 + N * ID;
        if bytes.len() != signed_length + SIGNATURE {
            return None;
        }
        let (signed, signature) = bytes.split_at(signed_length);
        let mut mac = self.0.clone();
        mac.update(signed);
        // Compares in constant time.
        mac.verify_slice(signature).ok()?;
        let (form, ids) = signed.split_first()?;
        if *form != FORM {
            return None;
        }
        let ids: Vec<Uuid> = ids
            .chunks_exact(ID)
            .filter_map(|id| Uuid::from_slice(id).ok())
            .collect();
        ids.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> LinkTokens {
        LinkTokens::new(&[9; 32], "a test")
    }

    fn ids() -> [Uuid; 3] {
        [
            Uuid::from_u128(1),
            Uuid::from_u128(2),
            Uuid::from_u128(u128::MAX),
        ]
    }

    #[test]
    fn a_token_is_read_as_it_was_made_and_is_always_the_same() {
        let token = tokens().make(&ids());
        assert_eq!(token, tokens().make(&ids()));
        assert_eq!(tokens().read(&token), Some(ids()));
        assert_eq!(tokens().read::<2>(&token), None, "so many and no other");
    }

    #[test]
    fn another_key_and_another_use_read_nothing() {
        let token = tokens().make(&ids());
        assert_eq!(LinkTokens::new(&[8; 32], "a test").read::<3>(&token), None);
        assert_eq!(LinkTokens::new(&[9; 32], "another").read::<3>(&token), None);
        let bare = LinkTokens(Hmac::new_from_slice(&[9; 32]).expect("a key"));
        assert_eq!(bare.read::<3>(&token), None, "the key is not the secret");
    }

    #[test]
    fn every_other_token_is_none_of_ours() {
        let token = tokens().make(&ids());
        for place in 0..token.len() {
            for other in ['A', 'B', '_', '=', '+', ' '] {
                let mut forged: Vec<char> = token.chars().collect();
                if forged[place] == other {
                    continue;
                }
                forged[place] = other;
                let forged: String = forged.into_iter().collect();
                assert_eq!(tokens().read::<3>(&forged), None, "{place}: {forged}");
            }
            assert_eq!(tokens().read::<3>(&token[..place]), None, "cut at {place}");
        }
        for more in ["A", "=", "AAAA", " "] {
            assert_eq!(
                tokens().read::<3>(&format!("{token}{more}")),
                None,
                "{more:?}"
            );
        }
    }
}
