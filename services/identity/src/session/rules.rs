//! How long what holds, what a refresh token looks like, and what one that comes again means. Pure.
//! Deliberately absent: the tokens' contents. They have none.

use chrono::{DateTime, TimeDelta, Utc};

/// How long a session lasts without being used; each refresh begins it anew.
pub const SESSION_LIFE: TimeDelta = TimeDelta::days(30);
/// For how long a used refresh token gives its successor again: whoever asked twice at once, or lost the answer.
pub const GRACE: TimeDelta = TimeDelta::seconds(30);

const PREFIX: &str = "mrt_";
const HEX_LEN: usize = 64;

/// What a refresh token gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Its successor: made now, or a moment ago.
    Successor,
    /// Nothing any more: two have it, and one of them has stolen it.
    Stolen,
}

/// What a token that was used then gives now.
pub fn next(used_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Next {
    match used_at {
        Some(used_at) if now > used_at + GRACE => Next::Stolen,
        Some(_) | None => Next::Successor,
    }
}

/// A refresh token of these bytes.
pub fn token(bytes: &[u8; 32]) -> String {
    format!("{PREFIX}{}", hex::encode(bytes))
}

/// A text that can be a refresh token; a typing error costs no query.
pub fn read(text: &str) -> Option<&str> {
    let hex = text.strip_prefix(PREFIX)?;
    let digits = hex
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex.len() == HEX_LEN && digits).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_comes_again_within_the_grace_gives_the_same_and_later_nothing() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        assert_eq!(next(None, now), Next::Successor);
        assert_eq!(next(Some(now), now), Next::Successor);
        assert_eq!(next(Some(now - GRACE), now), Next::Successor);
        let later = now - GRACE - TimeDelta::milliseconds(1);
        assert_eq!(next(Some(later), now), Next::Stolen);
        // Clocks of replicas differ a little.
        assert_eq!(
            next(Some(now + TimeDelta::seconds(1)), now),
            Next::Successor
        );
    }

    #[test]
    fn what_is_no_token_is_not_looked_up() {
        let right = token(&[0xab; 32]);
        assert_eq!(read(&right), Some(right.as_str()));
        let upper = right.to_uppercase();
        for wrong in [
            "",
            "mrt_",
            &right[1..],
            &right[..67],
            &format!("{right}0"),
            &upper,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
