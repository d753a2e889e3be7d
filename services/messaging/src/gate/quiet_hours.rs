//! Quiet hours, by the recipient's own clock: whether this instant is legal everywhere they may be, and which is the first
//! that is. Exact to the instant, across both changes of the clock.
//! Deliberately absent: the sender's comfort. An hour is legal or it is not.

use chrono::{DateTime, Days, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::places::Place;

/// How far ahead the next legal instant is looked for. The longest closure there is (a weekend that a holiday prolongs,
/// in all zones at once) is over in five days; what is not open within this is never open.
const HORIZON: TimeDelta = TimeDelta::days(15);

/// No zone changes its clock and back within this.
const STRIDE: TimeDelta = TimeDelta::hours(12);

/// Whether this instant is open in all of these places. Nowhere is not everywhere: no places, no.
pub fn is_legal(places: &[Place], at: DateTime<Utc>) -> bool {
    !places.is_empty() && places.iter().all(|place| is_open(place, at))
}

/// The earliest instant from `from` on that is open in all of these places; none when there is none within
/// fifteen days, which is so where the places share no hour.
///
/// Each place is asked in turn for its own earliest instant from where the others agree so far. What one place refuses,
/// all refuse, so nothing legal is ever stepped over.
pub fn next_legal_time(places: &[Place], from: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if places.is_empty() {
        return None;
    }
    let until = from + HORIZON;
    let mut at = from;
    loop {
        let before = at;
        for place in places {
            at = next_open(place, at, until)?;
        }
        if at == before {
            return Some(at);
        }
    }
}

fn is_open(place: &Place, at: DateTime<Utc>) -> bool {
    open_by_the_clock(place, local(place.zone, at))
}

fn open_by_the_clock(place: &Place, clock: NaiveDateTime) -> bool {
    let Some((from, to)) = place.hours.on(clock.date()) else {
        return false;
    };
    let since_midnight = clock.time() - NaiveTime::MIN;
    let minute = TimeDelta::minutes;
    minute(from.into()) <= since_midnight && since_midnight < minute(to.into())
}

/// The earliest open instant of one place, at or after `at` and before `until`. While the clock runs evenly it opens at an
/// opening time; where it jumps it may also open, or close, at the jump.
fn next_open(place: &Place, mut at: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
    while at < until {
        if is_open(place, at) {
            return Some(at);
        }
        let jump = next_jump(place.zone, at, at + STRIDE);
        let even_until = jump.unwrap_or(at + STRIDE);
        if let Some(opens) = next_opening(place, at)
            && opens < even_until
        {
            return Some(opens);
        }
        at = even_until;
    }
    None
}

/// When the next opening time is, were the clock never to jump. Only asked while closed, so the opening is ahead.
fn next_opening(place: &Place, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let clock = local(place.zone, at);
    (0..=1).find_map(|days| {
        let day = clock.date().checked_add_days(Days::new(days))?;
        let (from, _) = place.hours.on(day)?;
        let opens = day.and_time(NaiveTime::MIN) + TimeDelta::minutes(from.into());
        (opens > clock).then(|| at + (opens - clock))
    })
}

/// The first instant in `(from, to]` at which the zone's offset is another, to the second.
fn next_jump(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let standing = offset(zone, from);
    if offset(zone, to) == standing {
        return None;
    }
    let (mut same, mut other) = (from.timestamp(), to.timestamp());
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        match DateTime::from_timestamp(middle, 0) {
            Some(at) if offset(zone, at) == standing => same = middle,
            _ => other = middle,
        }
    }
    DateTime::from_timestamp(other, 0)
}

fn offset(zone: Tz, at: DateTime<Utc>) -> i32 {
    zone.offset_from_utc_datetime(&at.naive_utc())
        .fix()
        .local_minus_utc()
}

fn local(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    at.naive_utc() + TimeDelta::seconds(offset(zone, at).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::hours::{self, Hours};
    use crate::gate::places::{Known, plausible};
    use chrono::Timelike;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn place(zone: Tz, hours: &'static Hours) -> Place {
        Place { zone, hours }
    }

    /// Every jump of a zone's clock in 2026 and 2027; for one that never jumps, an ordinary day.
    fn jumps(zone: Tz) -> Vec<DateTime<Utc>> {
        let (mut from, end) = (at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"));
        let mut jumps = Vec::new();
        while from < end {
            let to = from + TimeDelta::days(2);
            jumps.extend(next_jump(zone, from, to));
            from = to;
        }
        if jumps.is_empty() {
            jumps.push(at("2026-03-08T12:00:00Z"));
        }
        jumps
    }

    /// A day and the minute of it.
    type OfDay = (chrono::NaiveDate, u32);

    /// What the zone's own calendar says at each minute, read without any of the arithmetic above.
    fn minutes(zone: Tz, from: DateTime<Utc>, count: i64) -> Vec<(DateTime<Utc>, OfDay)> {
        (0..count)
            .map(|minute| {
                let at = from + TimeDelta::minutes(minute);
                let clock = at.with_timezone(&zone);
                (at, (clock.date_naive(), clock.hour() * 60 + clock.minute()))
            })
            .collect()
    }

    fn open(hours: &Hours, (day, minute): OfDay) -> bool {
        hours
            .on(day)
            .is_some_and(|(from, to)| (from..to).contains(&minute))
    }

    #[test]
    fn in_all_zones_around_every_change_of_the_clock_no_night_is_legal_and_the_first_legal_minute_is_found()
     {
        let laws = [
            &hours::FEDERAL,
            hours::of_state("TX"),
            hours::of_state("UT"),
        ];
        const AROUND: i64 = 26 * 60;
        let mut asked = 0u32;
        for zone in chrono_tz::TZ_VARIANTS {
            for jump in jumps(zone) {
                let start = jump - TimeDelta::minutes(AROUND);
                let clock = minutes(zone, start, 2 * AROUND);
                let everywhere = laws.map(|law| [place(zone, law)]);
                for (at, of_day) in &clock {
                    let night = !(8 * 60..21 * 60).contains(&of_day.1);
                    assert_eq!(is_legal(&everywhere[0], *at), !night, "{zone} {at}");
                }
                for (law, here) in laws.iter().zip(&everywhere) {
                    let legal: Vec<DateTime<Utc>> = clock
                        .iter()
                        .filter(|(_, of_day)| open(law, *of_day))
                        .map(|(at, _)| *at)
                        .collect();
                    for (from, _) in clock.iter().step_by(61) {
                        let next = next_legal_time(here, *from).expect("it opens some day");
                        assert!(is_legal(here, next), "{zone} {from} {next}");
                        match legal.get(legal.partition_point(|at| at < from)) {
                            Some(first) => assert_eq!(next, *first, "{zone} from {from}"),
                            None => assert!(next >= start + TimeDelta::minutes(2 * AROUND)),
                        }
                        asked += 1;
                    }
                }
            }
        }
        assert!(asked > 100_000, "{asked}");
    }

    #[test]
    fn where_nobody_knows_the_place_every_state_must_be_awake() {
        let known = Known {
            phone: Some("+18005550100"),
            ..Known::default()
        };
        let (places, _) = plausible(&known);
        let mut from = at("2026-03-06T00:00:00Z");
        while from < at("2026-03-16T00:00:00Z") {
            let next = next_legal_time(&places, from).expect("the country shares some hours");
            for place in &places {
                let clock = next.with_timezone(&place.zone);
                let minute = (clock.date_naive(), clock.hour() * 60 + clock.minute());
                assert!(open(place.hours, minute), "{} {next}", place.zone);
            }
            let mut minute = from;
            while minute < next {
                assert!(
                    !is_legal(&places, minute),
                    "{minute} is legal, and before {next}"
                );
                minute += TimeDelta::minutes(1);
            }
            from += TimeDelta::minutes(437);
        }
    }

    #[test]
    fn the_night_that_loses_an_hour_is_an_hour_shorter_and_the_one_that_wins_it_longer() {
        let new_york = [place(Tz::America__New_York, &hours::FEDERAL)];
        for (from, next) in [
            ("2026-03-08T02:00:00Z", "2026-03-08T12:00:00Z"), // Saturday 21:00 EST → Sunday 8:00 EDT
            ("2026-11-01T01:00:00Z", "2026-11-01T13:00:00Z"), // Saturday 21:00 EDT → Sunday 8:00 EST
            ("2026-11-01T00:59:59Z", "2026-11-01T00:59:59Z"), // the last second
        ] {
            assert_eq!(
                next_legal_time(&new_york, at(from)),
                Some(at(next)),
                "{from}"
            );
        }
    }

    #[test]
    fn an_opening_is_found_to_the_second_whatever_the_fraction_asked_from() {
        let texas = [place(Tz::America__Chicago, hours::of_state("TX"))];
        let next = next_legal_time(&texas, at("2026-11-22T17:59:59.999Z"));
        assert_eq!(next, Some(at("2026-11-22T18:00:00Z")), "Sunday noon");
    }

    #[test]
    fn places_that_share_no_hour_have_no_legal_time() {
        let apart = [
            place(Tz::Etc__GMTMinus8, &hours::FEDERAL),
            place(Tz::Etc__GMTPlus8, &hours::FEDERAL),
            place(Tz::UTC, &hours::FEDERAL),
        ];
        assert_eq!(next_legal_time(&apart, at("2026-11-22T00:00:00Z")), None);
        assert_eq!(next_legal_time(&[], at("2026-11-22T00:00:00Z")), None);
        assert!(!is_legal(&[], at("2026-11-22T18:00:00Z")));
    }
}
