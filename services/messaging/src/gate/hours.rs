//! At which hours of the day, on which days, people may be called or texted, as data: one row a law.
//! To be confirmed by counsel for each deployment; where two readings of a law differ the stricter stands here.
//! Deliberately absent: holidays that a governor proclaims, and states of emergency. No table can know them.

use chrono::{Datelike, Days, NaiveDate, Weekday};

/// Minutes of a day, from the first that is open to the first that is closed again.
pub type Window = (u32, u32);

/// The hours of one law.
#[derive(Debug, PartialEq, Eq)]
pub struct Hours {
    /// Where it comes from.
    pub source: &'static str,
    /// Monday to Friday.
    pub weekday: Option<Window>,
    /// Saturday.
    pub saturday: Option<Window>,
    /// Sunday.
    pub sunday: Option<Window>,
    /// Whether it closes on the country's holidays, and which days of its own it adds.
    pub holidays: Holidays,
}

/// What a law does on holidays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holidays {
    /// Days like others.
    Open,
    /// No solicitation on federal holidays, nor on these of the state's own.
    Closed(&'static [StateDay]),
}

/// A holiday that a state keeps beside the federal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateDay {
    /// A day of a month.
    Fixed(u32, u32),
    /// The nth such weekday of a month.
    Nth(u32, Weekday, u8),
    /// Days from Easter Sunday; negative for before.
    Easter(i64),
}

const fn h(from: u32, to: u32) -> Option<Window> {
    Some((from * 60, to * 60))
}

const fn daily(source: &'static str, from: u32, to: u32) -> Hours {
    Hours {
        source,
        weekday: h(from, to),
        saturday: h(from, to),
        sunday: h(from, to),
        holidays: Holidays::Open,
    }
}

/// The federal hours, and those of every place that has none of its own.
pub static FEDERAL: Hours = daily("47 CFR 64.1200(c)(1)", 8, 21);

/// Canada's: until 21:30 on weekdays, from 10 to 18 on weekends.
pub static CANADA: Hours = Hours {
    source: "CRTC Unsolicited Telecommunications Rules, part III",
    weekday: Some((9 * 60, 21 * 60 + 30)),
    saturday: h(10, 18),
    sunday: h(10, 18),
    holidays: Holidays::Open,
};

/// States stricter than the federal hours. A state that is not here has those.
static STATES: &[(&str, Hours)] = &[
    (
        "AL",
        Hours {
            source: "Ala. Code 8-19A-8",
            weekday: h(8, 20),
            saturday: h(8, 20),
            sunday: None,
            holidays: Holidays::Closed(&[
                StateDay::Easter(-47),
                StateDay::Nth(4, Weekday::Mon, 4),
                StateDay::Nth(6, Weekday::Mon, 1),
            ]),
        },
    ),
    ("CT", daily("Conn. Gen. Stat. 42-288a", 9, 20)),
    ("FL", daily("Fla. Stat. 501.616(6)(a)", 8, 20)),
    ("KY", daily("Ky. Rev. Stat. 367.46955", 10, 21)),
    (
        "LA",
        Hours {
            source: "La. PSC General Order R-27820",
            weekday: h(8, 20),
            saturday: h(8, 20),
            sunday: None,
            holidays: Holidays::Closed(&[
                StateDay::Easter(-47),
                StateDay::Easter(-2),
                StateDay::Fixed(11, 1),
            ]),
        },
    ),
    ("MA", daily("Mass. Gen. Laws ch. 159C s. 3", 8, 20)),
    ("MD", daily("Md. Code, Com. Law 14-4503", 8, 20)),
    ("MI", daily("Mich. Comp. Laws 484.125", 9, 21)),
    ("MN", daily("Minn. Stat. 325E.30", 9, 21)),
    (
        "MS",
        Hours {
            source: "Miss. Code 77-3-723",
            weekday: h(8, 20),
            saturday: h(8, 20),
            sunday: None,
            holidays: Holidays::Open,
        },
    ),
    ("NM", daily("N.M. Stat. 57-12-22", 9, 21)),
    ("NV", daily("Nev. Rev. Stat. 598.0918", 9, 20)),
    ("OK", daily("Okla. Stat. tit. 15, 775C.4", 8, 20)),
    ("OR", daily("Or. Laws 2025 (HB 3865), from 2026", 8, 20)),
    (
        "PA",
        Hours {
            source: "73 Pa. Stat. 2245.2",
            weekday: h(8, 21),
            saturday: h(8, 21),
            sunday: h(8, 21),
            holidays: Holidays::Closed(&[]),
        },
    ),
    (
        "RI",
        Hours {
            source: "R.I. Gen. Laws 5-61-3.6",
            weekday: h(9, 18),
            saturday: h(10, 17),
            sunday: None,
            holidays: Holidays::Closed(&[StateDay::Nth(8, Weekday::Mon, 2)]),
        },
    ),
    (
        "SD",
        Hours {
            source: "S.D. Codified Laws 37-30A-3",
            weekday: h(9, 21),
            saturday: h(9, 21),
            sunday: None,
            holidays: Holidays::Open,
        },
    ),
    (
        "TX",
        Hours {
            source: "Tex. Bus. & Com. Code 301.051",
            weekday: h(9, 21),
            saturday: h(9, 21),
            sunday: h(12, 21),
            holidays: Holidays::Open,
        },
    ),
    (
        "UT",
        Hours {
            source: "Utah Code 13-25a-103",
            weekday: h(8, 21),
            saturday: h(8, 21),
            sunday: None,
            holidays: Holidays::Closed(&[StateDay::Fixed(7, 24)]),
        },
    ),
    ("WA", daily("Wash. Rev. Code 80.36.390", 8, 20)),
    ("WY", daily("Wyo. Stat. 40-12-302", 8, 20)),
];

/// The hours of a state of the United States, by its two letters.
pub fn of_state(state: &str) -> &'static Hours {
    STATES
        .iter()
        .find(|(code, _)| *code == state)
        .map_or(&FEDERAL, |(_, hours)| hours)
}

impl Hours {
    /// When this day is open; none when it is closed all day.
    pub fn on(&self, day: NaiveDate) -> Option<Window> {
        if let Holidays::Closed(own) = self.holidays
            && (is_federal_holiday(day) || own.iter().any(|kept| kept.is(day)))
        {
            return None;
        }
        match day.weekday() {
            Weekday::Sat => self.saturday,
            Weekday::Sun => self.sunday,
            _ => self.weekday,
        }
    }
}

impl StateDay {
    fn is(self, day: NaiveDate) -> bool {
        match self {
            StateDay::Fixed(month, date) => observed(day, month, date),
            StateDay::Nth(month, weekday, nth) => is_nth(day, month, weekday, nth),
            StateDay::Easter(offset) => {
                easter(day.year()).is_some_and(|sunday| (day - sunday).num_days() == offset)
            }
        }
    }
}

/// The eleven days of 5 U.S.C. 6103, both as they fall and as they are observed.
fn is_federal_holiday(day: NaiveDate) -> bool {
    const FIXED: [(u32, u32); 5] = [(1, 1), (6, 19), (7, 4), (11, 11), (12, 25)];
    const NTH: [(u32, Weekday, u8); 5] = [
        (1, Weekday::Mon, 3),
        (2, Weekday::Mon, 3),
        (9, Weekday::Mon, 1),
        (10, Weekday::Mon, 2),
        (11, Weekday::Thu, 4),
    ];
    // The last Monday of May is the one with less than a week of the month after it.
    let memorial = day.month() == 5 && day.weekday() == Weekday::Mon && day.day() > 24;
    memorial
        || FIXED
            .iter()
            .any(|(month, date)| observed(day, *month, *date))
        || NTH
            .iter()
            .any(|(month, weekday, nth)| is_nth(day, *month, *weekday, *nth))
}

/// The day itself, the Friday before one that falls on a Saturday, the Monday after one that falls on a Sunday.
fn observed(day: NaiveDate, month: u32, date: u32) -> bool {
    let falls = |day: NaiveDate| day.month() == month && day.day() == date;
    falls(day)
        || match day.weekday() {
            Weekday::Fri => day.checked_add_days(Days::new(1)).is_some_and(falls),
            Weekday::Mon => day.checked_sub_days(Days::new(1)).is_some_and(falls),
            _ => false,
        }
}

fn is_nth(day: NaiveDate, month: u32, weekday: Weekday, nth: u8) -> bool {
    NaiveDate::from_weekday_of_month_opt(day.year(), month, weekday, nth) == Some(day)
}

/// Easter Sunday, Gregorian, as Butcher's algorithm has it.
fn easter(year: i32) -> Option<NaiveDate> {
    let (golden, century, of_century) = (year % 19, year / 100, year % 100);
    let leap_centuries = century / 4;
    let moon = (century + 8) / 25;
    let epact = (19 * golden + century - leap_centuries - (century - moon + 1) / 3 + 15) % 30;
    let weekday = (32 + 2 * (century % 4) + 2 * (of_century / 4) - epact - of_century % 4) % 7;
    let late = (golden + 11 * epact + 22 * weekday) / 451;
    let day = epact + weekday - 7 * late + 114;
    NaiveDate::from_ymd_opt(
        year,
        u32::try_from(day / 31).ok()?,
        u32::try_from(day % 31 + 1).ok()?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    #[test]
    fn easter_falls_as_the_calendar_says() {
        for (year, date) in [
            (2024, "2024-03-31"),
            (2025, "2025-04-20"),
            (2026, "2026-04-05"),
            (2027, "2027-03-28"),
        ] {
            assert_eq!(easter(year), Some(day(date)));
        }
    }

    #[test]
    fn a_holiday_closes_the_day_it_falls_on_and_the_day_it_is_observed() {
        let utah = of_state("UT");
        for (date, open) in [
            ("2026-07-03", false), // the fourth is a Saturday
            ("2026-07-04", false),
            ("2026-07-24", false), // Pioneer Day
            ("2026-05-25", false), // the last Monday of May
            ("2026-05-18", true),
            ("2026-11-26", false), // Thanksgiving
            ("2026-11-27", true),
            ("2027-12-31", false), // the first is a Saturday
        ] {
            assert_eq!(utah.on(day(date)).is_some(), open, "{date}");
        }
        assert_eq!(of_state("LA").on(day("2026-02-17")), None, "Mardi Gras");
        assert!(of_state("TX").on(day("2026-12-25")).is_some());
    }

    #[test]
    fn a_state_is_never_open_when_the_federal_hours_are_closed() {
        for (state, hours) in STATES {
            for window in [hours.weekday, hours.saturday, hours.sunday] {
                let Some((from, to)) = window else { continue };
                assert!(8 * 60 <= from && from < to && to <= 21 * 60, "{state}");
            }
        }
    }

    #[test]
    fn texas_sleeps_until_noon_on_sundays() {
        let texas = of_state("TX");
        assert_eq!(texas.on(day("2026-11-22")), Some((720, 1260)));
        assert_eq!(texas.on(day("2026-11-23")), Some((540, 1260)));
    }
}
