//! What business hours are, and whether a client is open at a moment. Pure.
//! Deliberately absent: hours that reach past midnight. Two entries say the same, and no day is open twice.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Timelike as _, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// A minute of a day: 0 is its beginning, 1440 its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minute(u16);

impl Minute {
    /// `09:00`; `24:00` is the end of the day.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let digits = |part: &str| {
            (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse::<u16>().ok())
                .flatten()
        };
        let (hours, minutes) = (digits(hours)?, digits(minutes)?);
        let whole = hours * 60 + minutes;
        (minutes < 60 && whole <= 1440).then_some(Minute(whole))
    }

    fn of(time: NaiveTime) -> Self {
        Minute(u16::try_from(time.hour() * 60 + time.minute()).unwrap_or(1440))
    }
}

impl std::fmt::Display for Minute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Open on a day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The day.
    pub day: Weekday,
    /// From.
    pub opens: Minute,
    /// To, without it.
    pub closes: Minute,
}

/// A day that is another than its weekday says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// The day.
    pub date: NaiveDate,
    /// From and to; none: closed all day.
    pub open: Option<(Minute, Minute)>,
    /// What day it is.
    pub name: Option<String>,
}

/// When a client is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// The time zone that the times are in.
    #[serde(with = "zone")]
    pub time_zone: Tz,
    /// The week, sorted; none meets another.
    pub week: Vec<Open>,
    /// Other days, sorted.
    pub exceptions: Vec<Exception>,
}

mod zone {
    use chrono_tz::Tz;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(zone: &Tz, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(zone.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Tz, D::Error> {
        let name = String::deserialize(from)?;
        name.parse().map_err(D::Error::custom)
    }
}

impl Hours {
    /// Whether it is open at a moment, in its own time zone; on the days that a clock is changed as well.
    pub fn is_open(&self, at: DateTime<Utc>) -> bool {
        let there = at.with_timezone(&self.time_zone);
        let (date, minute) = (there.date_naive(), Minute::of(there.time()));
        let within = |opens: Minute, closes: Minute| opens <= minute && minute < closes;
        let mut exceptions = self.exceptions.iter().filter(|one| one.date == date);
        if let Some(first) = exceptions.next() {
            return std::iter::once(first)
                .chain(exceptions)
                .filter_map(|one| one.open)
                .any(|(opens, closes)| within(opens, closes));
        }
        let day = there.weekday();
        let mut week = self.week.iter().filter(|open| open.day == day);
        week.any(|open| within(open.opens, open.closes))
    }
}

/// The places at which times of one day meet others, or end before they begin.
pub fn faults(times: &[(usize, Minute, Minute)]) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut sorted = times.to_vec();
    sorted.sort_by_key(|(_, opens, _)| *opens);
    for (place, opens, closes) in &sorted {
        if closes <= opens {
            found.push((*place, "must close after it opens, on the same day"));
        }
    }
    for pair in sorted.windows(2) {
        if let [(_, _, closes), (place, opens, _)] = pair
            && opens < closes
        {
            found.push((*place, "meets other hours of the same day"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(text: &str) -> Minute {
        Minute::parse(text).expect("a time")
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a moment")
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for text in ["00:00", "09:05", "17:30", "24:00"] {
            assert_eq!(minute(text).to_string(), text);
        }
        for wrong in [
            "9:00", "24:01", "12:60", "12", "", "ab:cd", "-1:00", "12:00:00",
        ] {
            assert_eq!(Minute::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_client_is_open_in_its_own_time_zone_and_a_holiday_is_none_of_its_days() {
        let hours = Hours {
            time_zone: chrono_tz::America::Chicago,
            week: vec![Open {
                day: Weekday::Fri,
                opens: minute("09:00"),
                closes: minute("17:00"),
            }],
            exceptions: vec![Exception {
                date: NaiveDate::from_ymd_opt(2026, 12, 25).expect("a day"),
                open: None,
                name: Some("Christmas".to_owned()),
            }],
        };
        assert!(hours.is_open(at("2026-11-20T15:00:00Z")), "nine there");
        assert!(!hours.is_open(at("2026-11-20T14:59:59Z")), "not yet");
        assert!(!hours.is_open(at("2026-11-20T23:00:00Z")), "five there");
        assert!(!hours.is_open(at("2026-11-21T15:00:00Z")), "Saturday");
        assert!(!hours.is_open(at("2026-12-25T16:00:00Z")), "Christmas");
        // In summer nine is an hour earlier.
        assert!(hours.is_open(at("2026-07-10T14:00:00Z")));
    }

    #[test]
    fn hours_that_meet_or_end_before_they_begin_are_found() {
        let times = |times: &[(&str, &str)]| -> Vec<usize> {
            let times: Vec<_> = times
                .iter()
                .enumerate()
                .map(|(place, (opens, closes))| (place, minute(opens), minute(closes)))
                .collect();
            faults(&times).into_iter().map(|(place, _)| place).collect()
        };
        assert_eq!(
            times(&[("09:00", "12:00"), ("12:00", "17:00")]),
            [] as [usize; 0]
        );
        assert_eq!(times(&[("13:00", "17:00"), ("09:00", "13:01")]), [0]);
        assert_eq!(times(&[("22:00", "06:00")]), [0]);
        assert_eq!(times(&[("09:00", "09:00")]), [0]);
    }
}
