//! Whether the write of another service's saga step stands: fences against owners that lost the saga, versions against
//! late writes, tombstones against a do that comes after its undo. Pure, and the same in every service that is written to.
//! Deliberately absent: the rows. Each service keeps what it heard in its own `saga_step`, written in the transaction of
//! the effect and checked against its own schema; and what the content means, which is the service's.

use chrono::TimeDelta;
use mainstay_types::SagaId;

/// How long a step's fence and tombstone are kept: far beyond the time a saga may still retry.
pub const KEPT: TimeDelta = TimeDelta::days(90);

/// What was heard of this saga step before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The highest fence.
    pub fence: i64,
    /// Whether its write was taken (also one that an already newer version made void).
    pub done: bool,
    /// Whether it was undone.
    pub undone: bool,
}

/// Whose write is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The writer's version.
    pub version: i64,
    /// The saga.
    pub saga: SagaId,
    /// Its step.
    pub step: String,
}

/// The write at hand, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The writer's version.
    pub version: i64,
    /// The saga.
    pub saga: SagaId,
    /// Its step.
    pub step: String,
    /// Rises each time somebody else takes the saga over.
    pub fence: i64,
    /// Whether the step takes back what it wrote.
    pub undo: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Store it.
    Store,
    /// Leave what stands, which is this very write.
    Repeat,
    /// Leave what stands, which is newer, or was never this step's to take back.
    Leave,
    /// Refuse: whoever sends it has lost the saga to another, or the step was undone.
    Refuse(Refusal),
}

/// Why a write is refused, in words for whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A higher fence was seen.
    #[error("The saga was taken over: a higher fence has been seen.")]
    FencedOff,
    /// The undo came first; its tombstone stands.
    #[error("The saga step was undone before: it cannot be done any more.")]
    Undone,
}

/// Decides, given what was heard of the step and what is stored.
pub fn decide(heard: Option<Heard>, stored: Option<&Stored>, write: &Write) -> Decision {
    if heard.is_some_and(|heard| write.fence < heard.fence) {
        return Decision::Refuse(Refusal::FencedOff);
    }
    let own = |stored: &Stored| stored.saga == write.saga && stored.step == write.step;
    if write.undo {
        // Nothing was done, or it was undone before: nothing of this step stands.
        if heard.is_none_or(|heard| !heard.done || heard.undone) {
            return Decision::Leave;
        }
        // Taking back one's own write needs no newer version; anybody else's newer write stays.
        return match stored {
            Some(stored) if own(stored) && write.version >= stored.version => Decision::Store,
            _ => Decision::Leave,
        };
    }
    if heard.is_some_and(|heard| heard.undone) {
        return Decision::Refuse(Refusal::Undone);
    }
    match stored {
        None => Decision::Store,
        Some(stored) if write.version > stored.version => Decision::Store,
        Some(stored) if write.version == stored.version && own(stored) => Decision::Repeat,
        Some(_) => Decision::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn saga(n: u128) -> SagaId {
        SagaId::from_uuid(Uuid::from_u128(n))
    }
    fn stored(version: i64, by: u128) -> Option<Stored> {
        Some(Stored {
            version,
            saga: saga(by),
            step: "put".into(),
        })
    }
    fn write(version: i64, fence: i64) -> Write {
        Write {
            version,
            saga: saga(1),
            step: "put".into(),
            fence,
            undo: false,
        }
    }
    fn undo(version: i64, fence: i64) -> Write {
        Write {
            undo: true,
            ..write(version, fence)
        }
    }
    fn heard(fence: i64, done: bool, undone: bool) -> Option<Heard> {
        Some(Heard {
            fence,
            done,
            undone,
        })
    }

    #[test]
    fn table_of_writes() {
        use Decision::{Leave, Refuse, Repeat, Store};
        use Refusal::{FencedOff, Undone};
        let cases = [
            ("first of all", None, None, write(1, 1), Store),
            ("newer", None, stored(4, 2), write(5, 1), Store),
            ("late", None, stored(6, 2), write(5, 1), Leave),
            (
                "as old as another's",
                None,
                stored(5, 2),
                write(5, 1),
                Leave,
            ),
            (
                "repeated",
                heard(1, true, false),
                stored(5, 1),
                write(5, 1),
                Repeat,
            ),
            (
                "repeated by the next owner",
                heard(1, true, false),
                stored(5, 1),
                write(5, 2),
                Repeat,
            ),
            (
                "repeated after a newer",
                heard(1, true, false),
                stored(6, 2),
                write(5, 1),
                Leave,
            ),
            (
                "by an owner that lost the saga",
                heard(3, true, false),
                stored(5, 1),
                write(5, 2),
                Refuse(FencedOff),
            ),
            (
                "after its undo",
                heard(2, false, true),
                None,
                write(5, 2),
                Refuse(Undone),
            ),
            (
                "after do and undo",
                heard(2, true, true),
                stored(5, 1),
                write(5, 3),
                Refuse(Undone),
            ),
        ];
        for (name, heard, stored, write, expected) in cases {
            assert_eq!(decide(heard, stored.as_ref(), &write), expected, "{name}");
        }
    }

    #[test]
    fn table_of_undos() {
        use Decision::{Leave, Refuse, Store};
        let cases = [
            ("before its do", None, stored(3, 2), undo(5, 1), Leave),
            (
                "of its own write",
                heard(1, true, false),
                stored(5, 1),
                undo(5, 1),
                Store,
            ),
            (
                "of its own write, under a later version",
                heard(1, true, false),
                stored(5, 1),
                undo(6, 2),
                Store,
            ),
            (
                "of a write that a newer replaced",
                heard(1, true, false),
                stored(6, 2),
                undo(5, 1),
                Leave,
            ),
            (
                "again",
                heard(1, true, true),
                stored(5, 1),
                undo(5, 1),
                Leave,
            ),
            (
                "by an owner that lost the saga",
                heard(3, true, false),
                stored(5, 1),
                undo(5, 2),
                Refuse(Refusal::FencedOff),
            ),
        ];
        for (name, heard, stored, write, expected) in cases {
            assert_eq!(decide(heard, stored.as_ref(), &write), expected, "{name}");
        }
    }
}
