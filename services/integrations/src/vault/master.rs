//! The master keys: several at once, the first one seals, each opens what names it.
//! Deliberately absent: a default. Without one nothing is sealed, so its absence stops the start.

use secrecy::zeroize::Zeroizing;

use super::Key;
use super::seal::KEY_BYTES;

/// The most at once: two while one replaces another, and some slack.
const MOST: usize = 8;
const MOST_ID_CHARS: usize = 40;

/// The master keys, the one that seals first.
#[derive(Debug)]
pub struct MasterKeys {
    current: (String, Key),
    others: Vec<(String, Key)>,
}

impl MasterKeys {
    /// Reads `id:hex,id:hex`.
    ///
    /// # Errors
    /// What is wrong, without repeating a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<(String, Key)> = Vec::new();
        let given = text.split(',').map(str::trim).filter(|key| !key.is_empty());
        for (place, given) in given.enumerate() {
            let place = place + 1;
            let (id, hex) = given
                .split_once(':')
                .ok_or_else(|| format!("its key no. {place} has no name before a colon"))?;
            let named = (1..=MOST_ID_CHARS).contains(&id.len())
                && id
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
            if !named {
                return Err(format!(
                    "the name of its key no. {place} must have 1 to {MOST_ID_CHARS} of a-z 0-9 _ -"
                ));
            }
            let bytes = Zeroizing::new(hex::decode(hex).unwrap_or_default());
            if bytes.len() != KEY_BYTES {
                return Err(format!(
                    "its key no. {place} must be {} hexadecimal digits",
                    2 * KEY_BYTES
                ));
            }
            // Nobody draws these at random.
            if bytes.iter().all(|byte| *byte == bytes[0]) {
                return Err(format!("its key no. {place} is a placeholder"));
            }
            if keys.iter().any(|(known, _)| known == id) {
                return Err(format!("two of its keys are called {id}"));
            }
            let key = Key::of(&bytes).map_err(|_| format!("its key no. {place} is none"))?;
            keys.push((id.to_owned(), key));
        }
        if keys.is_empty() || keys.len() > MOST {
            return Err(format!("must be 1 to {MOST} keys separated by commas"));
        }
        let current = keys.remove(0);
        Ok(MasterKeys {
            current,
            others: keys,
        })
    }

    /// The one that seals, with its name.
    pub fn current(&self) -> (&str, &Key) {
        (&self.current.0, &self.current.1)
    }

    /// The one of this name.
    pub fn find(&self, id: &str) -> Option<&Key> {
        let all = std::iter::once(&self.current).chain(&self.others);
        all.into_iter()
            .find(|(known, _)| known == id)
            .map(|(_, key)| key)
    }
}

/// Whether a setting holds master keys; says what would be right.
///
/// # Errors
/// What is wrong, without repeating a key.
pub fn check(text: &str) -> Result<(), String> {
    MasterKeys::parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "5c1a60b2f7d84e93a1c05b7e2d9f4836b0e7c4d15a8f29637be01d4c8a52f963";
    const B: &str = "0d4c8a52f9635c1a60b2f7d84e93a1c05b7e2d9f4836b0e7c4d15a8f29637be0";

    #[test]
    fn several_keys_stand_beside_each_other_and_the_first_seals() {
        let keys = MasterKeys::parse(&format!("2027:{B}, 2026:{A}")).expect("two keys");
        assert_eq!(keys.current().0, "2027");
        assert!(keys.find("2026").is_some() && keys.find("2025").is_none());
    }

    #[test]
    fn a_missing_or_malformed_key_is_refused_without_being_repeated() {
        let zeros = "0".repeat(64);
        for wrong in [
            String::new(),
            " , ".to_owned(),
            A.to_owned(),
            format!("2026:{}", &A[1..]),
            format!("2026:{}", A.replace('5', "x")),
            format!(":{A}"),
            format!("A b:{A}"),
            format!("2026:{A},2026:{B}"),
            format!("2026:{zeros}"),
            (0..9)
                .map(|n| format!("k{n}:{A}"))
                .collect::<Vec<_>>()
                .join(","),
        ] {
            let reason = check(&wrong).expect_err(&wrong);
            assert!(!reason.contains(&A[..8]), "{reason}");
        }
    }
}
