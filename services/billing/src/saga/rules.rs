//! What a saga does next, decided purely: from where it is, what came of the step, and the shape of its definition.
//! Deliberately absent: undoing what is merely unknown. An unknown outcome is tried again until it is known, or parked.

use std::time::Duration;

use super::definition::{Direction, Failure, Refusal, Wait};

/// Tries of a step before the pivot: with the pauses below about three hours, then a person looks.
const TRIES_BEFORE_PIVOT: i32 = 45;
/// Tries of a step from the pivot on, and of an undoing: about four days.
const TRIES_AFTER_PIVOT: i32 = 1_200;
/// However long a wait is meant to be, it is looked after so often.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
const FIRST_PAUSE: Duration = Duration::from_millis(400);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Where a saga is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Doing or undoing.
    pub direction: Direction,
    /// Which step.
    pub position: usize,
    /// Tries of it that ended without a definite outcome.
    pub attempt: i32,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is done.
    Done,
    /// It definitively is not.
    Refused(Refusal),
    /// Nobody knows yet.
    Unknown(Failure),
    /// It waits for something outside.
    Waiting(Wait),
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This step, now.
    Step(Direction, usize),
    /// The same step again after a pause.
    Again(Duration),
    /// The same step when something has happened outside, or after so long.
    Wait(Duration),
    /// Nothing until a person decides.
    Park,
    /// Nothing: everything was done.
    Completed,
    /// Nothing: everything was undone.
    Compensated,
}

/// What the rules need of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// For each step whether it can be undone.
    pub undoable: Vec<bool>,
    /// The place of the pivot.
    pub pivot: usize,
}

impl Shape {
    /// The last step before `position` that is to be undone.
    fn undo_before(&self, position: usize) -> Next {
        let before = &self.undoable[..position.min(self.undoable.len())];
        match before.iter().rposition(|undoable| *undoable) {
            Some(position) => Next::Step(Direction::Undo, position),
            None => Next::Compensated,
        }
    }

    fn tries(&self, at: At) -> i32 {
        if at.direction == Direction::Do && at.position < self.pivot {
            TRIES_BEFORE_PIVOT
        } else {
            TRIES_AFTER_PIVOT
        }
    }
}

/// Decides what follows. `jitter` in 0..=1 spreads the pauses, so that what failed together is not retried in step.
pub fn decide(shape: &Shape, at: At, settled: &Settled, jitter: f64) -> Next {
    match (at.direction, settled) {
        (Direction::Do, Settled::Done) if at.position + 1 < shape.undoable.len() => {
            Next::Step(Direction::Do, at.position + 1)
        }
        (Direction::Do, Settled::Done) => Next::Completed,
        // Every step before this one is known to be done, and this one is known not to be.
        (Direction::Do, Settled::Refused(_)) => shape.undo_before(at.position),
        (Direction::Undo, Settled::Done) => shape.undo_before(at.position),
        // What it waits for may last for months: no try is counted.
        (Direction::Do, Settled::Waiting(wait)) => Next::Wait(wait.pause.min(LONGEST_WAIT)),
        // Undoing has nothing to wait for; it is tried again like anything that is not done.
        (Direction::Undo, Settled::Waiting(wait)) => again(shape, at, Some(wait.pause), jitter),
        (_, Settled::Unknown(failure)) => again(shape, at, failure.retry_after, jitter),
        // What cannot be undone must not vanish: it is tried again like an unknown one, then parked.
        (Direction::Undo, Settled::Refused(_)) => again(shape, at, None, jitter),
    }
}

fn again(shape: &Shape, at: At, not_before: Option<Duration>, jitter: f64) -> Next {
    if at.attempt + 1 >= shape.tries(at) {
        return Next::Park;
    }
    let doubled = FIRST_PAUSE.saturating_mul(1 << at.attempt.clamp(0, 20));
    let pause = doubled
        .min(LONGEST_PAUSE)
        .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    Next::Again(pause.max(not_before.unwrap_or_default().min(LONGEST_PAUSE)))
}

/// How long a saga rests whose outcome was known but could not be written.
pub fn pause_after_break(attempt: i32) -> Duration {
    let doubled = Duration::from_secs(1).saturating_mul(1 << attempt.clamp(0, 20));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_rpc::ErrorReason;

    fn shape() -> Shape {
        // reserve, customer, charge (pivot), activate, tell
        Shape {
            undoable: vec![true, false, true, true, true],
            pivot: 2,
        }
    }

    fn doing(position: usize) -> At {
        At {
            direction: Direction::Do,
            position,
            attempt: 0,
        }
    }

    fn undoing(position: usize) -> At {
        At {
            direction: Direction::Undo,
            ..doing(position)
        }
    }

    fn refused() -> Settled {
        Settled::Refused(Refusal::new(ErrorReason::PaymentDeclined, "no"))
    }

    fn unknown() -> Settled {
        Settled::Unknown(Failure::new("timed out"))
    }

    #[test]
    fn steps_follow_in_order_and_the_last_completes() {
        let next = |position| decide(&shape(), doing(position), &Settled::Done, 0.5);
        assert_eq!(next(0), Next::Step(Direction::Do, 1));
        assert_eq!(next(3), Next::Step(Direction::Do, 4));
        assert_eq!(next(4), Next::Completed);
    }

    #[test]
    fn a_refusal_undoes_what_was_done_in_reverse_and_skips_what_has_no_undo() {
        let next = |at| decide(&shape(), at, &refused(), 0.5);
        assert_eq!(next(doing(0)), Next::Compensated);
        assert_eq!(next(doing(2)), Next::Step(Direction::Undo, 0));
        assert_eq!(next(doing(4)), Next::Step(Direction::Undo, 3));
        let after = |position| decide(&shape(), undoing(position), &Settled::Done, 0.5);
        assert_eq!(after(3), Next::Step(Direction::Undo, 2));
        assert_eq!(after(2), Next::Step(Direction::Undo, 0));
        assert_eq!(after(0), Next::Compensated);
    }

    #[test]
    fn an_unknown_outcome_is_never_undone() {
        for position in 0..5 {
            let next = decide(&shape(), doing(position), &unknown(), 0.5);
            assert!(matches!(next, Next::Again(_)), "{position}: {next:?}");
        }
    }

    #[test]
    fn waiting_counts_no_tries_and_is_looked_after() {
        let waits = |pause| Settled::Waiting(Wait::new("the payer", pause));
        let tired = At {
            attempt: TRIES_AFTER_PIVOT * 2,
            ..doing(2)
        };
        let day = Duration::from_secs(86_400);
        assert_eq!(
            decide(&shape(), tired, &waits(day), 0.5),
            Next::Wait(LONGEST_WAIT)
        );
        let next = decide(&shape(), undoing(2), &waits(day), 0.5);
        assert!(matches!(next, Next::Again(_)), "{next:?}");
    }

    #[test]
    fn a_used_up_budget_parks_in_either_direction() {
        let tired = |at: At, attempt| decide(&shape(), At { attempt, ..at }, &unknown(), 0.5);
        assert_eq!(tired(doing(1), TRIES_BEFORE_PIVOT - 1), Next::Park);
        assert!(matches!(
            tired(doing(2), TRIES_BEFORE_PIVOT),
            Next::Again(_)
        ));
        assert_eq!(tired(doing(4), TRIES_AFTER_PIVOT - 1), Next::Park);
        assert_eq!(tired(undoing(0), TRIES_AFTER_PIVOT - 1), Next::Park);
    }

    #[test]
    fn a_refused_undo_is_tried_again_and_never_skipped() {
        assert!(matches!(
            decide(&shape(), undoing(2), &refused(), 0.5),
            Next::Again(_)
        ));
    }

    #[test]
    fn pauses_grow_are_bounded_and_honour_the_other_side() {
        let pause = |attempt, jitter| match again(
            &shape(),
            At {
                attempt,
                ..doing(4)
            },
            None,
            jitter,
        ) {
            Next::Again(pause) => pause,
            other => panic!("{other:?}"),
        };
        assert!(pause(0, 0.0) < pause(3, 0.0));
        assert_eq!(pause(900, 1.0), LONGEST_PAUSE);
        let asked = Failure {
            retry_after: Some(Duration::from_secs(7)),
            ..Failure::new("429")
        };
        let next = decide(&shape(), doing(0), &Settled::Unknown(asked), 0.0);
        assert_eq!(next, Next::Again(Duration::from_secs(7)));
    }
}
