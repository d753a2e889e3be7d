//! Small translations between protobuf and our types that several slices need.
//! Deliberately absent: anything about one noun; that stands in the noun's own `rpc.rs`.

use chrono::{DateTime, Utc};
use mainstay_db::{Page, PageError, PageRequest};
use mainstay_rpc::{Problem, Violations};
use mainstay_types::Id;
use mainstay_types::id::Kind;
use prost_types::Timestamp;
use uuid::Uuid;

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

/// An id that the request names.
///
/// # Errors
/// `INVALID_REQUEST` when it is the id of something else. The stack has said so already; this keeps handlers total.
pub fn id<K: Kind>(field: &str, text: &str) -> Result<Id<K>, Problem> {
    Id::parse(text).map_err(|error| {
        let mut violations = Violations::new();
        violations.add(field, error.to_string());
        invalid(violations)
    })
}

/// The problem that these violations are.
pub fn invalid(violations: Violations) -> Problem {
    violations
        .finish()
        .err()
        .unwrap_or_else(|| Problem::invalid(Vec::new()))
}

/// A page of a list that is ordered by id, newest first.
///
/// # Errors
/// `INVALID_REQUEST` naming the size or the token.
pub fn page(
    list: &'static str,
    size: Option<i32>,
    token: Option<&str>,
) -> Result<PageRequest<Uuid>, Problem> {
    PageRequest::new(list, size, token).map_err(|error| {
        let field = match error {
            PageError::Size => "page_size",
            PageError::Token => "page_token",
        };
        let mut violations = Violations::new();
        violations.add(field, error.to_string());
        invalid(violations)
    })
}

/// The rows of a page and the token of the next, as list answers hold them.
pub fn listed<R, P>(page: Page<R>, each: impl FnMut(R) -> P) -> (Vec<P>, Option<String>) {
    let page = page.map(each);
    (page.rows, page.next_page_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_the_calendar_are_none() {
        let at = DateTime::from_timestamp(1_800_000_000, 123_456_000).expect("a valid time");
        assert_eq!(time(&timestamp(at)), Some(at));
        assert_eq!(
            time(&Timestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            None
        );
        assert_eq!(
            time(&Timestamp {
                seconds: 0,
                nanos: -1
            }),
            None
        );
    }
}
