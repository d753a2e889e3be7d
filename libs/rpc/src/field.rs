//! Fields that the messages of every service have: ids and times, read and written.
//! Deliberately absent: anything about one noun; that stands in the noun's own `rpc.rs`.

use chrono::{DateTime, Utc};
use mainstay_types::Id;
use mainstay_types::id::Kind;
use prost_types::Timestamp;

use crate::problem::{Problem, Violations};

/// A time as protobuf has it.
pub fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}

/// A time as we have it; none for one outside what `timestamptz` holds.
pub fn time(timestamp: &Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(timestamp.nanos).ok()?;
    let in_range = (-62_135_596_800..=253_402_300_799).contains(&timestamp.seconds);
    let at = DateTime::from_timestamp(timestamp.seconds, nanos)?;
    in_range.then_some(at)
}

/// A time that a request may name; one that cannot be kept is noted as a fault.
pub fn time_given(
    field: &str,
    given: Option<&Timestamp>,
    faults: &mut Violations,
) -> Option<DateTime<Utc>> {
    faults.check(field, time(given?).ok_or("is no time we can keep"))
}

/// An id that the request names.
///
/// # Errors
/// `INVALID_REQUEST` when it is the id of something else. The stack has said so already; this keeps handlers total.
pub fn id<K: Kind>(field: &str, text: &str) -> Result<Id<K>, Problem> {
    Id::parse(text).map_err(|error| {
        Problem::invalid(vec![crate::FieldViolation {
            field: field.to_owned(),
            message: error.to_string(),
        }])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_the_calendar_are_none() {
        let at = DateTime::from_timestamp(1_800_000_000, 123_456_000).expect("a valid time");
        assert_eq!(time(&timestamp(at)), Some(at));
        for (seconds, nanos) in [(i64::MAX, 0), (0, -1)] {
            assert_eq!(time(&Timestamp { seconds, nanos }), None);
        }
    }

    #[test]
    fn a_time_that_cannot_be_kept_is_a_fault_and_one_not_given_is_none() {
        let mut faults = Violations::new();
        assert_eq!(time_given("at", None, &mut faults), None);
        assert!(faults.is_empty());
        let beyond = Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(time_given("at", Some(&beyond), &mut faults), None);
        assert!(!faults.is_empty());
    }
}
