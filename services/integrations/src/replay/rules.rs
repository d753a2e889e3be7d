//! How much is replayed at once, and what a range without a state means. Deliberately absent: the walk itself.

use super::ReplayError;
use crate::webhook::State;

/// The most webhooks of one range. More than that is no mishap any more but a migration, and is done in parts.
pub const MOST_IN_RANGE: i64 = 100_000;
/// Webhooks queued in one transaction.
pub const PAGE: i64 = 100;
/// While so many of an agency's webhooks wait, no more of a range is queued: live ones must not queue behind a heap.
pub const MOST_WAITING: i64 = 1000;
/// How often a page may fail on end. Only the database can fail it, and that comes back.
pub const PAGE_TRIES: u32 = 100;

/// Those that a range means. Without a state: those that have not had their effect and will not by themselves soon.
pub fn states(asked: Option<State>) -> Vec<State> {
    match asked {
        Some(state) => vec![state],
        None => vec![State::Failed, State::Dead],
    }
}

/// A count that was made up to one past the most.
///
/// # Errors
/// [`ReplayError::TooLarge`].
pub fn bounded(matched: i64) -> Result<i64, ReplayError> {
    if matched > MOST_IN_RANGE {
        return Err(ReplayError::TooLarge);
    }
    Ok(matched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_names_no_state_leaves_alone_what_had_its_effect() {
        assert_eq!(states(None), [State::Failed, State::Dead]);
        assert_eq!(states(Some(State::Processed)), [State::Processed]);
    }

    #[test]
    fn a_range_past_the_most_is_refused_whole() {
        assert!(bounded(MOST_IN_RANGE).is_ok());
        assert!(matches!(
            bounded(MOST_IN_RANGE + 1),
            Err(ReplayError::TooLarge)
        ));
    }
}
