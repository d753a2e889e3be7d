//! Owns the calendar of billing: an anchor, an interval, and the periods between.
//!
//! Deliberately absent: time zones and daylight saving. Stripe bills in UTC.

use chrono::{DateTime, Months};

/// `count` intervals after `start`. Months and years keep the day, or take the month's last one.
pub(super) fn add(start: i64, interval: &str, count: i64) -> i64 {
    let months = match interval {
        "day" => return start + count * 86_400,
        "week" => return start + count * 7 * 86_400,
        "year" => count * 12,
        _ => count,
    };
    let months = Months::new(u32::try_from(months).unwrap_or(0));
    DateTime::from_timestamp(start, 0)
        .and_then(|start| start.checked_add_months(months))
        .map_or(i64::MAX, |end| end.timestamp())
}

/// The end of the period that begins at `start`: the first multiple of the interval after it, counted from the anchor,
/// so that a subscription begun on the 31st comes back to the 31st after February.
pub(super) fn end(anchor: i64, start: i64, interval: &str, interval_count: i64) -> i64 {
    let shortest = match interval {
        "day" => 86_400,
        "week" => 7 * 86_400,
        "year" => 365 * 86_400,
        _ => 28 * 86_400,
    } * interval_count;
    let longest = match interval {
        "year" => 366 * 86_400 * interval_count,
        "month" => 31 * 86_400 * interval_count,
        _ => shortest,
    };
    let mut number = ((start - anchor) / longest).max(0);
    loop {
        let end = add(anchor, interval, number * interval_count);
        if end > start {
            return end;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text)
            .expect("a time")
            .timestamp()
    }

    #[test]
    fn the_31st_returns_after_february() {
        let anchor = at("2027-01-31T10:00:00Z");
        let february = end(anchor, anchor, "month", 1);
        assert_eq!(february, at("2027-02-28T10:00:00Z"));
        assert_eq!(
            end(anchor, february, "month", 1),
            at("2027-03-31T10:00:00Z")
        );
    }

    #[test]
    fn periods_tile_the_line() {
        let anchor = at("2024-02-29T23:59:59Z");
        for (interval, count) in [
            ("day", 1),
            ("week", 2),
            ("month", 1),
            ("month", 3),
            ("year", 1),
        ] {
            let mut start = anchor;
            for number in 1..200 {
                let next = end(anchor, start, interval, count);
                assert_eq!(
                    next,
                    add(anchor, interval, number * count),
                    "{interval} {count} {number}"
                );
                start = next;
            }
        }
    }
}
