//! How long a code holds and how often is how often. Pure.
//! Deliberately absent: a way to tell a right code from a wrong one; that is the key's.

use chrono::{DateTime, TimeDelta, Utc};

/// How long a code opens something.
pub const CODE_LIFE: TimeDelta = TimeDelta::minutes(10);
/// Over what time the codes of an address are counted, those asked for and those tried.
pub const WINDOW: TimeDelta = TimeDelta::minutes(15);
/// Over what time the codes of all are counted.
pub const MINUTE: TimeDelta = TimeDelta::minutes(1);
/// Wrong codes for an address within the window, over all its challenges. A challenge ends before the window does, so it is
/// the most for a challenge as well.
pub const MOST_TRIES: i32 = 5;

/// How often codes may be asked for, at all replicas together.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// With one address, within [`WINDOW`].
    pub per_address: i32,
    /// With all, within [`MINUTE`].
    pub per_minute: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            per_address: 3,
            per_minute: 100,
        }
    }
}

/// When there is room again, if there is none now: when the oldest of the last `most` leaves the window.
pub fn full_until(
    hits: &[DateTime<Utc>],
    most: i32,
    window: TimeDelta,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let mut recent: Vec<_> = hits
        .iter()
        .copied()
        .filter(|hit| *hit > now - window)
        .collect();
    recent.sort_unstable_by(|one, other| other.cmp(one));
    let place = usize::try_from(most).unwrap_or(0).checked_sub(1)?;
    recent.get(place).map(|filling| *filling + window)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_when_the_oldest_that_fills_the_window_leaves_it() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        let ago = |minutes: i64| now - TimeDelta::minutes(minutes);
        let until = |hits: &[DateTime<Utc>]| full_until(hits, 3, WINDOW, now);
        assert_eq!(until(&[]), None);
        assert_eq!(until(&[ago(1), ago(2)]), None);
        assert_eq!(until(&[ago(1), ago(2), ago(16)]), None);
        assert_eq!(
            until(&[ago(14), ago(1), ago(2)]),
            Some(now + TimeDelta::minutes(1))
        );
        // One that is on its edge has left.
        assert_eq!(until(&[ago(15), ago(1), ago(2)]), None);
    }

    #[test]
    fn a_challenge_ends_before_the_window_in_which_its_codes_are_counted() {
        assert!(CODE_LIFE < WINDOW);
    }
}
